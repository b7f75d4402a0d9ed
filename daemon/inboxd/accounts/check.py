"""Checks whether an account has everything that inboxd needs, and says how to get what is missing."""

import asyncio
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import Final, TypeVar

import msgspec

from inboxd.accounts.managed_account import ManagedAccount
from inboxd.accounts.manager import AccountManager
from inboxd.accounts.subscription import (
    COMMENT_FIELDS,
    missing_fields,
    read_fields,
    subscribe_comments,
    unsubscribe_comments,
    with_messages,
)
from inboxd.domain.account import Account, AccountChange, LoginType
from inboxd.domain.budget import Priority
from inboxd.domain.retry import FailureAction
from inboxd.meta.graph_errors import GraphError
from inboxd.runtime.clock import Clock, iso_utc
from inboxd.runtime.errors import InboxdError
from inboxd.runtime.secret import Secret

PATIENCE_S: Final = 20.0
"""How long each step of a check may take while a person waits. A check has three steps that call Meta."""
T = TypeVar("T")
TOOLS_ARE_OFF: Final = 2534041
_PERMISSIONS: Final = {
    LoginType.INSTAGRAM: "instagram_business_basic and instagram_business_manage_messages",
    LoginType.FACEBOOK: "instagram_basic, instagram_manage_messages and pages_manage_metadata",
}

_COMMENT_PERMISSIONS: Final = {
    LoginType.INSTAGRAM: "instagram_business_manage_comments",
    LoginType.FACEBOOK: "instagram_manage_comments and pages_read_engagement",
}


class CheckOutcome(StrEnum):
    """The result of one check."""

    OK = "ok"
    MISSING = "missing"
    UNKNOWN = "unknown"
    """It could not be checked now, or Meta does not say."""


class CheckResult(msgspec.Struct, frozen=True, rename="camel"):
    """One thing that was checked. `remedy` says how to get what is missing."""

    check: str
    outcome: CheckOutcome
    detail: str
    remedy: str | None = None


class WrongAccountError(InboxdError):
    """A token belongs to another account than the one it was given for."""


