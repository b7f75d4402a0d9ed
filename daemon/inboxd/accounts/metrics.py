"""The metrics of accounts, their tokens and their budgets."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from inboxd.accounts.manager import AccountManager


class AccountMetrics:
    """The metrics of this feature. Label values are fixed words and the ids of served accounts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.token_refreshes = Counter(
            "inboxd_token_refreshes", "Token refreshes by outcome.", ["outcome"], registry=registry
        )
        for outcome in ("done", "failed"):
            self.token_refreshes.labels(outcome)
        self.subscriptions_lost = Counter(
            "inboxd_subscriptions_lost", "Accounts found without their subscription.", registry=registry
        )
        self._token_expiry = Gauge(
            "inboxd_token_expiry_seconds", "Time until a token ends.", ["account"], registry=registry
        )
        self._callable = Gauge(
            "inboxd_account_callable", "1 while the account may be asked about.", ["account"], registry=registry
        )
        self._subscribed = Gauge(
            "inboxd_account_subscribed", "1 while the account is subscribed.", ["account"], registry=registry
        )
        self._used = Gauge("inboxd_budget_used", "Graph calls of the last hour.", ["account"], registry=registry)
        self._remaining = Gauge(
            "inboxd_budget_remaining", "Graph calls left in this hour.", ["account"], registry=registry
        )
        self._paused = Gauge(
            "inboxd_budget_paused_seconds", "Time until calls may go on.", ["account"], registry=registry
        )
        self._slowed_by = Gauge(
            "inboxd_budget_slowed_by",
            "How many times longer the pause between two calls is, because of Meta's usage headers.",
            ["account"],
            registry=registry,
        )
        self._unreachable = Gauge("inboxd_graph_unreachable", "1 while Meta's host does not answer.", registry=registry)

    async def collect(self, accounts: AccountManager, now: int) -> None:
        """Set the gauges, for each request of `/metrics`. `now` is in ms."""
        budget = (self._used, self._remaining, self._paused, self._slowed_by)
        for gauge in (self._token_expiry, self._callable, self._subscribed, *budget):
            gauge.clear()  # of accounts that are no longer served
        unreachable = False
        for account_id, managed in accounts.served.items():
            account, report = managed.account, managed.graph.budget.report()
            self._callable.labels(account_id).set(account.callable)
            self._subscribed.labels(account_id).set("messages" in (account.subscribed_fields or ()))
            if account.token_expires_at is not None:
                self._token_expiry.labels(account_id).set((account.token_expires_at - now) / 1000)
            self._used.labels(account_id).set(report.used)
            self._remaining.labels(account_id).set(report.remaining)
            paused_s = 0 if report.paused_until is None else (report.paused_until - now) / 1000
            self._paused.labels(account_id).set(paused_s)
            self._slowed_by.labels(account_id).set(round(report.slowness, 2))
            unreachable |= report.unreachable_since is not None
        self._unreachable.set(unreachable)
