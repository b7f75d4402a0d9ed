"""What is old goes, in steps; what it meant for its conversation stays true; the file shrinks."""

import sqlite3
from collections.abc import Awaitable, Callable, Sequence

import pytest
from inboxd.conversations import message_store
from inboxd.conversations.search_store import SearchIndexStore, phrase
from inboxd.conversations.store import ConversationFilter, ConversationStore
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.message import Content, Direction, Sent
from inboxd.domain.run import RunStatus
from inboxd.privacy.retention_worker import DAY_MS
from inboxd.receiving.store import Inbox, mark_done, mark_failed
from inboxd.receiving.webhook_event_store import StoredWebhookEvent, keep
from inboxd.runs.backfill.service import BackfillService
from inboxd.runs.backfill.store import BackfillStore
from inboxd.storage import free_space
from inboxd.storage.connection import Row
from inboxd.storage.database import Database

from tests.privacy.declared import Keep, Lifetimes, Retention, retention_worker
from tests.support import ACCOUNT, ANA, T0, ManualClock, event_log

KEY = ConversationKey(ACCOUNT, ANA)


async def write(database: Database, mid: str, at: int, *, text: str = "hola") -> None:
    content = Content(type="text", text=text)
    change = Sent(key=KEY, mid=mid, at=at, sender_id=ANA, direction=Direction.INBOUND, content=content)
    await database.write(lambda connection: message_store.apply_changes(connection, {KEY}, [(1, change)], at))


async def test_messages_go_by_their_age_and_the_conversation_stays(database: Database) -> None:
    for number in range(5):
        await write(database, f"m{number}", T0 + number * DAY_MS)
    retention = Retention(database, T0)
    assert (await retention.messages(T0 + 3 * DAY_MS, 0, 2)).rows == 2
    assert (await retention.messages(T0 + 3 * DAY_MS, 0, 2)).rows == 1
    assert (await retention.messages(T0 + 3 * DAY_MS, 0, 2)).rows == 0
    (conversation,), _ = await ConversationStore(database.read).page(ConversationFilter(), limit=10, offset=0)
    assert conversation.unread_count == 2
    assert (await retention.messages(T0 + 30 * DAY_MS, 0, 10)).rows == 2
    (conversation,), _ = await ConversationStore(database.read).page(ConversationFilter(), limit=10, offset=0)
    assert conversation.unread_count == 0
    assert conversation.last_message_at == T0 + 4 * DAY_MS


async def test_a_message_that_gets_the_id_of_a_removed_one_is_found(database: Database) -> None:
    index = SearchIndexStore(database)
    store = ConversationStore(database.read)
    await write(database, "m1", T0, text="one")
    while await index.advance(10):
        pass
    await Retention(database, T0).messages(T0 + DAY_MS, 0, 10)
    await write(database, "m2", T0 + DAY_MS, text="two")
    while await index.advance(10):
        pass
    found = await store.search(phrase("two"), account_id=None, before_id=None, limit=10)
    assert [stored.message.mid for stored, _ in found] == ["m2"]
    assert await store.search(phrase("one"), account_id=None, before_id=None, limit=10) == []


async def test_only_what_is_old_and_has_come_to_this_state_goes(database: Database) -> None:
    clock = ManualClock(T0)
    inbox, retention = Inbox(database, clock, max_waiting=10), Retention(database, T0)
    for _ in range(4):
        await inbox.append(b"{}")
    clock.now += 1000
    await inbox.append(b"{}")
    await database.write(lambda connection: mark_done(connection, [1, 2, 5], clock.now))
    await database.write(lambda connection: mark_failed(connection, 3, attempts=1, now=clock.now, error=""))

    assert await retention.deliveries("done", clock.now, 0, 1) == (1, 1)
    assert await retention.deliveries("done", clock.now, 0, 100) == (1, 5)
    assert await retention.deliveries("done", clock.now, 5, 100) == (0, None)
    assert [delivery.id for delivery in (await inbox.page(state=None, limit=10, offset=0))[0]] == [5, 4, 3]


Meanwhile = Callable[[], Awaitable[object]]


