"""What reactions, typing and seen marks need to know, and storing an own reaction."""

import sqlite3
from typing import Final, NamedTuple

from inboxd.conversations import message_store
from inboxd.conversations.event_recording import record_changes
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.message import Reacted
from inboxd.events.log import EventLog
from inboxd.storage.database import Read

_MESSAGE: Final = """
SELECT c.account_id, c.participant_id, m.mid FROM messages AS m JOIN conversations AS c ON c.id = m.conversation_id
WHERE m.id = ? AND m.timeline_at IS NOT NULL AND m.direction IS NOT NULL AND m.deleted_at IS NULL
"""
_CONVERSATION: Final = "SELECT account_id, participant_id FROM conversations WHERE id = ?"


class Target(NamedTuple):
    """A message that can be reacted to."""

    key: ConversationKey
    mid: str


async def message(read: Read, message_id: int) -> Target | None:
    """A message that is there and not taken back. Raises StorageError."""
    rows = await read(_MESSAGE, (message_id,))
    return Target(ConversationKey(*rows[0][:2]), rows[0][2]) if rows else None


async def conversation(read: Read, conversation_id: int) -> ConversationKey | None:
    """The key of a conversation. Raises StorageError."""
    rows = await read(_CONVERSATION, (conversation_id,))
    return ConversationKey(*rows[0]) if rows else None


def react(connection: sqlite3.Connection, log: EventLog, target: Target, emoji: str | None, now: int) -> None:
    """Store the account's own reaction, or that it was taken back: no webhook tells of it. `now` in ms."""
    key = target.key
    name = None if emoji is None else "love" if emoji.startswith("❤") else "other"
    change = Reacted(key=key, mid=target.mid, at=now, by=key.account_id, reaction=name, emoji=emoji)
    applied = message_store.apply_changes(connection, {key}, [(None, change)], now)
    record_changes(connection, log, applied.created, applied.changed, now)
