"""Importing conversations that another system knows."""

import sqlite3
from typing import Final, NamedTuple, Self

from inboxd.conversations import store as conversations
from inboxd.domain.conversation import Conversation, ConversationKey, ConversationStatus
from inboxd.profiles import store as profiles
from inboxd.runtime.errors import InboxdError
from inboxd.storage.database import Database

FOREIGN_ID: Final = "importedConversationId"


class KnownConversation(NamedTuple):
    """A conversation as the other system knows it."""

    key: ConversationKey
    platform_id: str | None
    """Its `platformConversationId`, if it has one."""
    username: str | None
    profile_pic: str | None
    unread_count: int
    status: ConversationStatus
    metadata: dict[str, object]

    def of_another_system(self) -> Self:
        """The conversation under our own id. The other system's id is kept in its metadata."""
        if self.platform_id in {None, self.key.platform_id}:
            return self
        return self._replace(platform_id=None, metadata={FOREIGN_ID: self.platform_id, **self.metadata})


class MisnamedError(InboxdError):
    """`platformConversationId` does not name the account and the participant."""


class ConversationExistsError(InboxdError):
    """The conversation exists already."""


async def import_conversation(database: Database, known: KnownConversation, now: int) -> Conversation:
    """Store a conversation and its participant; `now` in ms.

    Raises MisnamedError, ConversationExistsError and StorageError.
    """
    if known.platform_id not in {None, known.key.platform_id}:
        msg = f"'platformConversationId' must be {known.key.platform_id}, or left out"
        raise MisnamedError(msg)

    def transaction(connection: sqlite3.Connection) -> Conversation | None:
        profiles.register(connection, known.key, known.username, known.profile_pic, now)
        created = conversations.create(
            connection,
            known.key,
            status=known.status,
            unread_count=known.unread_count,
            metadata=known.metadata,
            now=now,
        )
        return conversations.get_by_key(connection, known.key) if created else None

    conversation = await database.write(transaction)
    if conversation is None:
        msg = f"the conversation {known.key.platform_id} exists already"
        raise ConversationExistsError(msg)
    return conversation
