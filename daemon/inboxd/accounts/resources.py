"""Accounts and budgets, as the API says them."""

from http import HTTPStatus
from typing import NamedTuple, Self

import msgspec
from msgspec import UNSET, UnsetType

from inboxd.accounts.check import CheckOutcome, CheckResult
from inboxd.domain.account import Account, LoginType
from inboxd.domain.budget import BudgetReport
from inboxd.http.problems import ProblemError
from inboxd.http.resource import EXAMPLE_ACCOUNT, Resource, iso
from inboxd.runtime.clock import iso_utc


class AccountStatistics(NamedTuple):
    """What there is of an account. `last_message_at` in ms."""

    conversations: int
    unread_conversations: int
    unread_messages: int
    open_conversations: int
    last_message_at: int | None
    profiles: dict[str, int]
    """Participants by the state of their profile."""


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
    def of(cls, account_id: str, found: AccountStatistics) -> Self:
        """The resource of an account's numbers."""
        return cls(
            account_id=account_id,
            conversations=found.conversations,
            unread_conversations=found.unread_conversations,
            unread_messages=found.unread_messages,
            open_conversations=found.open_conversations,
            last_message_at=iso(found.last_message_at),
            profiles=found.profiles,
        )

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            account_id=EXAMPLE_ACCOUNT,
            conversations=1204,
            unread_conversations=17,
            unread_messages=23,
            open_conversations=311,
            last_message_at="2026-09-21T14:13:26.000Z",
            profiles={"complete": 1187, "pending": 9, "no_consent": 8},
        )


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
    slowed_until: str | None
    unreachable_since: str | None = None

    @classmethod
    def of(cls, account_id: str, report: BudgetReport) -> Self:
        """The resource of a budget."""
        return cls(
            account_id=account_id,
            allowance_per_hour=report.allowance,
            used=report.used,
            remaining=report.remaining,
            waiting=report.waiting,
            resets_at=iso(report.resets_at),
            paused_until=iso(report.paused_until),
            paused_reason=report.reason,
            slowed_by=round(report.slowness, 2),
            slowed_until=iso(report.slowed_until),
            unreachable_since=iso(report.unreachable_since),
        )

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            account_id=EXAMPLE_ACCOUNT,
            allowance_per_hour=200,
            used=42,
            remaining=158,
            waiting=0,
            resets_at="2026-09-21T14:41:10.000Z",
            paused_until=None,
            paused_reason=None,
            slowed_by=1.0,
            slowed_until=None,
        )


class BudgetList(Resource, frozen=True):
    """The budgets of all accounts."""

    budgets: list[BudgetResource]

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            budgets=[BudgetResource.example()],
        )


class AccountResource(Resource, frozen=True):
    """An account that is served. Its token is never shown."""

    id: str
    name: str
    username: str | None
    login_type: str
    flavour: str
    """The older name of `loginType`."""
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
    human_agent: bool = False
    """Whether Meta approved the Human Agent feature for it: humans may answer for seven days, not one."""
    human_agent_refused_at: str | None = None
    """When Meta last said that the feature is missing."""
    comments: bool = False
    """Whether to subscribe to comments, live comments and mentions."""
    refused_fields: dict[str, str] = msgspec.field(default_factory=dict)
    """The webhook fields of these that Meta refused, each with the reason. They are asked for again every day."""

    @classmethod
    def of(cls, account: Account) -> Self:
        """The resource of an account."""
        return cls(
            id=account.id,
            name=account.name,
            username=account.username,
            login_type=account.login_type.value,
            flavour=account.login_type.value,
            state=account.state.value,
            reason=account.reason,
            app_scoped_id=account.app_scoped_id,
            page_id=account.page_id,
            configured=account.configured,
            token_obtained_at=iso(account.token_obtained_at),
            token_expires_at=iso(account.token_expires_at),
            subscribed_fields=None if account.subscribed_fields is None else list(account.subscribed_fields),
            subscription_checked_at=iso(account.subscription_checked_at),
            created_at=iso_utc(account.created_at),
            updated_at=iso_utc(account.updated_at),
            human_agent=account.human_agent,
            human_agent_refused_at=iso(account.human_agent_refused_at),
            comments=account.wants_comments,
            refused_fields=account.refused_fields if account.wants_comments else {},
        )

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            id=EXAMPLE_ACCOUNT,
            name="shop",
            username="the_shop",
            login_type="instagram",
            flavour="instagram",
            state="active",
            reason=None,
            app_scoped_id="26000000000000001",
            page_id=None,
            configured=False,
            token_obtained_at="2026-09-01T08:00:00.000Z",  # noqa: S106 - a time
            token_expires_at="2026-10-31T08:00:00.000Z",  # noqa: S106 - a time
            subscribed_fields=[
                "messages",
                "message_reactions",
                "messaging_postbacks",
                "messaging_seen",
                "messaging_referral",
            ],
            subscription_checked_at="2026-09-21T14:00:00.000Z",
            created_at="2026-09-01T08:00:00.000Z",
            updated_at="2026-09-21T14:00:00.000Z",
        )


class AccountList(Resource, frozen=True):
    """All accounts that are served."""

    accounts: list[AccountResource]

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            accounts=[AccountResource.example()],
        )


class ChangedAccount(AccountResource, frozen=True):
    """An account after a change of what may be chosen about it."""

    findings: list[CheckResult] = msgspec.field(default_factory=list)
    """What came of it at Meta: when comments are switched off, whether they were unsubscribed."""


class CheckedAccount(Resource, frozen=True):
    """An account, and what was found when it was looked over."""

    account: AccountResource
    findings: list[CheckResult]

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            account=AccountResource.example(),
            findings=[
                CheckResult(
                    check="token", outcome=CheckOutcome.OK, detail="Meta accepts it, until 2026-10-31T08:00:00.000Z"
                ),
            ],
        )


class AccountSettings(Resource, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What to change about an account. What is left out stays."""

    human_agent: bool | UnsetType = UNSET
    """Whether Meta approved the Human Agent feature for it: humans may answer for seven days, not one."""
    comments: bool | UnsetType = UNSET
    """Whether to subscribe to comments, live comments and mentions."""


class NewAccount(Resource, frozen=True, forbid_unknown_fields=True):
    """An account to be served: whose token it is, Meta tells. For an account that is served, it is its new token."""

    token: str
    login_type: LoginType | UnsetType = UNSET
    """Which of Meta's two products the token is for; `instagram` unless said otherwise."""
    flavour: LoginType | UnsetType = UNSET
    """The older name of `loginType`."""
    name: str = ""

    def wanted_login_type(self) -> LoginType:
        """The login type, by whichever name it was given. Raises ProblemError when both names say different things."""
        if self.flavour is UNSET or self.flavour is self.login_type:
            return LoginType.INSTAGRAM if self.login_type is UNSET else self.login_type
        if self.login_type is UNSET:
            return self.flavour
        raise ProblemError(
            HTTPStatus.UNPROCESSABLE_ENTITY, "'loginType' and 'flavour' are two names of one thing: give one of them."
        )
