from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web
from inboxd.simulator.graph_server import GraphServer, Token
from inboxd.simulator.serving import serving

from tests.simulator.rig import OTHER, PAGE, PAGE_TOKEN, Rig
from tests.support import ACCOUNT, T0, TOKEN


@pytest.fixture
async def rig() -> AsyncIterator[Rig]:
    now = [T0 / 1000 + 3600]
    tokens = {TOKEN: Token(ACCOUNT), PAGE_TOKEN: Token(ACCOUNT, page_id=PAGE), "other": Token(OTHER)}
    server = GraphServer(tokens, now=lambda: now[0])

    async def receive(request: web.Request) -> web.Response:
        found.received.append(await request.json())
        return web.Response()

    app = server.application()
    app.router.add_post("/received", receive)
    async with serving(app) as url, aiohttp.ClientSession() as session:
        found = Rig(server, url, session, now)
        found.behave()
        yield found