def between_look_and_removal(database: Database, monkeypatch: pytest.MonkeyPatch, meanwhile: Meanwhile) -> None:
    """Something happens once a step has looked at rows, and before it removes them."""
    read = database.read

    async def read_and_wait(sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        rows = await read(sql, parameters)
        await meanwhile()
        return rows

    monkeypatch.setattr(database, "read", read_and_wait)


async def test_what_is_put_back_into_the_queue_meanwhile_stays(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    inbox = Inbox(database, ManualClock(T0), max_waiting=10)
    number = await inbox.append(b"{}")
    await database.write(lambda connection: mark_failed(connection, number, attempts=1, now=T0, error=""))
    between_look_and_removal(database, monkeypatch, lambda: inbox.retry(number))
    await Retention(database, T0).deliveries("failed", T0 + 1, 0, 10)
    assert [one.id for one in await inbox.pending(10)] == [number]


@pytest.mark.parametrize("table", ["deliveries", "webhook_events", "messages"])
async def test_what_has_got_the_id_of_something_old_meanwhile_stays(
    database: Database, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    clock = ManualClock(T0)
    inbox, retention = Inbox(database, clock, max_waiting=10), Retention(database, T0)

    async def add(at: int) -> None:
        clock.now = at
        event = StoredWebhookEvent("unknown", ACCOUNT, ANA, at, None, str(at).encode(), 1)
        await inbox.append(b"{}")
        await database.write(lambda connection: mark_done(connection, [1], at))
        await database.write(lambda connection: keep(connection, [event], at))
        await write(database, f"m{at}", at)

    async def replace() -> None:
        await database.execute(f"DELETE FROM {table}")
        await add(T0 + 10 * DAY_MS)

    await add(T0)
    before = T0 + DAY_MS
    with monkeypatch.context() as patch:
        between_look_and_removal(database, patch, replace)
        if table == "deliveries":
            await retention.deliveries("done", before, 0, 10)
        elif table == "webhook_events":
            await retention.events(before, 0, 10)
        else:
            await retention.messages(before, 0, 10)
    column = "received_at" if table == "deliveries" else "created_at"
    assert await database.read(f"SELECT id, {column} FROM {table}") == [(1, T0 + 10 * DAY_MS)]


async def test_zero_days_are_for_ever(database: Database) -> None:
    clock = ManualClock(T0)
    inbox = Inbox(database, clock, max_waiting=10)
    for _ in range(2):
        await inbox.append(b"{}")
    event = StoredWebhookEvent("unknown", ACCOUNT, ANA, T0, None, b"{}", 1)

    def fill(connection: sqlite3.Connection) -> None:
        mark_done(connection, [1], T0)
        mark_failed(connection, 2, attempts=1, now=T0, error="odd")
        keep(connection, [event], T0)
        connection.execute("INSERT INTO early_changes VALUES (?, 1, 'm', 'x', ?)", (ACCOUNT, T0))

    await database.write(fill)
    await write(database, "m", T0)
    backfills = BackfillStore(database, event_log(clock))
    run = await BackfillService(backfills, clock).start(ACCOUNT, origin="api", batch_size=10, dry_run=True)
    tables = ("deliveries", "webhook_events", "early_changes", "messages", "runs")

    async def count() -> list[int]:
        return [(await database.read(f"SELECT count(*) FROM {table}"))[0][0] for table in tables]

    kept = await count()
    assert (kept, run.status) == ([2, 1, 1, 1, 1], RunStatus.COMPLETED)
    clock.now += 3650 * DAY_MS
    kept_days = Lifetimes(Keep(0, 0, 0, 0, 0))
    housekeeping = retention_worker(database, clock, kept_days)
    assert await housekeeping.expire() == {}
    assert await count() == kept
    kept_days.keep = Keep(1, 1, 1, 1, 1)  # they would have gone
    await housekeeping.expire()
    assert await count() == [0] * len(tables)


async def test_what_came_while_the_clock_was_ahead_keeps_nothing_else_for_ever(database: Database) -> None:
    clock = ManualClock(T0)
    inbox = Inbox(database, clock, max_waiting=5000)
    clock.now += 900 * DAY_MS
    for _ in range(900):
        await inbox.append(b"from the future")
    clock.now = T0
    for _ in range(300):
        await inbox.append(b"{}")
    await database.write(lambda connection: mark_done(connection, list(range(1, 1201)), clock.now))
    housekeeping = retention_worker(database, clock, Keep(14, 0, 0, 0, 0))
    clock.now += 15 * DAY_MS
    removed = [sum((await housekeeping.expire()).values()) for _ in range(12)]
    assert sum(removed) == 300
    assert (await inbox.page(state=None, limit=1, offset=0))[1] == 900


async def test_everything_that_is_old_goes_and_the_file_shrinks(database: Database) -> None:
    clock = ManualClock(T0)
    inbox = Inbox(database, clock, max_waiting=5000)
    for _ in range(600):
        await inbox.append(b"x" * 4000)
    event = StoredWebhookEvent("unknown", ACCOUNT, ANA, T0, None, b"{}", 1)
    await database.write(lambda connection: keep(connection, [event], clock.now))
    await database.write(lambda connection: mark_done(connection, list(range(1, 600)), clock.now))
    await database.write(lambda connection: mark_failed(connection, 600, attempts=1, now=clock.now, error="e"))
    await write(database, "m", T0)
    housekeeping = retention_worker(database, clock, Keep(1, 2, 3, 4, 5))
    await database.checkpoint()
    before = database.path.stat().st_size

    clock.now += DAY_MS + 1
    assert await housekeeping.expire() == {"deliveries": 599}
    clock.now += DAY_MS
    assert await housekeeping.expire() == {"failed_deliveries": 1}
    clock.now += DAY_MS
    assert await housekeeping.expire() == {"webhook_events": 1}
    clock.now += DAY_MS
    assert await housekeeping.expire() == {"messages": 1}

    await housekeeping.shrink()
    await database.checkpoint()
    room = await free_space.pages(database)
    assert room.free <= 128
    assert database.path.stat().st_size < before / 2
