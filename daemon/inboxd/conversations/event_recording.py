"""Records what happened to conversations and messages in the event log, in the transaction that did it."""

import sqlite3
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec

from inboxd.conversations import store
from inboxd.conversations.event_data import KeptData, shortened
from inboxd.conversations.message_store import ChangedMessage
from inboxd.domain.conversation import Conversation, ConversationKey
from inboxd.domain.event import NewEvent
from inboxd.domain.message_facts import Fact, MessageFact
from inboxd.events.log import EventLog
from inboxd.events.store import replace_message

CREATED: Final = "conversation.created"
UPDATED: Final = "conversation.updated"
DELETED: Final = "conversation.deleted"
_encode: Final = msgspec.json.Encoder().encode
_NOTHING: Final = b"{}"
MAX_WHOLE: Final = 32_768
"""Bytes of data up to which an event has its message whole. Every event of a message repeats it."""
_READ_BY: Final[Mapping[bool | None, Literal["participant", "account"] | None]] = {
    None: None,
    True: "account",
    False: "participant",
}


def record_changes(
    connection: sqlite3.Connection,
    log: EventLog,
    created: Sequence[tuple[ConversationKey, int]],
    changed: Sequence[ChangedMessage],
    now: int,
) -> None:
    """Record conversations that were created, and what changed in messages. `now` in ms."""
    if not created and not changed:
        return
    ids = {conversation_id for _, conversation_id in created} | {one.conversation_id for one in changed}
    rows = {} if log.ids_only else store.snapshots(connection, ids)
    events = [_conversation_event(CREATED, key, number, rows.get(number), now) for key, number in created]
    deleted: list[ChangedMessage] = []
    for one in changed:
        row = rows.get(one.conversation_id)
        for told in one.facts:
            events.append(_message_event(one, told, row))
            if told.fact is Fact.DELETED:
                deleted.append(one)
    log.append(connection, events)
    # The text of messages that were taken back goes from their earlier events too.
    replace_message(connection, [(one.message_id, one.message.mid, _encode(one.message).decode()) for one in deleted])


def record_conversation(
    connection: sqlite3.Connection, log: EventLog, kind: str, conversation: Conversation, now: int
) -> None:
    """Record that a conversation was created or updated. `now` in ms."""
    rows = {} if log.ids_only else store.snapshots(connection, [conversation.id])
    event = _conversation_event(kind, conversation.key, conversation.id, rows.get(conversation.id), now)
    log.append(connection, [event])


def record_deleted(connection: sqlite3.Connection, log: EventLog, conversation: Conversation, now: int) -> None:
    """Record that a conversation was deleted. `now` in ms."""
    log.append(connection, [_conversation_event(DELETED, conversation.key, conversation.id, None, now)])


def _conversation_event(
    kind: str, key: ConversationKey, conversation_id: int, row: msgspec.Raw | None, now: int
) -> NewEvent:
    data = _NOTHING if row is None else _encode(KeptData(conversation=row))
    return NewEvent(kind, key.account_id, now, data, key.participant_id, conversation_id)


def _message_event(one: ChangedMessage, told: MessageFact, row: msgspec.Raw | None) -> NewEvent:
    read_by = _READ_BY[told.read_by_account]
    if row is None:
        kept = KeptData(mid=one.message.mid, read_by=read_by)
    else:
        kept = KeptData(
            message=one.message, created_at=one.created_at, conversation=row, reaction=told.reaction, read_by=read_by
        )
    data = _encode(kept)
    if kept.message is not None and len(data) > MAX_WHOLE:
        data = _encode(msgspec.structs.replace(kept, message=shortened(kept.message)))
    # A message that has not arrived is not shown, and gets another id when it is.
    message_id = None if one.message.timeline_at is None else one.message_id
    about = (one.key.participant_id, one.conversation_id, message_id)
    return NewEvent(told.fact, one.key.account_id, told.at, data, *about)
