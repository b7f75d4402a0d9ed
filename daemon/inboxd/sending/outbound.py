"""Outbound messages as they are stored."""

import msgspec

from inboxd.domain.conversation import ConversationKey
from inboxd.domain.outbound import (
    OutboundAttachment,
    OutboundKind,
    OutboundState,
    PartContent,
    PartState,
    QuickReply,
    SentBy,
    Template,
)
from inboxd.runtime.errors import InboxdError


class OutboundBody(
    msgspec.Struct, frozen=True, kw_only=True, rename="camel", omit_defaults=True, forbid_unknown_fields=True
):
    """What somebody asked to be sent, as they asked for it."""

    text: str | None = None
    attachments: tuple[OutboundAttachment, ...] = ()
    quick_replies: tuple[QuickReply, ...] = ()
    template: Template | None = None
    reply_to: str | None = None
    """The id of our message that it answers."""


class NewOutbound(msgspec.Struct, frozen=True, kw_only=True):
    """An outbound message that is to be accepted. Its content is checked already. Times in ms."""

    kind: OutboundKind
    account_id: str
    participant_id: str | None
    comment_id: str | None = None
    sent_by: SentBy
    body: OutboundBody
    parts: tuple[PartContent, ...]
    requested_by: str
    """The name of the token."""
    idempotency_key: str | None = None
    fingerprint: bytes | None = None
    """Of the request that brought the key."""
    expires_at: int | None = None


class OutboundPart(msgspec.Struct, frozen=True, array_like=True):
    """One call of the Send API. Times in ms. Events keep it: a new member goes to the end, with a default."""

    id: int
    position: int
    state: PartState
    content: PartContent | None
    """None after an erasure."""
    attempts: int
    began_at: int | None
    tag: str | None
    mid: str | None
    sent_at: int | None
    delivered_at: int | None
    message_id: int | None
    """The message in the conversation, when it is there."""


class StoredOutbound(msgspec.Struct, frozen=True, array_like=True):
    """An outbound message with its parts. Times in ms. Events keep it: a new member goes to the end, with a default."""

    id: int
    account_id: str
    kind: OutboundKind
    participant_id: str | None
    comment_id: str | None
    lane: str
    state: OutboundState
    holds: bool
    due_at: int | None
    sent_by: SentBy
    body: OutboundBody | None
    """None after an erasure."""
    requested_by: str
    idempotency_key: str | None
    expires_at: int | None
    reason_code: str | None
    reason: str | None
    meta_code: int | None
    meta_subcode: int | None
    created_at: int
    updated_at: int
    settled_at: int | None
    conversation_id: int | None
    """The conversation, if it exists."""
    waits_for: int | None
    """The outbound message of the same lane for which it waits."""
    parts: tuple[OutboundPart, ...]

    @property
    def key(self) -> ConversationKey | None:
        """Its conversation. None while the author of a comment is not known."""
        return None if self.participant_id is None else ConversationKey(self.account_id, self.participant_id)


class OutboundConflictError(InboxdError):
    """The request contradicts what is stored; the message says how."""

    def __init__(self, message: str, *, outbound_id: int | None = None) -> None:
        super().__init__(message)
        self.outbound_id = outbound_id
        """The outbound message that is in the way."""


class OutboxFullError(InboxdError):
    """Too many messages wait to be sent."""


class UnknownCommentError(InboxdError):
    """There is no such comment."""


class NotNowError(InboxdError):
    """The outbound message is not in a state for this; the message says what to do."""


class WindowClosedError(InboxdError):
    """The participant cannot be answered now; the message says since when."""
