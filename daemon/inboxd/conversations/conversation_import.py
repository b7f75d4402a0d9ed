"""Importing conversations that another system knows."""

import sqlite3
from typing import Final

from inboxd.conversations import store as conversations
from inboxd.conversations.event_recording import CREATED, record_conversation
from inboxd.conversations.input_resources import NewConversation
from inboxd.domain.conversation import Conversation
from inboxd.events.log import EventLog
from inboxd.profiles import store as profiles
from inboxd.runtime.errors import InboxdError
from inboxd.storage.database import Database

FOREIGN_ID: Final = "importedConversationId"
"""The member of the metadata that keeps the id by which another system knows the conversation."""


class MisnamedError(InboxdError):
    """`platformConversationId` does not name the account and the participant."""


class ConversationExistsError(InboxdError):
    """The conversation exists already."""


async def import_conversation(
    database: Database, event_log: EventLog, wanted: NewConversation, now: int, *, keep_foreign_id: bool = False
) -> Conversation:
    """Store a conversation and its participant, and record that it was created; `now` in ms.

    A `platformConversationId` of another system is kept in the metadata with `keep_foreign_id`, and refused without.
    Raises MisnamedError, ConversationExistsError and StorageError.
    """
    key, metadata = wanted.key, wanted.metadata
    if wanted.platform_conversation_id not in {None, key.platform_id}:
        if not keep_foreign_id:
            msg = f"'platformConversationId' must be {key.platform_id}, or left out"
            raise MisnamedError(msg)
        metadata = {FOREIGN_ID: wanted.platform_conversation_id, **metadata}

    def transaction(connection: sqlite3.Connection) -> Conversation | None:
        profiles.register(connection, key, wanted.participant_username, wanted.participant_profile_pic, now)
        created = conversations.create(
            connection, key, status=wanted.status, unread_count=wanted.unread_count, metadata=metadata, now=now
        )
        conversation = conversations.get_by_key(connection, key) if created else None
        if conversation is not None:
            record_conversation(connection, event_log, CREATED, conversation, now)
        return conversation

    conversation = await database.write(transaction)
    if conversation is None:
        msg = f"the conversation {key.platform_id} exists already"
        raise ConversationExistsError(msg)
    return conversation
