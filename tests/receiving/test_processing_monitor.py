"""Work that arrives and is not done is noticed; what rests on purpose, or a disk that refuses, is no stall."""

import sqlite3
from functools import partial
from typing import Any

import pytest
from inboxd.receiving.metrics import ReceivingMetrics
from inboxd.receiving.processing_monitor import STALLED_AFTER_S, ProcessingMonitor, Stall
from inboxd.receiving.store import Inbox, mark_done, mark_postponed
from inboxd.runtime.errors import StorageUnavailableError
from inboxd.runtime.notify import Notifier
from inboxd.runtime.watchdog import Watchdog
from inboxd.storage.connection import fetch
from inboxd.storage.database import Database
from prometheus_client import CollectorRegistry

from tests.support import T0, ManualClock

A_MINUTE_MS = int(STALLED_AFTER_S * 1000)


class Rig:
    def __init__(self, database: Database) -> None:
        self.clock = ManualClock()
        self.database = database
        self.inbox = Inbox(database, self.clock, max_waiting=100)
        self.registry = CollectorRegistry()
        self.monitor = ProcessingMonitor(database, self.clock, ReceivingMetrics(self.registry))

    async def stall_after(self, ms: int) -> Stall | None:
        self.clock.now += ms
        await self.monitor.look()
        gauge = self.registry.get_sample_value("inboxd_processing_stalled")
        assert gauge == (self.monitor.stall is not None)
        return self.monitor.stall

    async def write(self, function: Any, *arguments: Any, **named: Any) -> None:
        await self.database.write(lambda connection: function(connection, *arguments, **named))


@pytest.fixture
def rig(database: Database) -> Rig:
    return Rig(database)


async def test_the_same_oldest_delivery_for_a_minute_is_a_stall(rig: Rig) -> None:
    first = await rig.inbox.append(b"one")
    await rig.inbox.append(b"two")
    assert await rig.stall_after(0) is None
    assert await rig.stall_after(A_MINUTE_MS - 1) is None

    assert await rig.stall_after(1) == Stall(first, T0)

    await rig.write(mark_done, [first], T0)
    assert await rig.stall_after(1) is None, "the next one is the oldest only now"
    assert await rig.stall_after(A_MINUTE_MS) is not None


async def test_a_long_backlog_that_is_being_worked_off_is_none(rig: Rig) -> None:
    numbers = [await rig.inbox.append(b"x") for _ in range(10)]
    for number in numbers:
        assert await rig.stall_after(A_MINUTE_MS - 1) is None
        await rig.write(mark_done, [number], T0)
        assert await rig.stall_after(0) is None


async def test_nothing_to_do_and_what_is_postponed_is_none(rig: Rig) -> None:
    assert await rig.stall_after(10 * A_MINUTE_MS) is None
    number = await rig.inbox.append(b"x")
    later = rig.clock.now + 100 * A_MINUTE_MS
    await rig.write(mark_postponed, number, attempts=1, next_attempt_at=later, error="")

    assert await rig.stall_after(A_MINUTE_MS) is None
    assert await rig.stall_after(A_MINUTE_MS) is None


async def test_a_disk_that_refuses_is_none(rig: Rig) -> None:
    await rig.inbox.append(b"x" * 10_000)
    ((pages,),) = await rig.database.read("PRAGMA page_count")

    def fill(connection: sqlite3.Connection) -> None:
        fetch(connection, f"PRAGMA max_page_count = {pages}")
        connection.execute("INSERT INTO deliveries (received_at, body) VALUES (1, randomblob(1000000))")

    for _ in range(3):
        with pytest.raises(Exception, match="full"):
            await rig.database.write(fill)
        rig.database.path.rename(rig.database.path.with_suffix(".aside"))  # the look itself is refused
        assert await rig.stall_after(A_MINUTE_MS) is None
        rig.database.path.with_suffix(".aside").rename(rig.database.path)


@pytest.mark.parametrize(("stalled", "signs"), [(False, 3), (True, 0)])
async def test_a_stall_is_no_sign_of_life(database: Database, stalled: bool, signs: int) -> None:  # noqa: FBT001 - a table
    sent: list[dict[str, str]] = []

    class Recorder(Notifier):
        def send(self, **state: str) -> None:
            sent.append(state)

    probe = partial(database.write, lambda _connection: None)
    watchdog = Watchdog(Recorder({}), probe, lambda: "", stalled=lambda: stalled)
    for _ in range(3):
        await watchdog.poll()

    assert len(sent) == signs


async def test_a_disk_that_refuses_while_something_waits_is_none(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await rig.inbox.append(b"x")
    assert await rig.stall_after(0) is None
    with monkeypatch.context() as full:
        full.setattr(rig.database, "write", _refuse)
        assert await rig.stall_after(A_MINUTE_MS) is None
        assert await rig.stall_after(A_MINUTE_MS) is None
    assert await rig.stall_after(0) is None, "since it takes writes again, a minute has not passed"
    assert await rig.stall_after(A_MINUTE_MS) == Stall(first, rig.clock.now - A_MINUTE_MS)


async def _refuse(_transaction: object) -> None:
    msg = "the disk is full"
    raise StorageUnavailableError(msg)
