"""Outbound messages as the API has them."""

from typing import Self

from inboxd.domain.outbound import (
    OutboundAttachment,
    OutboundKind,
    OutboundState,
    PartState,
    QuickReply,
    ReasonCode,
    SentBy,
    Template,
)
from inboxd.http.resource import EXAMPLE_ACCOUNT, EXAMPLE_PARTICIPANT, Resource, iso
from inboxd.runtime.clock import iso_utc
from inboxd.sending.outbound import OutboundBody, OutboundPart, StoredOutbound


class OutboundPartResource(Resource, frozen=True):
    """One call to Meta."""

    state: PartState
    platform_message_id: str | None
    message_id: str | None
    """The message in the conversation, when it is there."""
    tag: str | None
    """`HUMAN_AGENT` when it was sent after the reply window."""
    attempts: int
    attempted_at: str | None
    """When the latest attempt began."""
    sent_at: str | None
    delivered_at: str | None

    @classmethod
    def of(cls, part: OutboundPart) -> Self:
        """The resource of a part."""
        return cls(
            state=part.state,
            platform_message_id=part.mid,
            message_id=None if part.message_id is None else str(part.message_id),
            tag=part.tag,
            attempts=part.attempts,
            attempted_at=iso(part.began_at),
            sent_at=iso(part.sent_at),
            delivered_at=iso(part.delivered_at),
        )


class OutboundResource(Resource, frozen=True):
    """A message in the outbox: what is to be sent, and what became of it."""

    id: str
    account_id: str
    conversation_id: str | None
    participant_platform_id: str | None
    """Null for a private reply while the author of the comment is not known."""
    comment_id: str | None
    kind: OutboundKind
    state: OutboundState
    reason: str | None
    """Why it waits, is unknown or failed."""
    reason_code: str | None
    """The same as a word for programs."""
    meta_code: int | None
    meta_subcode: int | None
    waits_for: str | None
    """The outbound message of the same conversation that has to be sent before."""
    waits_until: str | None
    """When it is looked at next, if it waits."""
    expires_at: str | None
    """When it fails unless it was sent before: the end of the reply window."""
    sent_by: SentBy
    requested_by: str
    """The name of the token that asked for it."""
    text: str | None
    attachments: tuple[OutboundAttachment, ...]
    quick_replies: tuple[QuickReply, ...]
    template: Template | None
    reply_to: str | None
    """The message that it answers."""
    parts: list[OutboundPartResource]
    created_at: str
    updated_at: str
    settled_at: str | None
    """When it was sent, failed or was canceled."""

    @classmethod
    def of(cls, one: StoredOutbound) -> Self:
        """The resource of an outbound message."""
        body = one.body or OutboundBody()
        behind = one.waits_for is not None
        waits = one.due_at is not None and (one.reason_code is not None or one.state is OutboundState.UNKNOWN)
        return cls(
            id=str(one.id),
            account_id=one.account_id,
            conversation_id=None if one.conversation_id is None else str(one.conversation_id),
            participant_platform_id=one.participant_id,
            comment_id=one.comment_id,
            kind=one.kind,
            state=one.state,
            reason=f"It waits for the message before it (outbound {one.waits_for})." if behind else one.reason,
            reason_code=ReasonCode.BEHIND if behind else one.reason_code,
            meta_code=one.meta_code,
            meta_subcode=one.meta_subcode,
            waits_for=None if one.waits_for is None else str(one.waits_for),
            waits_until=iso(one.due_at) if waits else None,
            expires_at=iso(one.expires_at),
            sent_by=one.sent_by,
            requested_by=one.requested_by,
            text=body.text,
            attachments=body.attachments,
            quick_replies=body.quick_replies,
            template=body.template,
            reply_to=body.reply_to,
            parts=[OutboundPartResource.of(part) for part in one.parts],
            created_at=iso_utc(one.created_at),
            updated_at=iso_utc(one.updated_at),
            settled_at=iso(one.settled_at),
        )

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            id="7",
            account_id=EXAMPLE_ACCOUNT,
            conversation_id="1",
            participant_platform_id=EXAMPLE_PARTICIPANT,
            comment_id=None,
            kind=OutboundKind.MESSAGE,
            state=OutboundState.SENT,
            reason=None,
            reason_code=None,
            meta_code=None,
            meta_subcode=None,
            waits_for=None,
            waits_until=None,
            expires_at="2026-09-22T14:13:26.000Z",
            sent_by=SentBy.HUMAN,
            requested_by="crm",
            text="Yes, in blue and in green.",
            attachments=(),
            quick_replies=(),
            template=None,
            reply_to="17",
            parts=[
                OutboundPartResource(
                    state=PartState.SENT,
                    platform_message_id="aWdfZAG1faXRlbToxOjE4",
                    message_id="18",
                    tag=None,
                    attempts=1,
                    attempted_at="2026-09-21T14:15:01.020Z",
                    sent_at="2026-09-21T14:15:01.470Z",
                    delivered_at=None,
                )
            ],
            created_at="2026-09-21T14:15:01.000Z",
            updated_at="2026-09-21T14:15:01.470Z",
            settled_at="2026-09-21T14:15:01.470Z",
        )


class OutboundList(Resource, frozen=True):
    """A page of outbound messages, the latest first."""

    outbound: list[OutboundResource]
    limit: int
    next_cursor: str | None

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(outbound=[OutboundResource.example()], limit=50, next_cursor=None)
