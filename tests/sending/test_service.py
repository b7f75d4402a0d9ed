"""The outbox without an API before it: private replies, what is kept and for how long, and how rows are found."""

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any

import pytest
from inboxd.conversations import message_store, reply_window_store
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.event import StoredEvent
from inboxd.domain.outbound import OutboundKind, OutboundState, PartContent, SentBy
from inboxd.domain.reply_window import Opening
from inboxd.sending import delivery_store, echo_store, matching_store, personal_data_store, store
from inboxd.sending.comment_source import CommentToAnswer
from inboxd.sending.event_types import event_types
from inboxd.sending.expiry_worker import REST_S, ExpiryWorker
from inboxd.sending.outbound import (
    NewOutbound,
    NotNowError,
    OutboundBody,
    OutboundConflictError,
    StoredOutbound,
    UnknownCommentError,
    WindowClosedError,
)
from inboxd.sending.service import OutboxService
from inboxd.sending.store import OutboundFilter
from inboxd.storage.database import Database

from tests.storage.test_queries import plan
from tests.support import ACCOUNT, ANA, T0, ManualClock, event_log, told

KEY = ConversationKey(ACCOUNT, ANA)
COMMENT = "18000000000000001"
DAY_MS = 86_400_000


def outbox_of(database: Database, clock: ManualClock, *, hold: bool = True) -> OutboxService:
    return OutboxService(database, event_log(clock), clock, max_waiting=lambda: 10_000, hold_after_failure=lambda: hold)


def new(text: str = "hi", kind: OutboundKind = OutboundKind.MESSAGE, **members: Any) -> NewOutbound:
    is_message = kind is OutboundKind.MESSAGE
    given: dict[str, Any] = {
        "kind": kind,
        "account_id": ACCOUNT,
        "participant_id": ANA if is_message else None,
        "comment_id": None if is_message else COMMENT,
        "sent_by": SentBy.HUMAN,
        "body": OutboundBody(text=text),
        "parts": (PartContent(text=text),),
        "requested_by": "admin",
    }
    return NewOutbound(**given | members)


async def written(database: Database, at: int = T0) -> None:
    def transaction(connection: sqlite3.Connection) -> None:
        message_store.apply_changes(connection, {KEY}, [], at)
        reply_window_store.opened(connection, {KEY: Opening(at)}, at)

    await database.write(transaction)


def changing(sql: str, *values: object) -> Callable[[sqlite3.Connection], None]:
    def transaction(connection: sqlite3.Connection) -> None:
        connection.execute(sql, values)

    return transaction


async def test_a_comment_gets_one_private_reply_ever(database: Database) -> None:
    clock = ManualClock()
    outbox = outbox_of(database, clock)
    outbox.comments = lambda _connection, _account, comment: (
        CommentToAnswer(None, clock.now_ms() + DAY_MS) if comment == COMMENT else None
    )
    reply = new("in private", OutboundKind.PRIVATE_REPLY)
    found = await asyncio.gather(*(outbox.accept(reply) for _ in range(20)), return_exceptions=True)
    (accepted,) = [one for one in found if isinstance(one, StoredOutbound)]
    conflicts = [one for one in found if isinstance(one, OutboundConflictError)]
    assert [one.outbound_id for one in conflicts] == [accepted.id] * 19
    assert (accepted.lane, accepted.expires_at) == (f"c:{COMMENT}", clock.now_ms() + DAY_MS)

    await outbox.cancel(accepted.id)
    again = await outbox.accept(reply)
    await database.write(changing("UPDATE outbound_messages SET state = 'failed' WHERE id = ?", again.id))
    once_more = await outbox.accept(reply)
    for state in ("sending", "unknown", "sent", "delivered", "read"):
        await database.write(changing("UPDATE outbound_messages SET state = ? WHERE id = ?", state, once_more.id))
        with pytest.raises(OutboundConflictError):
            await outbox.accept(reply)


async def test_a_private_reply_needs_a_comment_that_is_not_too_old(database: Database) -> None:
    clock = ManualClock()
    outbox = outbox_of(database, clock)
    reply = new("in private", OutboundKind.PRIVATE_REPLY)
    with pytest.raises(UnknownCommentError):
        await outbox.accept(reply)
    outbox.comments = lambda _connection, _account, _comment: CommentToAnswer(ANA, clock.now_ms())
    with pytest.raises(WindowClosedError, match="seven days"):
        await outbox.accept(reply)
    await outbox.accept(new("in public", OutboundKind.COMMENT_REPLY))
    assert len(await told(database)) == 1


