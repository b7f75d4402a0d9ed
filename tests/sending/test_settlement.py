"""What becomes of parts, in transactions, without a worker and without Meta."""

import sqlite3
from collections.abc import Callable

import pytest
from inboxd.conversations import message_store, reply_window_store
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.message import Content, Direction, Sent
from inboxd.domain.outbound import OutboundKind, OutboundState, PartContent, ReasonCode, SentBy
from inboxd.domain.reply_window import Opening
from inboxd.domain.retry import FailureAction
from inboxd.meta.graph_errors import GraphError
from inboxd.meta.send_client import SendReceipt
from inboxd.meta.send_errors import send_error
from inboxd.sending import matching_store, store
from inboxd.sending.delivery_store import Begun, Concluding, Reason
from inboxd.sending.outbound import NewOutbound, OutboundBody
from inboxd.sending.settlement import Settlement
from inboxd.storage.database import Database

from tests.support import ACCOUNT, ANA, BRUNO, T0, ManualClock, event_log

NOW = T0 + 1000
Late = Callable[[Settlement, sqlite3.Connection, Begun], object]


def settlement() -> Settlement:
    return Settlement(Concluding(event_log(ManualClock()), lambda: True), lambda: 60_000)


def begun(connection: sqlite3.Connection, to: str, at: int = NOW) -> Begun:
    """A message to a participant who wrote, of which a part was begun."""
    key = ConversationKey(ACCOUNT, to)
    message_store.apply_changes(connection, {key}, [], T0)
    reply_window_store.opened(connection, {key: Opening(T0)}, T0)
    outbound_id = store.accept(
        connection,
        NewOutbound(
            kind=OutboundKind.MESSAGE,
            account_id=ACCOUNT,
            participant_id=to,
            sent_by=SentBy.HUMAN,
            body=OutboundBody(text=to),
            parts=(PartContent(text=to),),
            requested_by="test",
        ),
        at,
    )
    found = settlement().begin(connection, outbound_id, at)
    assert isinstance(found, Begun)
    return found


def _sent(one: Settlement, connection: sqlite3.Connection, late: Begun) -> object:
    def settled(*_: object) -> None:
        raise AssertionError

    return one.sent(connection, late, SendReceipt("mid.late", ANA), settled, NOW + 9)


def _refused(one: Settlement, connection: sqlite3.Connection, late: Begun) -> object:
    error = send_error(GraphError("no", FailureAction.UNKNOWN, code=551))
    return one.refused(connection, late, error, NOW + 9)


def _waits(one: Settlement, connection: sqlite3.Connection, late: Begun) -> object:
    return one.waits(connection, late, Reason(ReasonCode.THROTTLED, "Wait."), NOW + 99, NOW + 9)


def _unknown(one: Settlement, connection: sqlite3.Connection, late: Begun) -> object:
    return one.unknown(connection, late, Reason(ReasonCode.ANSWER_NOT_SEEN, "?"), NOW + 9)


def _unsendable(one: Settlement, connection: sqlite3.Connection, late: Begun) -> object:
    return one.unsendable(connection, late, "?", NOW + 9)


@pytest.mark.parametrize("late", [_sent, _refused, _waits, _unknown, _unsendable])
async def test_an_answer_for_what_was_erased_changes_nothing_of_what_has_its_ids_now(
    database: Database, late: Late
) -> None:
    """SQLite gives the ids of erased rows again."""

    def transaction(connection: sqlite3.Connection) -> None:
        erased = begun(connection, ANA)
        connection.execute("DELETE FROM outbound_messages")
        other = begun(connection, BRUNO, NOW + 1)
        assert (erased.part.id, erased.attempt_id) == (other.part.id, other.attempt_id)
        before = dump(connection)
        assert not late(settlement(), connection, erased)
        assert dump(connection) == before
        kept = store.get(connection, other.outbound.id)
        assert kept is not None
        assert kept.state is OutboundState.SENDING

    await database.write(transaction)


def dump(connection: sqlite3.Connection) -> list[object]:
    tables = ("outbound_messages", "outbound_parts", "outbound_attempts", "events")
    return [connection.execute(f"SELECT * FROM {table}").fetchall() for table in tables]


