"""What the API says, as types: camelCase on the wire, ISO 8601 in UTC."""

from collections.abc import Collection
from typing import Self

import msgspec

from inboxd.clock import iso_utc
from inboxd.domain.account import Account, Flavour
from inboxd.domain.conversation import Conversation
from inboxd.domain.message import Direction, Message
from inboxd.meta.budget import BudgetReport
from inboxd.store.conversations import StoredMessage
from inboxd.store.inbox import DeliverySummary
from inboxd.store.profiles import Participant
from inboxd.workers.checkup import Finding


class Resource(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Something the API gives out."""


def _iso(ms: int | None) -> str | None:
    return None if ms is None else iso_utc(ms)


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
    metadata: dict[str, object]
    created_at: str
    updated_at: str

    @classmethod
    def of(cls, conversation: Conversation, accounts: Collection[str]) -> Self:
        """The resource; `accounts` are the configured ones."""
        return cls(
            id=str(conversation.id),
            client_account_id=conversation.key.account_id,
            platform_conversation_id=conversation.key.platform_id,
            participant_platform_id=conversation.key.participant_id,
            participant_username=conversation.participant_username,
            participant_profile_pic=conversation.participant_profile_pic,
            participant_avatar=_avatar(conversation.participant_avatar),
            last_message_at=_iso(conversation.last_message_at),
            unread_count=conversation.unread_count,
            status=conversation.status.value,
            metadata={
                **conversation.metadata,
                "participantName": conversation.participant_name,
                "profileState": conversation.profile_state,
                "profileReason": conversation.profile_reason,
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
    payload: dict[str, object] | None


class ReactionResource(Resource, frozen=True):
    """What one person thinks of a message."""

    by: str
    reaction: str
    emoji: str | None
    at: str


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
    metadata: dict[str, object]
    created_at: str
    updated_at: str

    @classmethod
    def of(cls, stored: StoredMessage, conversation: Conversation) -> Self:
        """The resource of a message of `conversation`."""
        message = stored.message
        inbound = _is_inbound(message, conversation)
        at = message.timeline_at or message.noticed_at
        attachments = [
            AttachmentResource(type=item.type, url=item.url, title=item.title, payload=item.payload)
            for item in (message.content.attachments if message.content else ())
        ]
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
            is_read=conversation.is_read(inbound=inbound, sent_at=at),
            sent_at=iso_utc(at),
            edited_at=_iso(message.edit.at if message.edit else None),
            deleted_at=_iso(message.deleted_at),
            metadata=(message.content.details if message.content else None) or {},
            created_at=iso_utc(stored.created_at),
            updated_at=iso_utc(stored.updated_at),
        )


class ConversationList(Resource, frozen=True):
    """A page of conversations, latest activity first."""

    conversations: list[ConversationResource]
    total: int
    limit: int
    offset: int


class MessageList(Resource, frozen=True):
    """A page of messages, newest first."""

    messages: list[MessageResource]
    total: int
    limit: int
    offset: int


class DeliveryResource(Resource, frozen=True):
    """A delivery as received, and what became of it."""

    id: str
    state: str
    received_at: str
    settled_at: str | None
    attempts: int
    error: str | None
    size_bytes: int

    @classmethod
    def of(cls, delivery: DeliverySummary) -> Self:
        """The resource of a delivery."""
        return cls(
            id=str(delivery.id),
            state=delivery.state,
            received_at=iso_utc(delivery.received_at),
            settled_at=_iso(delivery.settled_at),
            attempts=delivery.attempts,
            error=delivery.error,
            size_bytes=delivery.size,
        )


class DeliveryList(Resource, frozen=True):
    """A page of deliveries, newest first."""

    deliveries: list[DeliveryResource]
    total: int
    limit: int
    offset: int


class FormerUsernameResource(Resource, frozen=True):
    """A username that a participant no longer has."""

    username: str
    until: str


class ParticipantResource(Resource, frozen=True):
    """A participant: what the User Profile API says, and how that knowledge stands."""

    client_account_id: str
    participant_platform_id: str
    profile_state: str
    username: str | None
    name: str | None
    profile_pic: str | None
    avatar: str | None
    follower_count: int | None
    is_verified_user: bool | None
    is_user_follow_business: bool | None
    is_business_follow_user: bool | None
    previous_usernames: list[FormerUsernameResource]
    reason: str | None
    attempts: int
    next_attempt_at: str | None
    fetched_at: str | None
    created_at: str
    updated_at: str

    @classmethod
    def of(cls, participant: Participant) -> Self:
        """The resource of a participant."""
        profile = participant.profile
        return cls(
            client_account_id=participant.key.account_id,
            participant_platform_id=participant.key.participant_id,
            profile_state=participant.state.value,
            username=profile.username if profile else None,
            name=profile.name if profile else None,
            profile_pic=profile.profile_pic if profile else None,
            avatar=_avatar(participant.avatar),
            follower_count=profile.follower_count if profile else None,
            is_verified_user=profile.is_verified_user if profile else None,
            is_user_follow_business=profile.is_user_follow_business if profile else None,
            is_business_follow_user=profile.is_business_follow_user if profile else None,
            previous_usernames=[
                FormerUsernameResource(username=former.username, until=iso_utc(former.until))
                for former in participant.previous_usernames
            ],
            reason=participant.reason,
            attempts=participant.attempts,
            next_attempt_at=_iso(participant.next_attempt_at),
            fetched_at=_iso(participant.fetched_at),
            created_at=iso_utc(participant.created_at),
            updated_at=iso_utc(participant.updated_at),
        )


class ParticipantList(Resource, frozen=True):
    """A page of participants."""

    participants: list[ParticipantResource]
    total: int
    limit: int
    offset: int


class BudgetResource(Resource, frozen=True):
    """How an account's budget of Graph API calls stands."""

    account_id: str
    allowance_per_hour: int
    used: int
    remaining: int
    waiting: int
    resets_at: str | None
    paused_until: str | None
    paused_reason: str | None
    slowed_by: float

    @classmethod
    def of(cls, account_id: str, report: BudgetReport) -> Self:
        """The resource of a budget."""
        return cls(
            account_id=account_id,
            allowance_per_hour=report.allowance,
            used=report.used,
            remaining=report.remaining,
            waiting=report.waiting,
            resets_at=_iso(report.resets_at),
            paused_until=_iso(report.paused_until),
            paused_reason=report.reason,
            slowed_by=round(report.slowness, 2),
        )


class BudgetList(Resource, frozen=True):
    """The budgets of all accounts."""

    budgets: list[BudgetResource]


class AccountResource(Resource, frozen=True):
    """An account that is served. Its token is never shown."""

    id: str
    name: str
    username: str | None
    flavour: str
    state: str
    reason: str | None
    app_scoped_id: str | None
    page_id: str | None
    configured: bool
    token_obtained_at: str | None
    token_expires_at: str | None
    subscribed_fields: list[str] | None
    subscription_checked_at: str | None
    created_at: str
    updated_at: str

    @classmethod
    def of(cls, account: Account) -> Self:
        """The resource of an account."""
        return cls(
            id=account.id,
            name=account.name,
            username=account.username,
            flavour=account.flavour.value,
            state=account.state.value,
            reason=account.reason,
            app_scoped_id=account.app_scoped_id,
            page_id=account.page_id,
            configured=account.configured,
            token_obtained_at=_iso(account.token_obtained_at),
            token_expires_at=_iso(account.token_expires_at),
            subscribed_fields=None if account.subscribed_fields is None else list(account.subscribed_fields),
            subscription_checked_at=_iso(account.subscription_checked_at),
            created_at=iso_utc(account.created_at),
            updated_at=iso_utc(account.updated_at),
        )


class AccountList(Resource, frozen=True):
    """All accounts that are served."""

    accounts: list[AccountResource]


class CheckedAccount(Resource, frozen=True):
    """An account, and what was found when it was looked over."""

    account: AccountResource
    findings: list[Finding]


class NewAccount(Resource, frozen=True, forbid_unknown_fields=True):
    """An account to be served: whose token it is, Meta tells. For an account that is served, it is its new token."""

    token: str
    flavour: Flavour = Flavour.INSTAGRAM
    name: str = ""


def _avatar(name: str | None) -> str | None:
    return None if name is None else f"/avatars/{name}"


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
