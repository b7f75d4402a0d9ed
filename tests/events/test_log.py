"""The event log: readers are told of every commit, and pages have no gaps."""

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from inboxd.domain.event import EventType, NewEvent, matching
from inboxd.events import store
from inboxd.events.log import CursorGoneError, EventLog, EventReader
from inboxd.events.store import EventFilter
from inboxd.http.resource import Resource
from inboxd.runtime.worker import Wakeup
from inboxd.storage.database import Database

from tests.support import ACCOUNT, ANA, T0, ManualClock, eventually

OTHER = "17841400000000002"


class Thing(Resource, frozen=True):
    """Data of an event."""

    number: int


def thing(name: str) -> EventType:
    return EventType(name=name, summary="Something happened.", data=Thing, example=Thing(number=1))


class Rig:
    """A log, and somebody who reads it."""

    def __init__(self, path: Path) -> None:
        self.clock = ManualClock()
        self.log = EventLog(self.clock, ids_only=lambda: False)
        self.database = Database(path, on_commit=lambda _jobs, _took: self.log.committed(self.database.changes))
        self.types = [thing("thing.made"), thing("thing.lost"), thing("other.made")]
        self.reader = EventReader(self.database, self.types)

    async def tell(self, *numbers: int, kind: str = "thing.made", account: str = ACCOUNT, **about: object) -> None:
        events = [NewEvent(kind, account, T0, b'{"number":%d}' % number, **about) for number in numbers]  # type: ignore[arg-type]
        await self.database.write(lambda connection: self.log.append(connection, events))

    async def numbers(self, after: int = 0, limit: int = 100, only: EventFilter = EventFilter()) -> list[int]:  # noqa: B008 - frozen
        page = await self.reader.page(after, limit=limit, only=only)
        return [msgspec.json.decode(event.body)["data"]["number"] for event in page.events]


@pytest.fixture
async def rig(tmp_path: Path) -> AsyncIterator[Rig]:
    rig = Rig(tmp_path / "inboxd.sqlite3")
    async with rig.database:
        yield rig


async def test_readers_are_told_of_a_commit_that_the_writer_was_ahead_of(rig: Rig) -> None:
    """The writer appends the second event before the event loop hears of the commit of the first."""
    steps = [threading.Event() for _ in range(4)]
    first_runs, second_queued, second_appended, go_on = steps
    event = NewEvent("thing.made", ACCOUNT, T0, b'{"number":1}')

    def first(connection: sqlite3.Connection) -> None:
        rig.log.append(connection, [event])
        first_runs.set()
        second_queued.wait(20)

    def second(connection: sqlite3.Connection) -> None:
        rig.log.append(connection, [event])
        second_appended.set()
        go_on.wait(20)

    wakeup = Wakeup()
    with rig.log.notifying(wakeup):
        one = rig.database.submit(first)
        await asyncio.to_thread(first_runs.wait, 20)
        two = rig.database.submit(second)
        second_queued.set()
        second_appended.wait(20)  # the event loop stands still meanwhile
        await one
        notified = wakeup.next
        assert await rig.numbers() == [1], "the second cannot be read yet"
        assert not notified.is_set()
        go_on.set()
        await two
        assert notified.is_set()
        assert await rig.numbers() == [1, 1]


async def test_nobody_is_told_of_commits_without_events(rig: Rig) -> None:
    told: list[int] = []
    rig.log.on_append.append(lambda: told.append(1))
    await rig.tell()
    await rig.database.write(lambda _connection: None)
    await rig.database.execute("CREATE TABLE one (two)")
    assert told == []
    await rig.tell(1)
    assert told == [1]
    await rig.database.execute("INSERT INTO one VALUES (1)")
    assert told == [1]


async def test_what_a_refused_transaction_appended_is_not_there(rig: Rig) -> None:
    def transaction(connection: sqlite3.Connection) -> None:
        rig.log.append(connection, [NewEvent("thing.made", ACCOUNT, T0, b"{}")])
        msg = "refused"
        raise ValueError(msg)

    with pytest.raises(ValueError, match="refused"):
        await rig.database.write(transaction)
    await rig.tell(7)
    assert await rig.numbers() == [7]


async def test_events_are_read_by_what_they_are_about(rig: Rig) -> None:
    await rig.tell(1, conversation_id=5, participant_id=ANA)
    await rig.tell(2, kind="thing.lost", account=OTHER)
    await rig.tell(3, kind="other.made", subject="bf_1")
    assert await rig.numbers() == [1, 2, 3]
    assert await rig.numbers(only=EventFilter(types=rig.reader.names(["thing.*"]))) == [1, 2]
    assert await rig.numbers(only=EventFilter(types=[])) == []
    assert await rig.numbers(only=EventFilter(account_ids=[OTHER])) == [2]
    assert await rig.numbers(only=EventFilter(conversation_id=5)) == [1]
    assert await rig.numbers(only=EventFilter(subject="bf_1")) == [3]
    assert await rig.numbers(only=EventFilter(subject="bf_1", conversation_id=5)) == []


