"""Conversations and messages as the API has them."""

from collections.abc import Collection
from typing import Any, Self

import msgspec

from inboxd.conversations.store import StoredMessage
from inboxd.domain.conversation import Conversation
from inboxd.domain.message import Direction, Message, Source
from inboxd.domain.payload import is_shallow
from inboxd.domain.profile import ProfileState
from inboxd.domain.referral import Referral, referral_of
from inboxd.domain.reply_window import ReplyWindow
from inboxd.domain.waiting import Waiting
from inboxd.http.resource import EXAMPLE_ACCOUNT, EXAMPLE_AVATAR, EXAMPLE_PARTICIPANT, Resource, avatar_path, iso
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
    can_reply: bool
    """Whether somebody may answer now: anybody until `windowClosesAt`, and a human until `humanAgentUntil`."""
    window_closes_at: str | None
    """When the reply window closes, or closed. Null when the participant has never written."""
    human_agent_until: str | None
    """Until when a human may answer. Null for an account without the Human Agent feature."""
    automation_paused_until: str | None
    """Until when bots should be silent, because a human of the account answered from somewhere else."""

    @classmethod
    def of(
        cls, conversation: Conversation, accounts: Collection[str], waiting: Waiting | None = None, *, at: int
    ) -> Self:
        """The resource as of `at` (ms). `accounts` are the served ones; `waiting` is what the profile waits for."""
        pending = waiting is not None and conversation.profile_state is ProfileState.PENDING
        window = ReplyWindow.of(conversation)
        paused_until = conversation.automation_paused_until
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
            can_reply=conversation.key.account_id in accounts and window.can_reply(at),
            window_closes_at=iso(window.closes_at),
            human_agent_until=iso(window.human_agent_until),
            automation_paused_until=None if paused_until is None or paused_until <= at else iso_utc(paused_until),
        )

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            id="1",
            client_account_id=EXAMPLE_ACCOUNT,
            platform_conversation_id=f"{EXAMPLE_ACCOUNT}_{EXAMPLE_PARTICIPANT}",
            participant_platform_id=EXAMPLE_PARTICIPANT,
            participant_username="ana_x",
            participant_profile_pic="https://scontent.cdninstagram.com/v/t51/ana.jpg",
            participant_avatar=EXAMPLE_AVATAR,
            last_message_at="2026-09-21T14:13:26.000Z",
            unread_count=1,
            status="open",
            metadata={
                "participantName": "Ana X",
                "profileState": "complete",
                "profileReason": None,
                "accountConfigured": True,
                "answered": False,
            },
            created_at="2026-09-21T14:13:27.120Z",
            updated_at="2026-09-21T14:13:28.001Z",
            can_reply=True,
            window_closes_at="2026-09-22T14:13:26.000Z",
            human_agent_until=None,
            automation_paused_until=None,
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

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            source="ADS",
            type="OPEN_THREAD",
            ref="spring",
            ad_id="1200000000000001",
            ad_title="Spring sale",
            photo_url="https://lookaside.fbsbx.com/ads/spring.jpg",
            video_url=None,
            post_id=None,
            product_id=None,
            flow_id=None,
        )


def referral_in(details: object) -> ReferralResource | None:
    """The referral in the details of a message, which are Meta's; None when there is none."""
    referral = referral_of(details.get("referral")) if isinstance(details, dict) else None
    return ReferralResource.of(referral) if referral else None


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
    source: str
    """`webhook`; `history` when it was imported; `reconciled` when Meta did not deliver it and it was found later."""
    detail: str | None
    """`unavailable` when Meta lists the message, but does not let its details be read."""
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
        media = next((item for item in attachments if item.url), None)
        return cls(
            id=str(stored.id),
            conversation_id=str(conversation.id),
            platform_message_id=message.mid,
            sender_type="customer" if inbound else "user",
            sender_platform_id=message.sender_id or "",
            message_type=_type(message),
            content=message.text,
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
            edited_at=iso(message.current_edit.at if message.current_edit else None),
            deleted_at=iso(message.deleted_at),
            referral=referral_in(details),
            source=(Source.WEBHOOK if message.source is None else message.source).name.lower(),
            detail="unavailable" if message.direction is None and message.listed_at is not None else None,
            metadata={name: value for name, value in details.items() if is_shallow(value)},
            created_at=iso_utc(stored.created_at),
            updated_at=iso_utc(stored.updated_at),
        )

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            id="17",
            conversation_id="1",
            platform_message_id="aWdfZAG1faXRlbToxOjE3",
            sender_type="customer",
            sender_platform_id=EXAMPLE_PARTICIPANT,
            message_type="text",
            content="Do you have it in blue?",
            media_url=None,
            media_type=None,
            attachments=[],
            reactions=[
                ReactionResource(
                    by=EXAMPLE_ACCOUNT, reaction="love", emoji="\u2764\ufe0f", at="2026-09-21T14:14:02.000Z"
                )
            ],
            is_read=False,
            sent_at="2026-09-21T14:13:26.000Z",
            edited_at=None,
            deleted_at=None,
            source="webhook",
            detail=None,
            referral=ReferralResource.example(),
            metadata={
                "referral": {"ref": "spring", "ad_id": "1200000000000001", "source": "ADS", "type": "OPEN_THREAD"}
            },
            created_at="2026-09-21T14:13:27.120Z",
            updated_at="2026-09-21T14:14:02.310Z",
        )


class ConversationList(Resource, frozen=True):
    """A page of conversations, latest activity first, or in the order of their updates."""

    conversations: list[ConversationResource]
    total: int
    limit: int
    offset: int
    next_cursor: str | None

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            conversations=[ConversationResource.example()],
            total=1,
            limit=50,
            offset=0,
            next_cursor=None,
        )


class MessageList(Resource, frozen=True):
    """A page of messages, newest first."""

    messages: list[MessageResource]
    total: int
    limit: int
    offset: int
    next_cursor: str | None

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            messages=[MessageResource.example()],
            total=1,
            limit=50,
            offset=0,
            next_cursor=None,
        )


class FoundMessage(Resource, frozen=True):
    """A message, and its conversation."""

    message: MessageResource
    conversation: ConversationResource


class MessageSearch(Resource, frozen=True):
    """Messages of all conversations: found by their words, the latest first, or in the order in which they came."""

    results: list[FoundMessage]
    limit: int
    next_cursor: str | None

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            results=[FoundMessage(message=MessageResource.example(), conversation=ConversationResource.example())],
            limit=50,
            next_cursor="1790000007120.17",
        )


def _is_inbound(message: Message, conversation: Conversation) -> bool:
    if message.direction is not None:
        return message.direction is Direction.INBOUND
    key = conversation.key
    return message.sender_id == key.participant_id and key.participant_id != key.account_id


def _type(message: Message) -> str:
    if message.deleted_at is not None:
        return "deleted"
    return message.content.type if message.content else "text"
