"""What is old goes, in steps; what it meant for its conversation stays true; the file shrinks."""

from inboxd.domain.conversation import ConversationKey
from inboxd.domain.message import Content, Direction, Sent
from inboxd.store import conversations
from inboxd.store.backfills import Backfills
from inboxd.store.conversations import ConversationFilter, Conversations
from inboxd.store.database import Database
from inboxd.store.events import KeptEvent, keep
from inboxd.store.inbox import Inbox, mark_done, mark_failed
from inboxd.store.retention import Retention
from inboxd.store.search import SearchIndex, phrase
from inboxd.workers.housekeeping import DAY_MS, Housekeeping, Keep

from tests.support import ACCOUNT, ANA, T0, ManualClock

KEY = ConversationKey(ACCOUNT, ANA)


async def write(database: Database, mid: str, at: int, *, text: str = "hola") -> None:
    content = Content(type="text", text=text)
    change = Sent(key=KEY, mid=mid, at=at, sender_id=ANA, direction=Direction.INBOUND, content=content)
    await database.write(lambda connection: conversations.apply_changes(connection, {KEY}, [(1, change)], at))


async def test_messages_go_by_their_age_and_the_conversation_stays(database: Database) -> None:
    for number in range(5):
        await write(database, f"m{number}", T0 + number * DAY_MS)
    retention = Retention(database)
    assert (await retention.messages(T0 + 3 * DAY_MS, 0, 2, T0)).rows == 2
    assert (await retention.messages(T0 + 3 * DAY_MS, 0, 2, T0)).rows == 1
    assert (await retention.messages(T0 + 3 * DAY_MS, 0, 2, T0)).rows == 0
    (conversation,), _ = await Conversations(database.read).page(ConversationFilter(), limit=10, offset=0)
    assert conversation.unread_count == 2
    assert (await retention.messages(T0 + 30 * DAY_MS, 0, 10, T0)).rows == 2
    (conversation,), _ = await Conversations(database.read).page(ConversationFilter(), limit=10, offset=0)
    assert conversation.unread_count == 0
    assert conversation.last_message_at == T0 + 4 * DAY_MS


async def test_a_message_that_gets_the_id_of_a_removed_one_is_found(database: Database) -> None:
    index = SearchIndex(database)
    store = Conversations(database.read)
    await write(database, "m1", T0, text="one")
    while await index.advance(10):
        pass
    await Retention(database).messages(T0 + DAY_MS, 0, 10, T0)
    await write(database, "m2", T0 + DAY_MS, text="two")
    while await index.advance(10):
        pass
    found = await store.search(phrase("two"), account_id=None, before_id=None, limit=10)
    assert [stored.message.mid for stored, _ in found] == ["m2"]
    assert await store.search(phrase("one"), account_id=None, before_id=None, limit=10) == []


async def test_only_what_is_old_and_has_come_to_this_state_goes(database: Database) -> None:
    clock = ManualClock(T0)
    inbox, retention = Inbox(database, clock, max_waiting=10), Retention(database)
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
    housekeeping = Housekeeping(database, Backfills(database), clock, Keep(14, 0, 0, 0, 0))
    clock.now += 15 * DAY_MS
    removed = [sum((await housekeeping.expire()).values()) for _ in range(12)]
    assert sum(removed) == 300
    assert (await inbox.page(state=None, limit=1, offset=0))[1] == 900


async def test_everything_that_is_old_goes_and_the_file_shrinks(database: Database) -> None:
    clock = ManualClock(T0)
    inbox = Inbox(database, clock, max_waiting=5000)
    for _ in range(600):
        await inbox.append(b"x" * 4000)
    event = KeptEvent("unknown", ACCOUNT, ANA, T0, None, b"{}", 1)
    await database.write(lambda connection: keep(connection, [event], clock.now))
    await database.write(lambda connection: mark_done(connection, list(range(1, 600)), clock.now))
    await database.write(lambda connection: mark_failed(connection, 600, attempts=1, now=clock.now, error="e"))
    await write(database, "m", T0)
    housekeeping = Housekeeping(database, Backfills(database), clock, Keep(1, 2, 3, 4, 5))
    await database.checkpoint()
    before = database.path.stat().st_size

    clock.now += DAY_MS + 1
    assert await housekeeping.expire() == {"deliveries": 599}
    clock.now += DAY_MS
    assert await housekeeping.expire() == {"failed_deliveries": 1}
    clock.now += DAY_MS
    assert await housekeeping.expire() == {"events": 1}
    clock.now += DAY_MS
    assert await housekeeping.expire() == {"messages": 1}

    await housekeeping.shrink()
    await database.checkpoint()
    room = await Retention(database).room()
    assert room.free <= 128
    assert database.path.stat().st_size < before / 2