async def test_events_of_a_reply_to_nobody_known_have_no_text(database: Database) -> None:
    """An erasure of its receiver could not find them."""
    clock = ManualClock()
    outbox = outbox_of(database, clock)
    outbox.comments = lambda _connection, _account, _comment: CommentToAnswer(None, clock.now_ms() + DAY_MS)
    one = await outbox.accept(new("in private", OutboundKind.PRIVATE_REPLY))
    rows = await database.read(
        "SELECT seq, type, account_id, participant_id, conversation_id, message_id, subject, occurred_at, recorded_at,"
        " data FROM events"
    )
    assert b"in private" not in repr(rows).encode()
    (event,) = [StoredEvent._make((*row[:-1], row[-1].encode())) for row in rows]
    (kind,) = [kind for kind in event_types({ACCOUNT}) if kind.name == event.type]
    assert kind.render(event).outbound_id == str(one.id)  # type: ignore[union-attr]


async def test_a_private_reply_that_waits_too_long_fails_and_the_next_may_go(database: Database) -> None:
    clock = ManualClock()
    outbox = outbox_of(database, clock, hold=False)
    outbox.comments = lambda _connection, _account, _comment: CommentToAnswer(ANA, clock.now_ms() + 5000)
    one = await outbox.accept(new("in private", OutboundKind.PRIVATE_REPLY))
    behind = await outbox.accept(new("in public", OutboundKind.COMMENT_REPLY))
    assert behind.waits_for == one.id
    worker = ExpiryWorker(database, event_log(clock), clock, hold_after_failure=lambda: False)
    released: list[str] = []
    worker.on_released.append(released.append)
    assert await worker.poll() == 5.0
    clock.now += 5000
    await worker.poll()
    failed = await store.OutboundStore(database.read).get(one.id)
    assert failed is not None
    assert (failed.state, failed.reason_code, failed.holds) == (OutboundState.FAILED, "window_closed", False)
    assert released == [ACCOUNT]
    following = await store.OutboundStore(database.read).get(behind.id)
    assert following is not None
    assert (following.waits_for, following.due_at) == (None, clock.now_ms())
    assert await worker.poll() == REST_S


async def test_a_row_that_cannot_be_read_lets_the_others_expire(database: Database) -> None:
    clock = ManualClock()
    await written(database)
    outbox = outbox_of(database, clock)
    broken, sound = await outbox.accept(new("a")), await outbox.accept(new("b"))
    await database.write(
        changing("""UPDATE outbound_parts SET content = '{"text": 7}' WHERE outbound_id = ?""", broken.id)
    )
    clock.now += 2 * DAY_MS
    worker = ExpiryWorker(database, event_log(clock), clock, hold_after_failure=lambda: False)
    released: list[str] = []
    worker.on_released.append(released.append)
    await worker.poll()
    assert released == [ACCOUNT, ACCOUNT], "what waited behind the row that cannot be read is due, too"
    rows = await database.read("SELECT id, state, reason_code FROM outbound_messages ORDER BY id")
    assert rows == [(broken.id, "failed", "refused"), (sound.id, "failed", "window_closed")]
    assert await worker.poll() == REST_S


@pytest.mark.parametrize("state", ["sending", "unknown"])
async def test_what_is_being_sent_does_not_expire(database: Database, state: str) -> None:
    clock = ManualClock()
    await written(database)
    outbox = outbox_of(database, clock)
    one = await outbox.accept(new())
    await database.write(changing("UPDATE outbound_messages SET state = 'sending' WHERE id = ?", one.id))
    await database.write(changing("UPDATE outbound_parts SET state = ?", state))
    clock.now += 2 * DAY_MS
    worker = ExpiryWorker(database, event_log(clock), clock, hold_after_failure=lambda: True)
    assert (await worker.poll() or 0) > 0, "and nobody turns in circles"
    assert [part for (part,) in await database.read("SELECT state FROM outbound_parts")] == [state]
    assert await database.read("SELECT state FROM outbound_messages") == [("sending",)]


