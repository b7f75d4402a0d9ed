"""Conversations and messages as the API has them."""

from collections.abc import Collection, Mapping
from typing import Annotated, Any, Final, Self

import msgspec
from msgspec import Meta

from inboxd.conversations.store import StoredMessage
from inboxd.domain.conversation import Conversation, ConversationKey, ConversationStatus
from inboxd.domain.message import Direction, Message
from inboxd.domain.payload import PayloadForm, is_shallow, shown
from inboxd.domain.profile import ProfileState
from inboxd.domain.referral import Referral, referral_of
from inboxd.domain.waiting import Waiting
from inboxd.http.resource import MetaId, Resource, avatar_path, iso
from inboxd.runtime.clock import iso_utc


class ConversationResource(Resource, frozen=True):
    """A conversation. `metadata` holds what its owner put there, and what inboxd knows beyond the contract."""

    id: str
    client_account_id: str
    platform_conversation_id: str
    participant_platform_id: str
    participant_username: str | None
    participant_profile_pic: str | None
    participant_avatar: str | None
    last_message_at: str | None
    unread_count: int
    status: str
    metadata: dict[str, Any]
    created_at: str
    updated_at: str

    @classmethod
    def of(cls, conversation: Conversation, accounts: Collection[str], waiting: Waiting | None = None) -> Self:
        """The resource. `accounts` are the served ones; `waiting` is what the profile waits for."""
        pending = waiting is not None and conversation.profile_state is ProfileState.PENDING
        return cls(
            id=str(conversation.id),
            client_account_id=conversation.key.account_id,
            platform_conversation_id=conversation.key.platform_id,
            participant_platform_id=conversation.key.participant_id,
            participant_username=conversation.participant_username,
            participant_profile_pic=conversation.participant_profile_pic,
            participant_avatar=avatar_path(conversation.participant_avatar),
            last_message_at=iso(conversation.last_message_at),
            unread_count=conversation.unread_count,
            status=conversation.status.value,
            metadata={
                **conversation.metadata,
                "participantName": conversation.participant_name,
                "profileState": conversation.profile_state,
                "profileReason": waiting.text if waiting and pending else conversation.profile_reason,
                "accountConfigured": conversation.key.account_id in accounts,
                "answered": conversation.answered,
            },
            created_at=iso_utc(conversation.created_at),
            updated_at=iso_utc(conversation.updated_at),
        )


class AttachmentResource(Resource, frozen=True):
    """An attachment; view-once media and hearts have no URL."""

    type: str
    url: str | None
    title: str | None
    payload: dict[str, Any] | None


class ReactionResource(Resource, frozen=True):
    """What one person thinks of a message."""

    by: str
    reaction: str
    emoji: str | None
    at: str


class ReferralResource(Resource, frozen=True):
    """What led the participant here: an ad, a link with a `ref`, or a product of the shop."""

    source: str | None
    """`ADS`, `SHORTLINKS`, or another that Meta names."""
    type: str | None
    ref: str | None
    ad_id: str | None
    ad_title: str | None
    photo_url: str | None
    video_url: str | None
    post_id: str | None
    product_id: str | None
    flow_id: str | None

    @classmethod
    def of(cls, referral: Referral) -> Self:
        """The resource of a referral."""
        return cls(**msgspec.structs.asdict(referral))


class MessageResource(Resource, frozen=True):
    """A message. A deleted one keeps its place but has no content."""

    id: str
    conversation_id: str
    platform_message_id: str
    sender_type: str
    sender_platform_id: str
    message_type: str
    content: str | None
    media_url: str | None
    media_type: str | None
    attachments: list[AttachmentResource]
    reactions: list[ReactionResource]
    is_read: bool
    sent_at: str
    edited_at: str | None
    deleted_at: str | None
    referral: ReferralResource | None
    metadata: dict[str, Any]
    created_at: str
    updated_at: str

    @classmethod
    def of(cls, stored: StoredMessage, conversation: Conversation) -> Self:
        """The resource of a message of `conversation`."""
        message = stored.message
        inbound = _is_inbound(message, conversation)
        attachments = [
            AttachmentResource(
                type=item.type,
                url=item.url,
                title=item.title,
                payload=item.payload if is_shallow(item.payload) else None,
            )
            for item in (message.content.attachments if message.content else ())
        ]
        details = (message.content.details if message.content else None) or {}
        referral = referral_of(details.get("referral"))
        media = next((item for item in attachments if item.url), None)
        return cls(
            id=str(stored.id),
            conversation_id=str(conversation.id),
            platform_message_id=message.mid,
            sender_type="customer" if inbound else "user",
            sender_platform_id=message.sender_id or "",
            message_type=_type(message),
            content=_text(message),
            media_url=media.url if media else None,
            media_type=media.type if media else None,
            attachments=attachments,
            reactions=[
                ReactionResource(by=item.by, reaction=item.reaction, emoji=item.emoji, at=iso_utc(item.at))
                for item in message.reactions
                if item.reaction is not None
            ],
            is_read=conversation.is_read(inbound=inbound, sent_at=message.shown_at),
            sent_at=iso_utc(message.shown_at),
            edited_at=iso(message.edit.at if message.edit else None),
            deleted_at=iso(message.deleted_at),
            referral=ReferralResource.of(referral) if referral else None,
            metadata={name: value for name, value in details.items() if is_shallow(value)},
            created_at=iso_utc(stored.created_at),
            updated_at=iso_utc(stored.updated_at),
        )


