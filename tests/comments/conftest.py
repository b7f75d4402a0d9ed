"""A daemon beside a Graph API that knows comments."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import msgspec
import pytest
from inboxd import app
from inboxd.config.schema import Instagram, Settings
from inboxd.config.secrets import Secrets
from inboxd.simulator.graph_server import Behaviour, GraphServer
from inboxd.simulator.serving import serving

from tests.comments.rig import CommentsGraph
from tests.support import ACCOUNT, TOKEN, Client


@pytest.fixture
def comments() -> CommentsGraph:
    found = CommentsGraph()
    found.post()
    return found


@pytest.fixture
async def graph(comments: CommentsGraph) -> AsyncIterator[tuple[GraphServer, str]]:
    server = GraphServer({TOKEN: ACCOUNT})
    server.behaviour = Behaviour(latency_ms=1)
    async with serving(comments.on(server)) as url:
        yield server, url


@pytest.fixture
async def thin(settings: Settings, secrets: Secrets, tmp_path: Path) -> AsyncIterator[Client]:
    """A daemon whose log holds ids only."""
    assert isinstance(settings.instagram, Instagram)
    thinner = msgspec.structs.replace(settings, events=msgspec.structs.replace(settings.events, ids_only=True))
    path = tmp_path / "thin.sqlite3"
    async with (
        app.run_daemon(thinner, secrets, path, on_give_up=pytest.fail) as daemon,
        aiohttp.ClientSession() as session,
    ):
        yield Client(session, daemon.public_url, daemon.admin_url, path)
