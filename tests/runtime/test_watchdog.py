"""Signs of life as the service manager gets them: real datagrams on a real socket."""

import asyncio
import socket
import sqlite3
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from inboxd import app
from inboxd.config.schema import Settings
from inboxd.config.secrets import Secrets
from inboxd.conversations.ingest import Ingest
from inboxd.maintenance.feature import Process
from inboxd.receiving import processing_monitor
from inboxd.runtime import logs
from inboxd.runtime import watchdog as module
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import StorageBusyError, StorageClosedError, StorageError, StorageUnavailableError
from inboxd.runtime.notify import Notifier
from inboxd.runtime.watchdog import Watchdog
from inboxd.runtime.worker import Schedule, work
from inboxd.simulator.payloads import Conversationalist
from inboxd.storage.database import Database

from tests.support import ACCOUNT, ANA, T0, Client, TravelClock, eventually

WATCHDOG_S = 0.06


def probe_of(database: Database) -> Callable[[], Awaitable[None]]:
    """What the daemon asks the writer for."""
    return lambda: database.write(lambda _connection: None)


def run(watchdog: Watchdog, clock: Clock) -> Coroutine[Any, Any, None]:
    """The watchdog as the supervisor runs it, until it crashes."""
    return work(watchdog, clock, logs.get("watchdog"), Schedule())


class Manager:
    """systemd's end of the socket."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)
        self.path = str(path)
        self.notifier = Notifier({"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": f"{WATCHDOG_S * 1e6:.0f}"})

    def signs(self) -> int:
        """Signs of life since the last look."""
        count = 0
        while True:
            try:
                count += b"WATCHDOG=1" in self._socket.recv(4096)
            except BlockingIOError:
                return count

    async def sign(self) -> None:
        async def came() -> bool:
            return self.signs() > 0

        await eventually(came)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    found = Manager(tmp_path / "notify")
    yield found
    found.close()


class Rounds(Clock):
    """Counts the rounds of whoever waits with it."""

    def __init__(self) -> None:
        self.count = 0
        self.longest_s = 0.0

    async def wait(self, event: asyncio.Event, timeout_s: float | None) -> bool:
        self.count += 1
        self.longest_s = max(self.longest_s, timeout_s or float("inf"))
        return await super().wait(event, timeout_s)

    async def more(self, number: int) -> None:
        end = self.count + number

        async def over() -> bool:
            return self.count >= end

        await eventually(over)


async def test_a_writer_that_hangs_gives_no_sign_until_it_goes_on(
    database: Database, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)
    clock, go_on, hangs = Rounds(), threading.Event(), threading.Event()

    def hang(_connection: sqlite3.Connection) -> None:
        hangs.set()
        go_on.wait(30)

    watchdog = Watchdog(manager.notifier, probe_of(database), lambda: "as ever")
    running = asyncio.ensure_future(run(watchdog, clock))
    try:
        await manager.sign()
        assert clock.longest_s <= WATCHDOG_S / 2, "systemd's advice: twice as often as it wants to hear"
        hanging = database.submit(hang)
        await asyncio.to_thread(hangs.wait, 10)
        await clock.more(1)  # the round under way may have been told before
        manager.signs()
        await clock.more(3)
        assert manager.signs() == 0
    finally:
        go_on.set()
    await hanging
    await manager.sign()
    watchdog.wakeup.stop()
    await running


async def test_a_writer_that_died_gives_no_sign_ever_again(
    database: Database, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(*_arguments: object) -> None:
        msg = "on purpose"
        raise RuntimeError(msg)

    running = asyncio.ensure_future(run(Watchdog(manager.notifier, probe_of(database), lambda: "as ever"), Clock()))
    await manager.sign()
    monkeypatch.setattr(database, "_drain", crash)
    with pytest.raises(StorageClosedError):
        await asyncio.wait_for(running, 10)
    manager.signs()
    with pytest.raises(StorageClosedError):  # nor when the supervisor starts it again
        await asyncio.wait_for(run(Watchdog(manager.notifier, probe_of(database), lambda: "as ever"), Clock()), 10)
    assert manager.signs() == 0


async def test_a_daemon_that_stores_and_does_not_process_gives_no_sign(
    settings: Settings,
    secrets: Secrets,
    tmp_path: Path,
    manager: Manager,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def hang(_self: Ingest) -> int:
        await asyncio.sleep(60)
        return 0

    monkeypatch.setattr(Ingest, "process", hang)
    monkeypatch.setattr(processing_monitor, "ROUND_S", 0.02)
    monkeypatch.setattr(processing_monitor, "STALLED_AFTER_S", 0.1)
    beat = asyncio.Event()
    path = tmp_path / "inboxd.sqlite3"
    async with (
        app.run_daemon(
            settings, secrets, path, on_give_up=pytest.fail, process=Process(manager.notifier, beat.set)
        ) as daemon,
        aiohttp.ClientSession() as session,
    ):
        await manager.sign()
        client = Client(session, daemon.public_url, daemon.admin_url, path)
        await client.deliver(Conversationalist(ACCOUNT, ANA, T0).says("hola"))

        async def stalled() -> bool:
            async with session.get(f"{daemon.admin_url}/readyz") as response:
                return response.status == 503

        await eventually(stalled)
        signs = []
        for _ in range(2):  # the first time what was told before; then half a second, of many rounds of the watchdog
            beat.clear()
            await beat.wait()
            signs.append(manager.signs())
        assert signs[1] == 0


@pytest.mark.parametrize(
    ("refusal", "alive"),
    [(None, True), (StorageUnavailableError("the disk is full"), True), (StorageBusyError("nobody takes any"), False)],
)
async def test_a_disk_that_refuses_is_life_and_a_queue_that_is_full_is_none(
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    refusal: StorageError | None,
    alive: bool,  # noqa: FBT001
) -> None:
    async def refused(_job: object) -> None:
        if refusal is not None:
            raise refusal

    if refusal is not None:
        monkeypatch.setattr(database, "write", refused)
    watchdog = Watchdog(Notifier({}), probe_of(database), lambda: "")
    assert await watchdog._writer_lives() is alive


async def test_a_sign_of_life_comes_well_before_it_is_missed(database: Database, manager: Manager) -> None:
    clock = TravelClock()
    clock.database = database
    wanted = Notifier({"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "6000000"})
    watchdog = Watchdog(wanted, probe_of(database), lambda: "fine")
    task = asyncio.ensure_future(work(watchdog, clock, logs.get("workers"), Schedule()))
    for _ in range(5):
        await clock.travel(3)
        assert manager.signs() > 0, "systemd kills whoever is silent for 6 seconds"
    watchdog.wakeup.stop()
    await task
