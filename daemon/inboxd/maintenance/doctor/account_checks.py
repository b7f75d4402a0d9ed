"""Checks of accounts: what the daemon found, what their budgets are, and what the database says without a daemon."""

from collections.abc import Iterator
from pathlib import Path

from inboxd.accounts import store as accounts
from inboxd.accounts.check import CheckOutcome, comments_result
from inboxd.accounts.resources import BudgetResource, CheckedAccount
from inboxd.accounts.subscription import missing_fields
from inboxd.domain.account import Account
from inboxd.domain.budget import times_slower
from inboxd.maintenance.doctor.diagnosis import Diagnosis, Severity
from inboxd.reconciliation.resources import CompletenessResource
from inboxd.runtime.clock import Clock, iso_utc
from inboxd.runtime.errors import (
    InboxdError,
)
from inboxd.runtime.plural import counted
from inboxd.storage.database import open_for_reading


def account_diagnoses(checked: CheckedAccount) -> Iterator[Diagnosis]:
    """What the daemon's check of an account found."""
    name = f"account {checked.account.id}"
    healths = {
        CheckOutcome.OK: Severity.OK,
        CheckOutcome.UNKNOWN: Severity.WARNING,
        CheckOutcome.MISSING: Severity.WRONG,
    }
    for finding in checked.findings:
        detail = f"{finding.check}: {finding.detail}"
        yield Diagnosis(name, healths[finding.outcome], detail, finding.remedy)


def completeness_diagnosis(found: CompletenessResource) -> Diagnosis:
    """Whether everything that Meta has of an account is here."""
    name, detail = f"account {found.account_id}", f"complete: {found.summary}"
    remedy = "See 'Meta does not deliver all messages' in docs/operations.md."
    if found.is_undelivered:
        detail = f"complete: no webhook since {found.undelivered_since} although its conversations go on"
        remedy = "See 'No deliveries although conversations go on' in docs/operations.md: the proxy, the certificate."
        return Diagnosis(name, Severity.WRONG, detail, remedy)
    if found.error is not None or found.is_stale:
        since = "" if found.checked_at is None else f" since {found.checked_at}"
        detail = f"complete: not compared with Meta{since}" + (f": {found.error}" if found.error else "")
        return Diagnosis(name, Severity.WARNING, detail, f"inboxd account check {found.account_id}")
    if found.is_poor or found.conversations_failed:
        failed = f"; {counted(found.conversations_failed, 'conversation')} cannot be read"
        return Diagnosis(name, Severity.WARNING, detail + (failed if found.conversations_failed else ""), remedy)
    return Diagnosis(name, Severity.OK, detail)


def outage_diagnosis(budget: BudgetResource) -> Diagnosis:
    """That Meta does not answer, said once for all accounts."""
    detail = f"Meta has not answered since {budget.unreachable_since}"
    remedy = (
        "Nothing, if it is Meta's: it is asked again every half minute, and answers and names that wait go on then. "
        "If 'graph' above is wrong too, look at this machine's network, name resolution and clock."
    )
    return Diagnosis("meta", Severity.WRONG, detail, remedy)


def budget_diagnosis(budget: BudgetResource) -> Diagnosis:
    """How many calls an account has left."""
    name, left = f"account {budget.account_id}", f"{budget.remaining} of {budget.allowance_per_hour} calls are left"
    remedy = (
        "Nothing: it goes on by itself. If Meta throttles you every day, lower budget.calls_per_hour. "
        "If it restricts the account, look into the account's and the app's alerts at Meta."
    )
    if budget.unreachable_since is None and budget.paused_until is not None:
        detail = f"budget: no calls until {budget.paused_until}: {budget.paused_reason}"
        return Diagnosis(name, Severity.WARNING, detail, remedy)
    if budget.slowed_by > 1:
        why = "Meta says that its allowance runs out"
        detail = f"budget: {left}, {times_slower(budget.slowed_by)} until {budget.slowed_until}: {why}"
        return Diagnosis(name, Severity.WARNING, detail, remedy)
    return Diagnosis(name, Severity.OK, f"budget: {left}")


async def stored_accounts(database: Path) -> list[Account]:
    """The accounts in the database; none if it cannot be read, which `check_storage` reports."""
    try:
        async with open_for_reading(database) as connection:
            return [one.account for one in await accounts.stored(connection.read)]
    except (InboxdError, OSError):
        return []  # check_storage reports it


def stored_account_diagnosis(account: Account) -> Diagnosis:
    """What the database says of an account while no daemon runs."""
    name = f"account {account.id}"
    if not account.callable:
        return Diagnosis(name, Severity.WRONG, account.reason or account.state.value, "inboxd account add")
    if account.expires_soon(Clock().now_ms()):
        detail = f"its token ends at {iso_utc(account.token_expires_at or 0)}"
        return Diagnosis(name, Severity.WARNING, detail, "Start the daemon: it refreshes tokens.")
    if "messages" not in (account.subscribed_fields or ()):
        return Diagnosis(name, Severity.WARNING, "not known to be subscribed", "Start the daemon: it subscribes.")
    if account.wants_comments and missing_fields(account):
        result = comments_result(account)
        return Diagnosis(name, Severity.WARNING, f"{result.check}: {result.detail}", result.remedy)
    return Diagnosis(name, Severity.OK, f"{account.state.value} and subscribed when last seen")
