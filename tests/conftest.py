"""Fixtures: the real parts, on temporary files and free ports."""

import asyncio
import gc
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import aiohttp
import hypothesis
import pytest
import uvloop
from inboxd import app
from inboxd.config.schema import AccountSettings, Admin, AvatarSettings, BudgetSettings, Instagram, Public, Settings
from inboxd.config.secrets import Secrets
from inboxd.runtime.secret import Secret
from inboxd.simulator.graph_server import Behaviour, GraphServer
from inboxd.simulator.serving import serving
from inboxd.storage.database import Database

from tests.support import ACCOUNT, ADMIN_TOKEN, APP_SECRET, OTHER_APP_SECRET, TOKEN, VERIFY_TOKEN, Client

# The same examples in every run: a defect that only some runs find makes CI red for whoever comes next. To look for
# new ones: pytest --hypothesis-profile=default.
hypothesis.settings.register_profile("same-each-time", derandomize=True, deadline=None, max_examples=300)
hypothesis.settings.load_profile("same-each-time")


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the loop that the daemon runs on."""
    return {"uvloop": uvloop.new_event_loop}


def pytest_xdist_auto_num_workers() -> int:
    """Three for a core: most of a test is waiting, for a disk, a deadline or a process."""
    return 3 * len(os.sched_getaffinity(0))


def pytest_collection_finish() -> None:
    """What was imported and collected stays until the end: it need not be looked at by each garbage collection."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Each worker begins with its share of the long tests, so that at the end none waits for another one.

    pytest-xdist gives each worker an equal part of the list, in its order.
    """
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    size = len(items) // workers
    long = [item for item in items if item.get_closest_marker("long") is not None]
    others = [item for item in items if item.get_closest_marker("long") is None]
    items.clear()
    for worker in range(workers):
        share = long[worker::workers]
        items += share + others[: max(0, size - len(share))]
        del others[: max(0, size - len(share))]
    items += others


@pytest.fixture(scope="session")
def empty_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database file in which nothing is yet. Copying it is much less work than taking a new one through each step."""
    path = tmp_path_factory.mktemp("empty") / "inboxd.sqlite3"

    async def make() -> None:
        async with Database(path):
            pass

    asyncio.run(make())
    return path


@pytest.fixture
def database_path(empty_file: Path, tmp_path: Path) -> Path:
    """Where the database of a test is; empty, and of the newest schema."""
    return Path(shutil.copy(empty_file, tmp_path / "inboxd.sqlite3"))


@pytest.fixture
async def database(database_path: Path) -> AsyncIterator[Database]:
    async with Database(database_path) as opened:
        yield opened


@pytest.fixture
async def graph() -> AsyncIterator[tuple[GraphServer, str]]:
    server = GraphServer({TOKEN: ACCOUNT})
    server.behaviour = Behaviour(latency_ms=1)
    async with serving(server.application()) as url:
        yield server, url


@pytest.fixture
def settings(graph: tuple[GraphServer, str]) -> Settings:
    return Settings(
        public=Public(port=0, request_timeout_s=1.0, max_connections=40),
        admin=Admin(port=0),
        instagram=Instagram(graph_url=graph[1], facebook_graph_url=graph[1]),
        avatars=AvatarSettings(hosts=("127.0.0.1",), allow_http=True, allow_networks=("127.0.0.1/32",)),
        budget=BudgetSettings(calls_per_second=1000),
        accounts=(AccountSettings(id=ACCOUNT, name="shop"),),
    )


@pytest.fixture
def secrets() -> Secrets:
    return Secrets(
        app_secrets=(Secret(OTHER_APP_SECRET), Secret(APP_SECRET)),
        verify_token=Secret(VERIFY_TOKEN),
        admin_token=Secret(ADMIN_TOKEN),
        account_tokens={ACCOUNT: Secret(TOKEN)},
    )


@pytest.fixture
async def client(settings: Settings, secrets: Secrets, database_path: Path) -> AsyncIterator[Client]:
    """A running daemon, and somebody who talks to it."""
    gave_up: list[bool] = []
    async with (
        app.run_daemon(settings, secrets, database_path, on_give_up=lambda: gave_up.append(True)) as daemon,
        aiohttp.ClientSession() as session,
    ):
        yield Client(session, daemon.public_url, daemon.admin_url, database_path)
    assert not gave_up, "a worker crashed again and again"
