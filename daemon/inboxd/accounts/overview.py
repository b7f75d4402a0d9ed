"""The accounts on the overview page: their states, tokens, subscriptions and budgets."""

from collections.abc import Sequence

from inboxd.accounts.manager import AccountManager
from inboxd.domain.account import Account, AccountState
from inboxd.domain.budget import BudgetReport
from inboxd.feature import Card, Need, OverviewPart
from inboxd.runtime.clock import Clock, iso_utc


class AccountsOverview:
    """This feature's part of the overview."""

    def __init__(self, accounts: AccountManager, clock: Clock) -> None:
        self._accounts = accounts
        self._clock = clock

    async def read(self) -> OverviewPart:
        """Each account with its state and budget, and the problems of all."""
        managed = [self._accounts.served[account_id] for account_id in sorted(self._accounts.served)]
        context = {"accounts": [(one.account, one.graph.budget.report()) for one in managed]}
        needs = accounts_needs([one.account for one in managed], self._clock.now_ms())
        reports = [report for _, report in context["accounts"]]
        return OverviewPart(Card("accounts_card.html", context, position=20), [*outage_needs(reports), *needs])


def outage_needs(reports: Sequence[BudgetReport]) -> list[Need]:
    """That Meta does not answer, once for all accounts."""
    since = min((one.unreachable_since for one in reports if one.unreachable_since is not None), default=None)
    if since is None:
        return []
    text = (
        f"Meta has not answered since {iso_utc(since)}. It is asked again by itself; "
        "'inboxd doctor' says whether this machine is the cause."
    )
    return [Need(text, "/accounts", urgent=False, position=19)]


def accounts_needs(accounts: Sequence[Account], now: int) -> list[Need]:
    """The problems of the accounts that are served, at `now` (ms); or that none is."""
    if not accounts:
        return [Need("No account is served yet: inboxd account add", "/accounts", urgent=False, position=50)]
    return [need for account in accounts for need in account_needs(account, now)]


def account_needs(account: Account, now: int) -> list[Need]:
    """The account's problem at `now` (ms): the first found, in the order state, token, subscription."""
    name = account.display_name
    if account.state is not AccountState.ACTIVE:
        text = f"{name}: {account.reason or account.state.value}"
    elif account.expires_soon(now):
        text = f"{name}: its token ends at {iso_utc(account.token_expires_at or now)}."
    elif account.subscribed_fields is not None and "messages" not in account.subscribed_fields:
        text = f"{name}: it is not subscribed to messages, so none arrive."
    else:
        return []
    return [Need(text, "/accounts", position=20)]
