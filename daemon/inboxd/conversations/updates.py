"""What users change about conversations. What really changed is recorded in the event log."""

import sqlite3
from collections.abc import Callable

from inboxd.conversations import store
from inboxd.conversations.event_recording import UPDATED, record_conversation, record_deleted
from inboxd.domain.conversation import Conversation, ConversationStatus
from inboxd.events.log import EventLog
from inboxd.runtime.clock import Clock
from inboxd.storage.database import Database


class ConversationUpdates:
    """Changes conversations. Every method raises StorageError."""

    def __init__(self, database: Database, event_log: EventLog, clock: Clock) -> None:
        self._database = database
        self._event_log = event_log
        self._clock = clock

    async def change(
        self, conversation_id: int, *, status: ConversationStatus | None, metadata: dict[str, object] | None
    ) -> Conversation | None:
        """Change status and metadata; None leaves one as it is. Returns the conversation; None when there is none."""

        def write(connection: sqlite3.Connection, now: int) -> Conversation | None:
            return store.change(connection, conversation_id, status=status, metadata=metadata, now=now)

        return await self._written(conversation_id, write)

    async def mark_read(self, conversation_id: int) -> Conversation | None:
        """The account has read everything in it. Returns the conversation; None when there is none."""
        return await self._written(
            conversation_id, lambda connection, now: store.mark_read(connection, conversation_id, now)
        )

    async def delete(self, conversation_id: int) -> bool:
        """Delete a conversation with its messages; False when there is none."""
        now = self._clock.now_ms()

        def transaction(connection: sqlite3.Connection) -> bool:
            conversation = store.get(connection, conversation_id)
            if conversation is None:
                return False
            record_deleted(connection, self._event_log, conversation, now)
            return store.remove(connection, conversation_id)

        return await self._database.write(transaction)

    async def _written(
        self, conversation_id: int, write: Callable[[sqlite3.Connection, int], Conversation | None]
    ) -> Conversation | None:
        now = self._clock.now_ms()

        def transaction(connection: sqlite3.Connection) -> Conversation | None:
            before = store.get(connection, conversation_id)
            after = write(connection, now)
            if before is not None and after is not None and _told(before) != _told(after):
                record_conversation(connection, self._event_log, UPDATED, after, now)
            return after

        return await self._database.write(transaction)


def _told(conversation: Conversation) -> tuple[object, ...]:
    """What an update of a conversation tells others about."""
    return conversation.status, conversation.metadata, conversation.unread_count, conversation.read_at