async def test_finished_messages_are_removed_after_their_days_and_let_the_next_go(database: Database) -> None:
    clock = ManualClock()
    await written(database)
    outbox = outbox_of(database, clock)
    failed, queued = await outbox.accept(new("a", idempotency_key="k")), await outbox.accept(new("b"))
    await database.write(
        changing("UPDATE outbound_messages SET state = 'failed', due_at = NULL WHERE id = ?", failed.id)
    )
    clock.now += 1000
    young = await outbox.accept(new("c"))
    (expiry,) = personal_data_store.expiries(database, clock, days=lambda: 90)
    removed = await expiry.remove(clock.now_ms(), 0, 100)
    assert removed.last_id == young.id
    left = [await store.OutboundStore(database.read).get(one.id) for one in (failed, queued, young)]
    assert [one is None for one in left] == [True, False, False], "what waits stays"
    assert left[1] is not None
    assert left[1].due_at == clock.now_ms()
    assert await database.read("SELECT count(*) FROM outbound_parts") == [(2,)]


async def test_what_was_erased_cannot_be_retried(database: Database) -> None:
    clock = ManualClock()
    await written(database)
    outbox = outbox_of(database, clock)
    one = await outbox.accept(new())
    await database.write(changing("UPDATE outbound_messages SET state = 'failed', body = NULL"))
    with pytest.raises(NotNowError, match="erased"):
        await outbox.retry(one.id, force=False)
    assert await outbox.retry(999, force=True) is None
    assert await outbox.cancel(999) is None


def scans(steps: str) -> list[str]:
    return [line for line in steps.splitlines() if line.strip().startswith("SCAN") and "json_each" not in line]


@pytest.mark.parametrize(
    ("condition", "index"),
    [
        (OutboundFilter(), "USING INTEGER PRIMARY KEY"),
        (OutboundFilter(account_id=ACCOUNT), "USING INTEGER PRIMARY KEY"),
        (OutboundFilter(state=OutboundState.FAILED), "outbound_by_state"),
        (OutboundFilter(state=OutboundState.QUEUED, account_id=ACCOUNT, before_id=7), "outbound_by_state"),
        (OutboundFilter(key=KEY), "outbound_by_person"),
    ],
)
async def test_lists_are_read_from_an_index_in_their_order(
    database: Database, condition: OutboundFilter, index: str
) -> None:
    where, parameters = condition.where()
    sql = f"EXPLAIN QUERY PLAN SELECT o.id FROM outbound_messages AS o{where} ORDER BY o.id DESC LIMIT 50"
    steps = "\n".join(str(row[3]) for row in await database.read(sql, parameters))
    assert index in steps, steps
    assert "TEMP B-TREE" not in steps, steps
    assert not scans(steps), steps


@pytest.mark.parametrize(
    "name",
    ["_BY_ID", "_BY_KEY", "_PRIVATE_REPLY", "_IN_LANE", "_COUNT_WAITING", "_NEXT_DUE", "_STEP_BACK", "_ANY_BEFORE",
     "_EXPIRING", "_NEXT_EXPIRY", "_MID_OF", "_SET_PARTS"],
)  # fmt: skip
async def test_nothing_is_searched_from_end_to_end(database: Database, name: str) -> None:
    steps = await plan(database, getattr(store, name))
    assert not [line for line in scans(steps) if "outbound" in line and "USING" not in line], steps


@pytest.mark.parametrize(
    "sql",
    [
        matching_store._CONTENT,
        matching_store._IS_OTHERS,
        matching_store._EDGE,
        matching_store._IN_NEW_ONES,
        matching_store._IN_CONVERSATION,
        echo_store._IS_NEW,
        echo_store._OPENED,
        echo_store._UNDECIDED,
        delivery_store._NOT_SERVED,
        delivery_store._ENDED,
        delivery_store._IS_UNKNOWN,
    ],
)
async def test_what_is_known_of_a_part_is_found_by_an_index(database: Database, sql: str) -> None:
    steps = await plan(database, sql)
    assert not [line for line in scans(steps) if "CONSTANT" not in line]
    assert "(rowid<?)" not in steps, "that walks nearly all messages"