async def test_pages_follow_each_other_without_gaps(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever ends a page: the limit, its size, or how many events one read looks at."""
    await rig.tell(*range(40))
    monkeypatch.setattr(store, "SCAN", 7)
    monkeypatch.setattr(store, "PAGE_BYTES", 60)
    for limit in (1, 3, 100):
        found: list[int] = []
        cursor, more = 0, True
        while more:
            page = await rig.reader.page(cursor, limit=limit)
            found += [msgspec.json.decode(event.body)["data"]["number"] for event in page.events]
            assert page.next_cursor > cursor
            cursor, more = page.next_cursor, page.more
        assert found == list(range(40))
        assert cursor == 40


async def test_what_is_pruned_while_a_page_is_read_is_there_or_told(rig: Rig) -> None:
    """A page that is read between two statements of the reader has no hole that nobody hears of."""
    await rig.tell(*range(10))
    with closing(sqlite3.connect(rig.database.path, isolation_level=None)) as reader:
        with closing(sqlite3.connect(rig.database.path, isolation_level=None)) as writer:

            def prune(statement: str) -> None:
                if "min(seq)" not in statement:  # where the log begins has been read then
                    return
                reader.set_trace_callback(None)
                assert store.expire(writer, before=rig.clock.now_ms() + 1, after=0, step=6).rows == 6

            reader.set_trace_callback(prune)
            ends, found = store.page(reader, 2, 100, EventFilter())
        assert [event.seq for event in found.events] == list(range(3, 11))
        assert ends.pruned_to == 0
        assert store.page(reader, 2, 100, EventFilter())[0].pruned_to == 6


async def test_an_event_that_cannot_be_shown_holds_up_no_other(rig: Rig) -> None:
    def fail(_event: object) -> Thing:
        raise ValueError

    await rig.tell(1)
    await rig.tell(2, kind="broken.made")
    await rig.tell(3, kind="of.another_release")
    rig.types.append(EventType(name="broken.made", summary="Broken.", data=Thing, example=Thing(number=1), render=fail))
    page = await rig.reader.page(0, limit=10)
    shown = [msgspec.json.decode(event.body) for event in page.events]
    assert [(one["type"], one["data"]) for one in shown] == [
        ("thing.made", {"number": 1}),
        ("broken.made", {}),
        ("of.another_release", {}),
    ]


async def test_ids_are_stable_unique_and_ordered(rig: Rig) -> None:
    for number in range(20):
        rig.clock.now += 1
        await rig.tell(number)
    ids = [event.id for event in (await rig.reader.page(0, limit=100)).events]
    assert ids == sorted(set(ids))
    assert all(one.startswith("evt_") for one in ids)
    assert ids == [event.id for event in (await rig.reader.page(0, limit=100)).events]


async def test_a_large_gap_between_numbers_is_crossed_in_one_step(rig: Rig) -> None:
    """A restore leaves one: readers must not walk through it."""
    await rig.tell(1)
    await rig.database.execute("UPDATE sqlite_sequence SET seq = 1000000000 WHERE name = 'events'")
    await rig.tell(2)
    page = await rig.reader.page(1, limit=10)
    assert ([event.seq for event in page.events], page.more) == ([1_000_000_001], False)


async def test_erased_events_leave_gaps_that_readers_pass(rig: Rig) -> None:
    await rig.tell(*range(6))
    await rig.database.execute("DELETE FROM events WHERE seq IN (1, 3, 6)")
    assert await rig.numbers() == [1, 3, 4]
    page = await rig.reader.page(5, limit=10)
    assert (page.events, page.next_cursor, page.more) == ([], 6, False)
    await rig.tell(6)
    assert await rig.numbers(page.next_cursor) == [6], "the number of an erased event is not given again"


async def test_the_oldest_event_is_found_although_the_log_is_pruned_meanwhile(rig: Rig) -> None:
    """Whoever asks without a cursor is never told that it is gone."""
    await rig.tell(*range(5))
    oldest = await rig.reader.cursor(None)
    await rig.database.write(lambda connection: store.expire(connection, before=2**60, after=0, step=3))
    page = await rig.reader.page(oldest, limit=100)
    assert [event.seq for event in page.events] == [4, 5]


async def test_a_cursor_of_another_database_is_told_so(rig: Rig) -> None:
    await rig.tell(1)
    with pytest.raises(CursorGoneError, match="another database") as gone:
        await rig.numbers(2)
    assert gone.value.oldest == 0


async def test_whoever_waits_is_stopped_with_the_log(rig: Rig) -> None:
    wakeup = Wakeup()
    with rig.log.notifying(wakeup):
        rig.log.close()

        async def stopped() -> bool:
            return wakeup.stopping

        await eventually(stopped)


def test_patterns_name_types() -> None:
    names = ["message.read", "message.sent", "messages.sent", "run.completed"]
    assert matching(["message.*"], names) == ["message.read", "message.sent"]
    assert matching(["*"], names) == names
    assert matching(["run.completed", "message.*"], names) == ["message.read", "message.sent", "run.completed"]
    assert matching(["run", "message.", "", "*.sent"], names) == []