class AccountCheck:
    """Adds and checks accounts. Its calls count against the account's budget like all other calls.

    `last_message_at` takes an account's id and returns when its latest message was sent (ms), or None.
    """

    def __init__(
        self, accounts: AccountManager, clock: Clock, last_message_at: Callable[[str], Awaitable[int | None]]
    ) -> None:
        self._accounts = accounts
        self._clock = clock
        self._last_message_at = last_message_at

    async def add(
        self, token: Secret, login_type: LoginType, *, name: str = "", expected_id: str | None = None
    ) -> tuple[ManagedAccount, list[CheckResult]]:
        """Find the account that `token` belongs to, serve it, subscribe it, and report what is missing.

        Raises GraphError when Meta does not accept the token, and WrongAccountError when the token belongs to another
        account than `expected_id`.
        """
        owner = await _within(self._accounts.owner_of(token, login_type))
        if expected_id is not None and owner.id != expected_id:
            msg = f"the token belongs to the account {owner.id} ({owner.username}), not to {expected_id}"
            raise WrongAccountError(msg)
        managed = await self._accounts.add(token, login_type, owner, name)
        known = CheckResult("token", CheckOutcome.OK, f"belongs to {owner.username or owner.id}")
        return managed, [known, *await self._rest(managed)]

    async def check(self, managed: ManagedAccount) -> list[CheckResult]:
        """Check a served account."""
        used = managed.graph.token
        if used is None:
            return [_token_missing(managed.account.reason or "there is no token")]
        managed.graph.forgive()
        try:
            owner = await _within(managed.graph.owner(Priority.INTERACTIVE))
        except GraphError as error:
            return [_about_token(error)]
        if owner.id != managed.account.id:
            return [_token_missing(f"the token belongs to the account {owner.id}, not to {managed.account.id}")]
        accepted = await self._accounts.update(
            managed,
            cause=AccountChange.TOKEN_ACCEPTED,
            used=used,
            username=owner.username,
            app_scoped_id=owner.app_scoped_id or managed.account.app_scoped_id,
            page_id=owner.page_id or managed.account.page_id,
        )
        if not accepted:
            return [
                _token_missing(managed.account.reason or "the account changed while it was looked over; check again")
            ]
        expires_at = managed.account.token_expires_at
        until = f", until {iso_utc(expires_at)}" if expires_at is not None else ""
        known = CheckResult("token", CheckOutcome.OK, f"belongs to {owner.username or owner.id}{until}")
        return [known, *await self._rest(managed)]

    async def _rest(self, managed: ManagedAccount) -> list[CheckResult]:
        found = [await self._messages(managed), await self._subscription(managed)]
        if managed.account.wants_comments and found[-1].outcome is CheckOutcome.OK:
            found.append(await self._comments(managed))
        return [*found, await self._traffic(managed)]

    async def _messages(self, managed: ManagedAccount) -> CheckResult:
        try:
            await _within(managed.graph.read_messages(Priority.INTERACTIVE))
        except GraphError as error:
            if error.subcode == TOOLS_ARE_OFF:
                remedy = (
                    "In the Instagram app of the account: Settings > Messages and story replies > Message controls > "
                    "Connected tools: allow access to messages."
                )
                return CheckResult("messages", CheckOutcome.MISSING, str(error), remedy)
            if error.action is FailureAction.LACKS_PERMISSION:
                needed = _PERMISSIONS[managed.account.login_type]
                remedy = f"Grant {needed} when logging in; accounts without a role on the app need Advanced Access."
                return CheckResult("messages", CheckOutcome.MISSING, str(error), remedy)
            return CheckResult("messages", CheckOutcome.UNKNOWN, str(error), "Check again later.")
        return CheckResult("messages", CheckOutcome.OK, "the account's messages may be read")

    async def _subscription(self, managed: ManagedAccount) -> CheckResult:
        try:
            fields = await _within(
                _alone(managed, lambda: ensure_subscribed(self._accounts, managed, self._clock, Priority.INTERACTIVE))
            )
        except GraphError as error:
            if _may_pass(error):
                return CheckResult(
                    "subscription", CheckOutcome.UNKNOWN, str(error), "Nothing: it is looked after every hour."
                )
            needed = _PERMISSIONS[managed.account.login_type]
            return CheckResult("subscription", CheckOutcome.MISSING, str(error), f"Grant {needed}, then check again.")
        if "messages" not in fields:
            remedy = "In the App Dashboard, subscribe the app to the webhook field 'messages', then check again."
            return CheckResult(
                "subscription", CheckOutcome.MISSING, "the account is not subscribed to messages", remedy
            )
        return CheckResult("subscription", CheckOutcome.OK, "subscribed to " + ", ".join(fields))

    async def _comments(self, managed: ManagedAccount) -> CheckResult:
        try:
            await _within(_alone(managed, lambda: self._subscribe_comments(managed)))
        except GraphError as error:
            return CheckResult("comments", CheckOutcome.UNKNOWN, str(error), "Nothing: it is looked after every hour.")
        return comments_result(managed.account)

    async def _subscribe_comments(self, managed: ManagedAccount) -> None:
        if missing_fields(managed.account):
            await subscribe_comments(self._accounts, managed, self._clock, Priority.INTERACTIVE)

    async def unsubscribe_comments(self, managed: ManagedAccount) -> CheckResult:
        """Take comments and mentions out of the subscription, and say what came of it. Raises StorageError."""
        try:
            found = await _within(_alone(managed, lambda: self._unsubscribe_comments(managed)))
        except GraphError as error:
            detail = f"comments and mentions may still be subscribed: {error}"
            return CheckResult("comments", CheckOutcome.UNKNOWN, detail, "Switch comments off again later.")
        if found is None:
            return CheckResult("comments", CheckOutcome.OK, "nothing was unsubscribed: comments were switched on again")
        gone, left = found
        if left:
            detail = f"Meta took the call, and {', '.join(left)} is in the list afterwards"
            remedy = "Remove the fields from the app's webhooks in the App Dashboard."
            return CheckResult("comments", CheckOutcome.MISSING, detail, remedy)
        detail = f"unsubscribed from {', '.join(gone)}" if gone else "comments and mentions were not subscribed"
        return CheckResult("comments", CheckOutcome.OK, detail)

    async def _unsubscribe_comments(self, managed: ManagedAccount) -> tuple[list[str], list[str]] | None:
        """What `unsubscribe_comments` returns; None when comments are wanted again by now."""
        if managed.account.wants_comments:
            return None
        return await unsubscribe_comments(self._accounts, managed, self._clock, Priority.INTERACTIVE)

    async def _traffic(self, managed: ManagedAccount) -> CheckResult:
        """Check that webhooks arrive. Meta does not say whether the app is live, but a received message proves it."""
        last = await self._last_message_at(managed.account.id)
        if last is not None:
            return CheckResult("webhooks", CheckOutcome.OK, f"the latest message is of {iso_utc(last)}")
        remedy = (
            "Write to the account. If nothing arrives: in the App Dashboard the app must be Live, and its webhook must "
            "point to /webhooks/instagram of this daemon. Meta does not tell us either."
        )
        return CheckResult("webhooks", CheckOutcome.UNKNOWN, "no message has arrived yet", remedy)


