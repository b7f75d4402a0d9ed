"""What the API says, as types: camelCase on the wire, ISO 8601 in UTC."""

from collections.abc import Collection
from typing import Annotated, Any, Self

import msgspec
from msgspec import Meta

from inboxd.clock import iso_utc
from inboxd.domain.account import Account, Flavour
from inboxd.domain.backfill import DEFAULT_BATCH, MAX_BATCH, BackfillRun, RunStatus
from inboxd.domain.conversation import Conversation, ConversationKey, ConversationStatus
from inboxd.domain.message import Direction, Message
from inboxd.meta.budget import BudgetReport
from inboxd.store.backfills import Attempt, Batch
from inboxd.store.conversations import StoredMessage
from inboxd.store.events import StoredEvent
from inboxd.store.inbox import DeliverySummary
from inboxd.store.profiles import Participant
from inboxd.store.statistics import Statistics
from inboxd.workers.backfill import Estimate
from inboxd.workers.checkup import Finding
from inboxd.workers.registry import KnownConversation


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
    metadata: dict[str, Any]
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
    payload: dict[str, Any] | None


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
    metadata: dict[str, Any]
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
    next_cursor: str | None


class MessageList(Resource, frozen=True):
    """A page of messages, newest first."""

    messages: list[MessageResource]
    total: int
    limit: int
    offset: int
    next_cursor: str | None


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


class FoundMessage(Resource, frozen=True):
    """A message that was found, and where."""

    message: MessageResource
    conversation: ConversationResource


class MessageSearch(Resource, frozen=True):
    """Messages that were found, the latest stored first."""

    results: list[FoundMessage]
    limit: int
    next_cursor: str | None


MetaId = Annotated[str, Meta(pattern="^[0-9]{1,32}$")]
Metadata = Annotated[dict[str, Any], Meta(max_length=100)]


class NewConversation(Resource, frozen=True, forbid_unknown_fields=True):
    """A conversation that is known from another system."""

    client_account_id: MetaId
    participant_platform_id: MetaId
    platform_conversation_id: Annotated[str, Meta(max_length=70)] | None = None
    participant_username: Annotated[str, Meta(pattern=r"^\S(.*\S)?$", max_length=200)] | None = None
    participant_profile_pic: Annotated[str, Meta(min_length=1, max_length=2000)] | None = None
    unread_count: Annotated[int, Meta(ge=0, le=1_000_000)] = 0
    status: ConversationStatus = ConversationStatus.OPEN
    metadata: Metadata = {}

    def known(self) -> KnownConversation:
        """What it says, in our words."""
        return KnownConversation(
            key=ConversationKey(self.client_account_id, self.participant_platform_id),
            platform_id=self.platform_conversation_id,
            username=self.participant_username,
            profile_pic=self.participant_profile_pic,
            unread_count=self.unread_count,
            status=self.status,
            metadata=self.metadata,
        )


class NewImport(Resource, frozen=True, forbid_unknown_fields=True):
    """Conversations that are known from another system; each with the fields of a single one."""

    conversations: Annotated[list[dict[str, Any]], Meta(min_length=1, max_length=1000)]


class ImportProblem(Resource, frozen=True):
    """A conversation that was left out; `row` counts from 1."""

    row: int
    error: str


class ImportReport(Resource, frozen=True):
    """What came of an import."""

    imported: int
    errors: list[ImportProblem]


class ConversationChange(Resource, frozen=True, forbid_unknown_fields=True):
    """What to change about a conversation; what is left out stays."""

    status: ConversationStatus | None = None
    metadata: Metadata | None = None


class RetriedDeliveries(Resource, frozen=True):
    """How many deliveries are back in the queue."""

    retried: int


class EventResource(Resource, frozen=True):
    """An event that is no message and changes none, as it came."""

    id: str
    kind: str
    account_id: str
    participant_id: str | None
    happened_at: str | None
    reason: str | None
    delivery_id: str | None
    created_at: str
    payload: Any

    @classmethod
    def of(cls, event: StoredEvent, payload: msgspec.Raw) -> Self:
        """The resource of a kept event."""
        return cls(
            id=str(event.id),
            kind=event.kind,
            account_id=event.account_id,
            participant_id=event.participant_id,
            happened_at=_iso(event.happened_at),
            reason=event.reason,
            delivery_id=None if event.delivery_id is None else str(event.delivery_id),
            created_at=iso_utc(event.created_at),
            payload=payload,
        )


class EventList(Resource, frozen=True):
    """Kept events, the latest first; `kinds` counts all that are kept."""

    events: list[EventResource]
    kinds: dict[str, int]
    limit: int
    next_cursor: str | None


