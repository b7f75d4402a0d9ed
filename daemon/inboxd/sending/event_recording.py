"""Records what became of outbound messages in the event log, in the transaction that changed it."""

import sqlite3
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from inboxd.conversations import store as conversations
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.event import NewEvent
from inboxd.domain.outbound import OutboundState
from inboxd.events.log import EventLog
from inboxd.sending import store
from inboxd.sending.outbound import StoredOutbound

HUMAN_REPLIED: Final = "conversation.human_replied"
_TOLD: Final = frozenset(OutboundState) - {OutboundState.SENDING}


class KeptOutbound(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the log keeps of such an event. A log of ids only has no outbound message and no conversation."""

    outbound: StoredOutbound | None = None
    conversation: Any = None
    """The conversation's row, as a JSON array (`conversations.store.snapshots`)."""
    kind: str = ""
    """The kind, state and reason of the outbound message, in a log of ids only."""
    state: str = ""
    reason_code: str | None = None


class KeptHumanReply(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the log keeps of an answer that the owner gave elsewhere."""

    mid: str
    paused_until: int
    """ms"""
    conversation: Any = None


def event_type(state: OutboundState) -> str:
    """The type of the event that an outbound message came into `state`."""
    return f"outbound.{state}"


def record_outbound(connection: sqlite3.Connection, log: EventLog, outbound_id: int, now: int) -> None:
    """Record the state of an outbound message, unless it was the last one that was recorded. `now` in ms.

    Call it in the transaction that changed the message, after the changes. `sending` is no event.
    """
    one = store.get(connection, outbound_id)
    if one is None or one.state not in _TOLD or not store.mark_recorded(connection, outbound_id, one.state):
        return
    if log.ids_only or one.participant_id is None:  # an erasure could not tell whose it is
        kept = KeptOutbound(kind=one.kind, state=one.state, reason_code=one.reason_code)
    else:
        kept = KeptOutbound(outbound=one, conversation=_snapshot(connection, one.conversation_id))
    data = msgspec.json.encode(kept)
    name, subject = event_type(one.state), str(one.id)
    about = (one.participant_id, one.conversation_id, _message_id(one))
    log.append(connection, [NewEvent(name, one.account_id, now, data, *about, subject=subject)])


class HumanReply(NamedTuple):
    """The owner answered elsewhere, at `at` (ms): bots should be silent until `paused_until` (ms)."""

    key: ConversationKey
    conversation_id: int
    mid: str
    message_id: int | None
    at: int
    paused_until: int


def record_human_replies(connection: sqlite3.Connection, log: EventLog, replies: Sequence[HumanReply]) -> None:
    """Record answers that the owner gave elsewhere."""
    rows = {} if log.ids_only else conversations.snapshots(connection, {one.conversation_id for one in replies})
    log.append(connection, [_human_reply(one, rows.get(one.conversation_id)) for one in replies])


def _human_reply(one: HumanReply, row: msgspec.Raw | None) -> NewEvent:
    data = msgspec.json.encode(KeptHumanReply(mid=one.mid, paused_until=one.paused_until, conversation=row))
    about = (one.key.participant_id, one.conversation_id, one.message_id)
    return NewEvent(HUMAN_REPLIED, one.key.account_id, one.at, data, *about)


def _snapshot(connection: sqlite3.Connection, conversation_id: int | None) -> msgspec.Raw | None:
    if conversation_id is None:
        return None
    return conversations.snapshots(connection, [conversation_id]).get(conversation_id)


def _message_id(one: StoredOutbound) -> int | None:
    return next((part.message_id for part in one.parts if part.message_id is not None), None)