async def ensure_subscribed(
    accounts: AccountManager, managed: ManagedAccount, clock: Clock, priority: Priority = Priority.LIVE
) -> tuple[str, ...]:
    """Subscribe the account if it is not subscribed. Read the fields back and store them. Raises GraphError.

    Call it with `ManagedAccount.subscribing` held.
    """
    fields = await read_fields(managed, priority)
    if "messages" not in fields:
        if "messages" in (managed.account.subscribed_fields or ()):  # stored first: to subscribe may fail
            await accounts.update(managed, subscribed_fields=fields)
        await managed.graph.subscribe(priority, fields=with_messages(managed.account, fields))
        fields = await read_fields(managed, priority)
    await accounts.update(managed, subscribed_fields=fields, subscription_checked_at=clock.now_ms())
    return fields


def comments_result(account: Account) -> CheckResult:
    """Whether the account gets its comments and mentions, as far as its last check tells."""
    missing = sorted(missing_fields(account))
    if not missing:
        return CheckResult("comments", CheckOutcome.OK, "subscribed to " + ", ".join(COMMENT_FIELDS))
    reasons = "; ".join(f"{name}: {account.refused_fields.get(name, 'not asked for yet')}" for name in missing)
    remedy = (
        f"Grant {_COMMENT_PERMISSIONS[account.login_type]}, tick these fields of the app's Instagram webhook in the "
        "App Dashboard, then check again. Until then such comments are missing."
    )
    return CheckResult("comments", CheckOutcome.MISSING, f"Meta does not subscribe the account to {reasons}", remedy)


def _may_pass(error: GraphError) -> bool:
    """Whether the same call may work later without any action by a person."""
    if error.action is FailureAction.RETRY_LATER:
        return not error.row.ambiguous
    return error.action is FailureAction.WAIT_FOR_BUDGET


async def _alone(managed: ManagedAccount, work: Callable[[], Awaitable[T]]) -> T:
    """Do `work` while nobody else reads or changes the subscription."""
    async with managed.subscribing:
        return await work()


async def _within(work: Awaitable[T]) -> T:
    """Wait for `work`, at most PATIENCE_S, because a person waits for it. Raises GraphError when that time is over."""
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await work
    except TimeoutError as error:
        msg = f"Meta did not answer within {PATIENCE_S:.0f} s"
        raise GraphError(msg, FailureAction.RETRY_LATER) from error


def _about_token(error: GraphError) -> CheckResult:
    if error.action is FailureAction.NEEDS_LOGIN:
        return _token_missing(str(error))
    if error.action is FailureAction.LACKS_PERMISSION:
        return CheckResult(
            "token", CheckOutcome.MISSING, str(error), "Log in again and grant every permission that is asked for."
        )
    return CheckResult("token", CheckOutcome.UNKNOWN, str(error), "Check again later.")


def _token_missing(detail: str) -> CheckResult:
    remedy = "Make a new token (App Dashboard > Instagram > API setup) and give it to 'inboxd account add'."
    return CheckResult("token", CheckOutcome.MISSING, detail, remedy)
