"""What the events of conversations and messages contain, and how it is shown."""

from collections.abc import Callable, Collection
from functools import partial
from typing import Any, Final, Literal

import msgspec
from msgspec import UNSET, UnsetType

from inboxd.conversations.resources import ConversationResource, MessageResource, ReactionResource
from inboxd.conversations.store import MAX_JSON, MAX_TEXT, StoredMessage, of_snapshot
from inboxd.domain.conversation import Conversation
from inboxd.domain.event import StoredEvent
from inboxd.domain.message import Content, Message, Reaction
from inboxd.http.resource import Resource, avatar_path
from inboxd.runtime.clock import iso_utc


class EventParticipant(Resource, frozen=True, kw_only=True):
    """The person of a conversation, as far as they were known then."""

    participant_platform_id: str
    username: str | None
    name: str | None
    profile_pic: str | None
    avatar: str | None
    profile_state: str | None

    @classmethod
    def of(cls, conversation: Conversation) -> "EventParticipant":
        """The participant of a conversation."""
        return cls(
            participant_platform_id=conversation.key.participant_id,
            username=conversation.participant_username,
            name=conversation.participant_name,
            profile_pic=conversation.participant_profile_pic,
            avatar=avatar_path(conversation.participant_avatar),
            profile_state=conversation.profile_state,
        )


class ConversationEventData(Resource, frozen=True, kw_only=True):
    """A conversation. In a log of ids only, `conversation` and `participant` are absent."""

    conversation_id: str
    participant_platform_id: str
    conversation: ConversationResource | UnsetType = UNSET
    participant: EventParticipant | UnsetType = UNSET


class MessageEventData(ConversationEventData, frozen=True, kw_only=True):
    """A message, as it was after the event. In a log of ids only, `message` is absent too.

    A read or a reaction may come before its message. Then `messageId` is null and `message` is absent:
    `platformMessageId` says which it is.
    """

    message_id: str | None
    platform_message_id: str
    message: MessageResource | UnsetType = UNSET


class ReactionEventData(MessageEventData, frozen=True, kw_only=True):
    """A reaction that was added or removed. In a log of ids only, `reaction` is absent."""

    reaction: ReactionResource | UnsetType = UNSET


class ReadEventData(MessageEventData, frozen=True, kw_only=True):
    """A read. All messages before this one have been read too."""

    read_by: Literal["participant", "account"]


class KeptData(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the log keeps of such an event. A log of ids only has no message, conversation or reaction."""

    mid: str = ""
    """Only set when there is no message."""
    message: Message | None = None
    created_at: int = 0
    """When the message was first stored (ms)."""
    conversation: Any = None
    """The conversation's row, as a JSON array (`store.snapshots`)."""
    reaction: Reaction | None = None
    read_by: Literal["participant", "account"] | None = None


def shortened(message: Message) -> Message:
    """The message as far as readers of conversations are shown it: a long text is cut, large parts are left out."""
    content, edit = message.content, message.edit
    if content is not None:
        text = None if content.text is None else content.text[:MAX_TEXT]
        attachments = () if _is_large(content.attachments) else content.attachments
        details = None if _is_large(content.details) else content.details
        content = Content(type=content.type, text=text, attachments=attachments, details=details)
    if edit is not None:
        edit = msgspec.structs.replace(edit, text=edit.text[:MAX_TEXT])
    return msgspec.structs.replace(message, content=content, edit=edit)


def _is_large(part: object) -> bool:
    return len(msgspec.json.encode(part)) > MAX_JSON


_load: Final = msgspec.json.Decoder(KeptData).decode


def renderer(data: type[ConversationEventData], accounts: Collection[str]) -> Callable[[StoredEvent], Resource]:
    """Renders events of the type `data`. `accounts` are the ids of the served accounts."""
    return partial(_render, data, accounts)


def _render(data: type[ConversationEventData], accounts: Collection[str], event: StoredEvent) -> Resource:
    kept = _load(event.data)
    conversation = None if kept.conversation is None else of_snapshot(kept.conversation)
    members: dict[str, Any] = {
        "conversation_id": str(event.conversation_id),
        "participant_platform_id": event.participant_id or "",
    }
    if conversation is not None:
        members["conversation"] = ConversationResource.of(conversation, accounts, at=event.recorded_at)
        members["participant"] = EventParticipant.of(conversation)
    if issubclass(data, MessageEventData):
        members |= _message_members(event, kept, conversation)
    if issubclass(data, ReactionEventData) and kept.reaction is not None:
        members["reaction"] = reaction_resource(kept.reaction)
    if issubclass(data, ReadEventData):
        members["read_by"] = kept.read_by
    return data(**members)


def _message_members(event: StoredEvent, kept: KeptData, conversation: Conversation | None) -> dict[str, Any]:
    message = kept.message
    members: dict[str, Any] = {
        "message_id": None if event.message_id is None else str(event.message_id),
        "platform_message_id": kept.mid if message is None else message.mid,
    }
    if message is not None and conversation is not None and event.message_id is not None:
        stored = StoredMessage(event.message_id, kept.created_at, event.recorded_at, message)
        members["message"] = MessageResource.of(stored, conversation)
    return members


def reaction_resource(reaction: Reaction) -> ReactionResource:
    """A reaction, as readers see it."""
    return ReactionResource(
        by=reaction.by, reaction=reaction.reaction or "", emoji=reaction.emoji, at=iso_utc(reaction.at)
    )
