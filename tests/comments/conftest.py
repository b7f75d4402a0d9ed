"""A daemon beside a simulated Instagram with a post."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest
from inboxd import app
from inboxd.config.schema import EventSettings, Settings
from inboxd.config.secrets import NamedToken, Secrets
from inboxd.runtime.clock import Clock
from inboxd.runtime.secret import Secret
from inboxd.simulator.graph_server import Behaviour, GraphServer
from inboxd.simulator.serving import serving

from tests.comments.rig import CLERK_TOKEN, Shop
from tests.support import ACCOUNT, TOKEN, Client

Run = Callable[..., AbstractAsyncContextManager[Client]]


@pytest.fixture
def shop() -> Shop:
    server = GraphServer({TOKEN: ACCOUNT})
    server.behaviour = Behaviour(latency_ms=1)
    return Shop(server)


@pytest.fixture
async def graph(shop: Shop) -> AsyncIterator[tuple[GraphServer, str]]:
    async with serving(shop.application()) as url:
        yield shop.server, url


@pytest.fixture
def secrets(secrets: Secrets) -> Secrets:
    """Those of all tests, and a token that may read and write, but not send."""
    return msgspec.structs.replace(secrets, named_tokens=(NamedToken("clerk", ("read", "write"), Secret(CLERK_TOKEN)),))


@pytest.fixture
def run(settings: Settings, secrets: Secrets, tmp_path: Path) -> Run:
    """A daemon on the same file at each call. `changes` replace sections of its settings."""

    @asynccontextmanager
    async def running(
        *, ids_only: bool = False, clock: Clock | None = None, **changes: object
    ) -> AsyncIterator[Client]:
        changed = msgspec.structs.replace(settings, events=EventSettings(ids_only=ids_only), **changes)
        path = tmp_path / "inboxd.sqlite3"
        async with (
            app.run_daemon(changed, secrets, path, on_give_up=pytest.fail, clock=clock) as daemon,
            aiohttp.ClientSession() as session,
        ):
            yield Client(session, daemon.public_url, daemon.admin_url, path)

    return running