class StatisticsResource(Resource, frozen=True):
    """What there is of an account, in numbers."""

    account_id: str
    conversations: int
    unread_conversations: int
    unread_messages: int
    open_conversations: int
    last_message_at: str | None
    profiles: dict[str, int]

    @classmethod
    def of(cls, account_id: str, found: Statistics) -> Self:
        """The resource of an account's numbers."""
        return cls(
            account_id=account_id,
            conversations=found.conversations,
            unread_conversations=found.unread_conversations,
            unread_messages=found.unread_messages,
            open_conversations=found.open_conversations,
            last_message_at=_iso(found.last_message_at),
            profiles=found.profiles,
        )


class NewBackfill(Resource, frozen=True, forbid_unknown_fields=True):
    """A backfill to start."""

    account_id: Annotated[str, Meta(min_length=1, max_length=32)]
    batch_size: Annotated[int, Meta(ge=1, le=MAX_BATCH)] = DEFAULT_BATCH
    max_conversations: Annotated[int, Meta(ge=1, le=10_000_000)] | None = None
    dry_run: bool = False
    force: bool = False
    older_than_seconds: Annotated[int, Meta(ge=0, le=315_360_000)] = 86_400


class BackfillLinks(Resource, frozen=True, rename={"self_": "self"}):
    """Where a run is looked at and steered."""

    self_: str
    events: str
    pause: str
    resume: str
    cancel: str


class BackfillProblem(Resource, frozen=True):
    """A conversation of a run that got no profile."""

    conversation_id: str
    participant_platform_id: str
    outcome: str
    code: int | None
    error: str
    attempts: int
    at: str

    @classmethod
    def of(cls, attempt: Attempt) -> Self:
        """The resource of an attempt in vain."""
        return cls(
            conversation_id=str(attempt.conversation_id),
            participant_platform_id=attempt.participant_id,
            outcome=attempt.outcome.value,
            code=attempt.code,
            error=attempt.reason or "",
            attempts=attempt.attempts,
            at=iso_utc(attempt.at),
        )


class BackfillBatch(Resource, frozen=True):
    """One batch of a run."""

    number: int
    started_at: str
    finished_at: str
    success_count: int
    error_count: int
    skipped_count: int

    @classmethod
    def of(cls, batch: Batch) -> Self:
        """The resource of a batch."""
        return cls(
            number=batch.number,
            started_at=iso_utc(batch.started_at),
            finished_at=iso_utc(batch.finished_at),
            success_count=batch.success_count,
            error_count=batch.error_count,
            skipped_count=batch.skipped_count,
        )


class BackfillSummary(Resource, frozen=True):
    """A backfill run, and how it stands now. `duration` is in milliseconds, `ratePerMinute` over all of it."""

    job_id: str
    account_id: str
    status: str
    reason: str | None
    origin: str
    batch_size: int
    dry_run: bool
    success: bool | None
    total: int
    total_processed: int
    success_count: int
    error_count: int
    skipped_count: int
    duration: int
    rate_per_minute: float | None
    estimated_duration_seconds: int | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    links: BackfillLinks

    @classmethod
    def fields_of(cls, run: BackfillRun, estimate: Estimate, now: int, path: str) -> dict[str, Any]:
        """The values of a run at the moment `now`."""
        duration = run.duration_ms(now)
        address = f"{path}/{run.id}"
        return {
            "job_id": run.id,
            "account_id": run.account_id,
            "status": estimate.status.value,
            "reason": estimate.reason,
            "origin": run.origin,
            "batch_size": run.batch_size,
            "dry_run": run.dry_run,
            "success": run.status is RunStatus.COMPLETED and not run.error_count if run.status.finished else None,
            "total": run.total,
            "total_processed": run.processed,
            "success_count": run.success_count,
            "error_count": run.error_count,
            "skipped_count": run.skipped_count,
            "duration": duration,
            "rate_per_minute": round(run.processed * 60_000 / duration, 1) if duration and run.processed else None,
            "estimated_duration_seconds": None if estimate.eta_s is None else round(estimate.eta_s),
            "created_at": iso_utc(run.created_at),
            "started_at": _iso(run.started_at),
            "finished_at": _iso(run.finished_at),
            "links": BackfillLinks(
                self_=address,
                events=f"{address}/events",
                pause=f"{address}/pause",
                resume=f"{address}/resume",
                cancel=f"{address}/cancel",
            ),
        }


class BackfillResource(BackfillSummary, frozen=True):
    """A run with a page of its errors and the latest of its batches."""

    errors: list[BackfillProblem]
    limit: int
    offset: int
    batches: list[BackfillBatch]


class BackfillList(Resource, frozen=True):
    """Runs, the latest first."""

    backfills: list[BackfillSummary]
    total: int
    limit: int
    offset: int


class WorkerList(Resource, frozen=True):
    """What works in the background."""

    running: list[str]
    gave_up: bool
    deliveries_waiting: int
    oldest_waiting_seconds: float
    deliveries_failed: int
    profiles_due: int


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
            fetched_at=_iso(participant.fetched_at or None),
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