@pytest.mark.parametrize("whose", ["earlier", "anothers", "participants"])
async def test_an_answer_with_the_id_of_another_message_says_nothing(database: Database, whose: str) -> None:
    def transaction(connection: sqlite3.Connection) -> None:
        key, other = ConversationKey(ACCOUNT, ANA), ConversationKey(ACCOUNT, BRUNO)
        content = Content(type="text", text="hola")
        theirs = Sent(key=key, mid="mid.1", at=T0, sender_id=ANA, direction=Direction.INBOUND, content=content)
        ours = Sent(key=other, mid="mid.1", at=T0, sender_id=ACCOUNT, direction=Direction.OUTBOUND, content=content)
        begun(connection, BRUNO)
        if whose == "earlier":
            message_store.apply_changes(connection, {key}, [(None, theirs)], T0)
        one = begun(connection, ANA)
        if whose == "anothers":
            message_store.apply_changes(connection, {other}, [(None, ours)], T0)
        if whose == "participants":
            message_store.apply_changes(connection, {key}, [(None, theirs)], T0)

        def settled(*_: object) -> None:
            raise AssertionError

        settlement().sent(connection, one, SendReceipt("mid.1", ANA), settled, NOW + 9)
        kept = store.get(connection, one.outbound.id)
        assert kept is not None
        assert (kept.state, kept.parts[0].mid) == (OutboundState.UNKNOWN, None)

    await database.write(transaction)


async def test_two_answers_with_one_id_are_one_message(database: Database) -> None:
    def transaction(connection: sqlite3.Connection) -> None:
        first, second = begun(connection, ANA), begun(connection, BRUNO)
        for one in (first, second):
            settlement().sent(connection, one, SendReceipt("mid.1", None), lambda *_: None, NOW + 9)
        states = [store.get(connection, one.outbound.id) for one in (first, second)]
        assert [one.state for one in states if one is not None] == [OutboundState.SENT, OutboundState.UNKNOWN]

    await database.write(transaction)


async def test_the_echo_before_the_answer_is_the_same_message(database: Database) -> None:
    def transaction(connection: sqlite3.Connection) -> None:
        one, key = begun(connection, ANA), ConversationKey(ACCOUNT, ANA)
        content = Content(type="text", text="another form of it")
        echo = Sent(key=key, mid="mid.1", at=T0, sender_id=ACCOUNT, direction=Direction.OUTBOUND, content=content)
        message_store.apply_changes(connection, {key}, [(None, echo)], T0)
        assert settlement().sent(connection, one, SendReceipt("mid.1", ANA), lambda *_: None, NOW + 9)
        kept = store.get(connection, one.outbound.id)
        assert kept is not None
        assert kept.state is OutboundState.DELIVERED

    await database.write(transaction)


@pytest.mark.parametrize("order", [1, -1])
async def test_what_a_part_became_is_found_although_newer_messages_of_others_were_erased(
    database: Database, order: int
) -> None:
    """SQLite gives the ids of erased messages again, and rows may be removed in any order."""

    def transaction(connection: sqlite3.Connection) -> None:
        theirs, ours = ConversationKey(ACCOUNT, BRUNO), ConversationKey(ACCOUNT, ANA)

        def says(number: int) -> None:
            content = Content(type="text", text=str(number))
            other = Sent(
                key=theirs,
                mid=f"mid.{number}",
                at=T0 + number,
                sender_id=BRUNO,
                direction=Direction.INBOUND,
                content=content,
            )
            message_store.apply_changes(connection, {theirs}, [(None, other)], T0)

        for number in range(3):
            says(number)
        one = begun(connection, ANA)
        for number in range(3, 6):
            says(number)
        settlement().unknown(connection, one, Reason(ReasonCode.ANSWER_NOT_SEEN, "?"), NOW)
        for number in range(6)[::order]:
            connection.execute("DELETE FROM messages WHERE mid = ?", (f"mid.{number}",))
        content = Content(type="text", text=ANA)
        echo = Sent(key=ours, mid="mid.ours", at=NOW, sender_id=ACCOUNT, direction=Direction.OUTBOUND, content=content)
        message_store.apply_changes(connection, {ours}, [(None, echo)], NOW)
        kept = store.get(connection, one.outbound.id)
        assert kept is not None
        assert matching_store.find(connection, kept, kept.parts[0]).mid == "mid.ours"

    await database.write(transaction)
