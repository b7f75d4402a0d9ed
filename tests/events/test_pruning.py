"""What is too old, or too much, leaves the event log step by step, and readers are told."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from inboxd.domain.event import NewEvent
from inboxd.events import personal_data_store, pruner
from inboxd.events.log import CursorGoneError, EventLog, EventReader
from inboxd.events.pruner import EventPruner
from inboxd.privacy import retention_worker
from inboxd.privacy.retention_worker import DAY_MS, RetentionWorker
from inboxd.runs.moments_store import MomentStore
from inboxd.storage.database import Database

from tests.support import ACCOUNT, T0, ManualClock


class Rig:
    """A log, and what prunes it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.clock = ManualClock()
        self.log = EventLog(self.clock, ids_only=lambda: False)
        self.reader = EventReader(database, [])
        self.heard_at: int | None = None

    async def tell(self, count: int = 1, size: int = 0) -> None:
        events = [NewEvent("thing.made", ACCOUNT, T0, b'{"text":"%s"}' % (b"x" * size))] * count
        await self.database.write(lambda connection: self.log.append(connection, events))

    def retention(self, days: int) -> RetentionWorker:
        expiries = personal_data_store.expiries(self.database, days=lambda: days)

        async def newest_message_at() -> int | None:
            return self.heard_at

        return RetentionWorker(
            self.database, expiries, MomentStore(self.database), self.clock, newest_message_at=newest_message_at
        )

    async def expire(self, days: int) -> int:
        return (await self.retention(days).expire()).get("events", 0)

    async def trim(self, megabytes: int) -> list[int]:
        """Until nothing is too much: how many events each transaction removed."""
        worker, steps = EventPruner(self.database, max_size_mb=lambda: megabytes), []
        before = await self.count()
        while await worker.poll() < 1:
            after = await self.count()
            steps.append(before - after)
            before = after
        return steps

    async def count(self) -> int:
        ((count,),) = await self.database.read("SELECT count(*) FROM events")
        return int(count)


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    async with Database(tmp_path / "inboxd.sqlite3") as database:
        yield Rig(database)


async def test_events_that_are_too_old_expire_and_their_cursors_are_gone(rig: Rig) -> None:
    await rig.tell(3)
    rig.clock.now += 2 * DAY_MS
    await rig.tell()
    assert await rig.expire(days=1) == 3
    assert await rig.reader.ends() == (3, 4)
    assert [event.seq for event in (await rig.reader.page(3, limit=10)).events] == [4]
    with pytest.raises(CursorGoneError) as gone:
        await rig.reader.page(2, limit=10)
    assert gone.value.oldest == 3
    rig.clock.now += 2 * DAY_MS
    assert await rig.expire(days=1) == 1
    assert await rig.reader.ends() == (4, 4), "an empty log still knows where it ends"
    await rig.tell()
    assert [event.seq for event in (await rig.reader.page(4, limit=10)).events] == [5]


async def test_what_is_not_too_old_stays(rig: Rig) -> None:
    await rig.tell(3)
    rig.clock.now += DAY_MS - 1
    assert await rig.expire(days=1) == 0
    rig.clock.now += 400 * DAY_MS
    assert await rig.expire(days=0) == 0, "0 means for ever"
    assert await rig.reader.ends() == (0, 3)


async def test_no_transaction_removes_many_events(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retention_worker, "STEP", 100)
    await rig.tell(350)
    rig.clock.now += 2 * DAY_MS
    (expiry,) = personal_data_store.expiries(rig.database, days=lambda: 1)
    step = await expiry.remove(rig.clock.now - DAY_MS, 240, 100)  # an old one far behind the beginning
    steps = [step.rows]
    while (step := await expiry.remove(rig.clock.now - DAY_MS, 0, 100)).rows:
        steps.append(step.rows)
    assert steps == [100, 100, 100, 50]


async def test_a_clock_that_was_ahead_for_long_holds_up_nothing(rig: Rig) -> None:
    rig.clock.now += 400 * DAY_MS
    await rig.tell(3 * retention_worker.STEP)
    rig.clock.now -= 400 * DAY_MS
    await rig.tell(2)
    rig.clock.now += 2 * DAY_MS
    await rig.tell()
    worker = rig.retention(days=1)
    removed = 0
    for _ in range(10):  # each round looks a step further
        removed += (await worker.expire()).get("events", 0)
    assert removed == 3 * retention_worker.STEP + 2
    assert await rig.reader.ends() == (removed, removed + 1)


async def test_a_clock_that_jumps_ahead_removes_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = rig.retention(days=1)
    await worker.poll()
    await rig.tell(3)
    now = rig.clock.monotonic()
    monkeypatch.setattr(rig.clock, "monotonic", lambda: now)
    rig.clock.now += 400 * DAY_MS
    rig.heard_at = T0
    await worker.poll()
    assert await rig.count() == 3


async def test_a_log_that_is_too_large_loses_its_oldest_events(rig: Rig) -> None:
    for _ in range(30):
        await rig.tell(size=100_000)
    await rig.trim(megabytes=1)
    pruned_to, last = await rig.reader.ends()
    assert last == 30
    assert 19 <= pruned_to <= 21
    await rig.trim(megabytes=0)
    assert await rig.reader.ends() == (pruned_to, last), "0 means no limit"


async def test_what_is_too_much_is_removed_in_steps(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pruner, "STEP", 100)
    await rig.tell(350, size=10_000)
    steps = await rig.trim(megabytes=1)
    assert max(steps) == 100
    assert await rig.count() == pytest.approx(1_000_000 / (10_000 + 131), abs=2)


async def test_erased_events_leave_the_size_right(rig: Rig) -> None:
    await rig.tell(100, size=10_000)
    await rig.database.execute("DELETE FROM events WHERE seq > 50")
    await rig.tell(10, size=10_000)
    await rig.trim(megabytes=1)
    assert await rig.count() == 60, "what was erased at the end is not counted"
