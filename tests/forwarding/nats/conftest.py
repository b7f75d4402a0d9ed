"""A nats-server, and a publisher on a database."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from inboxd.storage.database import Database

from tests.forwarding.nats.publishing import Publishing
from tests.forwarding.nats.servers import NatsServer, missing


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[NatsServer]:
    """A nats-server with JetStream that everybody may use."""
    why = missing()
    if why is not None:
        pytest.skip(why)
    folder = tmp_path / "nats"
    folder.mkdir()
    running = NatsServer(folder)
    await running.start()
    yield running
    running.end()


@pytest.fixture
async def publishing(database: Database, server: NatsServer) -> AsyncIterator[Publishing]:
    """A publisher to that server. It begins to work with `start`."""
    made = Publishing(database, server.url)
    yield made
    await made.stop()
