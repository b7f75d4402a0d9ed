"""The peer: an aiohttp handler that reads the body, stores nothing, and answers 200."""

import asyncio
import sys

import uvloop
from aiohttp import web


async def receive(request: web.Request) -> web.Response:
    """Read and forget."""
    await request.read()
    return web.Response()


async def main(port: int) -> None:
    """Serve until killed."""
    app = web.Application()
    app.router.add_post("/webhooks/instagram", receive)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, backlog=1024).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1])))