class ConversationList(Resource, frozen=True):
    """A page of conversations, latest activity first, or in the order of their updates."""

    conversations: list[ConversationResource]
    total: int
    limit: int
    offset: int
    next_cursor: str | None


class MessageList(Resource, frozen=True):
    """A page of messages, newest first."""

    messages: list[MessageResource]
    total: int
    limit: int
    offset: int
    next_cursor: str | None


class FoundMessage(Resource, frozen=True):
    """A message, and its conversation."""

    message: MessageResource
    conversation: ConversationResource


class MessageSearch(Resource, frozen=True):
    """Messages of all conversations: found by their words, the latest first, or in the order in which they came."""

    results: list[FoundMessage]
    limit: int
    next_cursor: str | None


MAX_METADATA: Final = 65_536
Metadata = Annotated[
    dict[str, Any], Meta(max_length=100, description="At most 64 KiB of JSON, and not nested deeper than 50.")
]


class NewConversation(Resource, frozen=True, forbid_unknown_fields=True):
    """A conversation that is known from another system."""

    client_account_id: MetaId
    participant_platform_id: MetaId
    platform_conversation_id: Annotated[str, Meta(max_length=1024)] | None = None
    participant_username: Annotated[str, Meta(pattern=r"^\S(.*\S)?$(?!\n)", max_length=200)] | None = None
    participant_profile_pic: Annotated[str, Meta(min_length=1, max_length=2000)] | None = None
    unread_count: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    status: ConversationStatus = ConversationStatus.OPEN
    metadata: Metadata = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_metadata(self.metadata)

    @property
    def key(self) -> ConversationKey:
        """The natural key of the conversation."""
        return ConversationKey(self.client_account_id, self.participant_platform_id)


_IMPORT_FIELDS: Final = {
    name: field.encode_name
    for field in msgspec.structs.fields(NewConversation)
    for name in (field.name, field.encode_name)
}
IMPORT_REQUIRED: Final = tuple(field.encode_name for field in msgspec.structs.fields(NewConversation) if field.required)


def import_fields(row: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """The members of `row` that are fields of a NewConversation, by their camelCase names, and the names of the others.

    `row` may have the fields in camelCase or snake_case.
    """
    known = {_IMPORT_FIELDS[name]: value for name, value in row.items() if name in _IMPORT_FIELDS}
    return known, [name for name in row if name not in _IMPORT_FIELDS]


class NewImport(Resource, frozen=True, forbid_unknown_fields=True):
    """Conversations that are known from another system; each with the fields of a single one, also in snake_case."""

    conversations: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=1000)]


class ImportProblem(Resource, frozen=True):
    """A conversation that was left out; `row` counts from 1."""

    row: int
    error: str


class ImportReport(Resource, frozen=True):
    """What came of an import."""

    imported: int
    errors: list[ImportProblem]
    ignored: list[str]
    """Members that no conversation has: they were left out, wherever they stood."""


class ConversationChange(Resource, frozen=True, forbid_unknown_fields=True):
    """What to change about a conversation; what is left out stays."""

    status: ConversationStatus | None = None
    metadata: Metadata | None = None

    def __post_init__(self) -> None:
        if self.metadata is not None:
            _check_metadata(self.metadata)


def _check_metadata(metadata: dict[str, Any]) -> None:
    """Check metadata that would be in every list. Raises ValueError, from which msgspec makes a ValidationError."""
    try:
        encoded = msgspec.json.encode(metadata)
    except RecursionError:
        encoded = b""
    if shown(encoded).form is not PayloadForm.JSON:
        msg = "'metadata' is nested too deeply"
        raise ValueError(msg)
    if len(encoded) > MAX_METADATA:
        msg = f"'metadata' is larger than {MAX_METADATA} bytes of JSON"
        raise ValueError(msg)


def _is_inbound(message: Message, conversation: Conversation) -> bool:
    if message.direction is not None:
        return message.direction is Direction.INBOUND
    key = conversation.key
    return message.sender_id == key.participant_id and key.participant_id != key.account_id


def _type(message: Message) -> str:
    if message.deleted_at is not None:
        return "deleted"
    return message.content.type if message.content else "text"


def _text(message: Message) -> str | None:
    if message.edit is not None:
        return message.edit.text
    return message.content.text if message.content else None
