import asyncio
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from inboxd.conversations import message_store
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.message import Content, Direction, Sent
from inboxd.privacy.deletion_store import DeletionStore
from inboxd.privacy.retention_worker import DAY_MS
from inboxd.receiving.store import Inbox, mark_done, mark_failed
from inboxd.runtime import logs
from inboxd.runtime.errors import StorageClosedError
from inboxd.runtime.worker import Schedule, work
from inboxd.storage.database import Database
from inboxd.storage.personal_data import ExpiredRows
from inboxd.storage.probe import StorageProbe

from tests.privacy.declared import Keep, declared, retention_worker
from tests.support import ACCOUNT, ANA, ManualClock

YEAR_MS = 365 * DAY_MS


async def test_understood_deliveries_go_after_their_time(database: Database) -> None:
    clock = ManualClock()
    inbox = Inbox(database, clock, max_waiting=1000)
    for _ in range(450):
        await inbox.append(b"{}")
    await database.write(lambda connection: mark_done(connection, list(range(1, 450)), clock.now))
    housekeeping = retention_worker(database, clock, Keep(14, 180, 365, 0, 30))

    assert await housekeeping.expire() == {}
    clock.now += 14 * DAY_MS + 1
    assert await housekeeping.expire() == {"deliveries": 449}
    assert [delivery.id for delivery in await inbox.pending(10)] == [450]


async def test_removing_what_is_old_lets_senders_pass(database: Database) -> None:
    clock = ManualClock()
    inbox = Inbox(database, clock, max_waiting=1000)
    for _ in range(450):
        await inbox.append(b"{}")
    await database.write(lambda connection: mark_done(connection, list(range(1, 451)), clock.now))
    clock.now += 15 * DAY_MS
    left: list[int] = []
    senders = iter([True] * 5)

    def busy() -> bool:
        waits = next(senders, False)
        if waits:
            left.append(database.changes)
        return waits

    housekeeping = retention_worker(database, clock, Keep(14, 180, 365, 0, 30), busy=busy)
    assert await housekeeping.expire() == {"deliveries": 450}
    assert len(left) == 5, "it waited for as long as somebody else did"
    assert len(set(left)) == 1, "and removed nothing meanwhile"


async def test_a_database_that_is_gone_is_no_passing_trouble(tmp_path: Path) -> None:
    clock = ManualClock()
    async with Database(tmp_path / "d") as database:
        pass
    with pytest.raises(StorageClosedError):
        await work(retention_worker(database, clock, Keep(1, 1, 1, 1, 1)), clock, logs.get("workers"), Schedule())
    database.refusal = "the writer crashed"
    with pytest.raises(StorageClosedError):
        await work(StorageProbe(database), clock, logs.get("workers"), Schedule())


class Machine(ManualClock):
    """A machine whose wall clock is not the time that passes."""

    ahead_ms = 0

    def now_ms(self) -> int:
        return self.now + self.ahead_ms


async def rounds(database: Database, clock: ManualClock, *, number: int = 1) -> None:
    """One process that does housekeeping for so many minutes."""
    housekeeping = retention_worker(database, clock, Keep(14, 180, 365, 365, 30))
    minutes = 0

    async def wait(event: asyncio.Event, timeout_s: float | None) -> bool:
        nonlocal minutes
        clock.now += int((timeout_s or 0) * 1000)
        minutes += 1
        if minutes > number:
            housekeeping.wakeup.stop()
        await asyncio.sleep(0)
        return event.is_set()

    clock.wait = wait  # type: ignore[method-assign]
    await work(housekeeping, clock, logs.get("workers"), Schedule())


async def set_aside(database: Database, clock: ManualClock) -> None:
    number = await Inbox(database, clock, max_waiting=10).append(b"nobody understands this")
    await database.write(lambda connection: mark_failed(connection, number, attempts=3, now=clock.now, error="odd"))


async def message(database: Database, at: int, mid: str) -> None:
    key, content = ConversationKey(ACCOUNT, ANA), Content(type="text", text="hola")
    change = Sent(key=key, mid=mid, at=at, sender_id=ANA, direction=Direction.INBOUND, content=content)
    await database.write(lambda connection: message_store.apply_changes(connection, {key}, [(1, change)], at))


async def kept(database: Database) -> int:
    return int((await database.read("SELECT count(*) FROM deliveries WHERE state = 'failed'"))[0][0])


async def test_a_clock_that_jumps_a_year_ahead_removes_nothing(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    clock = Machine()
    await set_aside(database, clock)
    await rounds(database, clock)
    clock.ahead_ms = YEAR_MS
    for _ in range(3):  # over restarts too
        await rounds(database, clock, number=5)
        assert await kept(database) == 1
    assert capsys.readouterr().out.count("clock_doubted") == 3
    clock.ahead_ms = 0
    await rounds(database, clock)
    assert await kept(database) == 1
    clock.now += 181 * DAY_MS  # this time it is true…
    await rounds(database, clock)
    assert await kept(database) == 1
    await message(database, clock.now, "m1")  # …as Meta says too
    await rounds(database, clock)
    assert await kept(database) == 0


async def test_a_clock_that_was_wrong_while_the_daemon_runs_harms_nothing(database: Database) -> None:
    clock = Machine()
    await set_aside(database, clock)
    housekeeping = retention_worker(database, clock, Keep(14, 180, 365, 365, 30))
    assert await housekeeping.clock_is_trusted()
    clock.ahead_ms = YEAR_MS
    clock.now += 60_000
    await message(database, clock.now, "m1")
    assert not await housekeeping.clock_is_trusted()
    clock.now += 3 * DAY_MS
    await message(database, clock.now, "m2")
    assert not await housekeeping.clock_is_trusted(), "messages say that it is last year still"
    clock.ahead_ms = 0
    assert await housekeeping.clock_is_trusted()


async def test_one_row_that_cannot_be_removed_keeps_no_other(database: Database) -> None:
    clock = ManualClock()
    inbox = Inbox(database, clock, max_waiting=1000)
    for _ in range(450):
        await inbox.append(b"{}")
    for mid in ("m1", "m2"):
        await message(database, clock.now, mid)

    def prepare(connection: sqlite3.Connection) -> None:
        mark_done(connection, list(range(1, 451)), clock.now)
        for table in ("deliveries", "messages"):
            connection.execute(
                f"CREATE TRIGGER stuck_{table} BEFORE DELETE ON {table} WHEN old.id = 1"
                " BEGIN SELECT RAISE(ABORT, 'this one stays'); END"
            )

    await database.write(prepare)
    clock.now += 400 * DAY_MS
    removed = await retention_worker(database, clock, Keep(14, 180, 365, 365, 30)).expire()
    assert removed == {"deliveries": 449, "messages": 1}


async def test_trouble_with_one_kind_of_things_keeps_no_other(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = ManualClock()
    await set_aside(database, clock)
    await DeletionStore(database, declared(database)).request("code", None, clock.now)
    housekeeping = retention_worker(database, clock, Keep(14, 180, 365, 365, 30))

    async def fails(*_: object) -> ExpiredRows:
        msg = "a defect"
        raise RuntimeError(msg)

    broken = [replace(one, remove=fails) if one.name == "webhook_events" else one for one in housekeeping._expiries]
    monkeypatch.setattr(housekeeping, "_expiries", broken)
    clock.now += 731 * DAY_MS
    assert await housekeeping.expire() == {"failed_deliveries": 1, "deletion_receipts": 1}
