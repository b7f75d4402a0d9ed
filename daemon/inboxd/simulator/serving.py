"""Serving the simulator over HTTP."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from inboxd.simulator.graph import GraphServer


@asynccontextmanager
async def serving(graph: GraphServer, *, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[str]:
    """The Graph API on `port` (0: any free one); yields its URL."""
    runner = web.AppRunner(graph.application(), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        address = runner.addresses[0]
        yield f"http://{address[0]}:{address[1]}"
    finally:
        await runner.cleanup()
