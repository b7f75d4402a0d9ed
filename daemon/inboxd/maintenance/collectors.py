"""Gauges of accounts and backfill, until their features have a `metrics.py` of their own."""

from inboxd.accounts.manager import AccountManager
from inboxd.runs.backfill.store import BackfillStore
from inboxd.runtime.clock import Clock
from inboxd.runtime.metrics import Metrics


async def collect_accounts(metrics: Metrics, accounts: AccountManager, clock: Clock) -> None:
    """Set the gauges of accounts, tokens and budgets."""
    now = clock.now_ms()
    gauges = (metrics.token_expiry, metrics.account_callable, metrics.subscribed)
    budget = (metrics.budget_used, metrics.budget_remaining, metrics.budget_paused, metrics.budget_slowed_by)
    for gauge in (*gauges, *budget):
        gauge.clear()  # accounts that are no longer served
    unreachable = False
    for account_id, served in accounts.served.items():
        account, report = served.account, served.graph.budget.report()
        metrics.account_callable.labels(account_id).set(account.callable)
        metrics.subscribed.labels(account_id).set("messages" in (account.subscribed_fields or ()))
        if account.token_expires_at is not None:
            metrics.token_expiry.labels(account_id).set((account.token_expires_at - now) / 1000)
        metrics.budget_used.labels(account_id).set(report.used)
        metrics.budget_remaining.labels(account_id).set(report.remaining)
        paused_s = 0 if report.paused_until is None else (report.paused_until - now) / 1000
        metrics.budget_paused.labels(account_id).set(paused_s)
        metrics.budget_slowed_by.labels(account_id).set(round(report.slowness, 2))
        unreachable |= report.unreachable_since is not None
    metrics.graph_unreachable.set(unreachable)


async def collect_backfills(metrics: Metrics, accounts: AccountManager, backfills: BackfillStore) -> None:
    """Set the gauges of the backfill runs under way. Raises StorageError."""
    gauge = metrics.backfill
    gauge.clear()
    for account_id in list(accounts.served):
        run = await backfills.active(account_id)
        if run is not None:
            gauge.labels(account_id, "total").set(run.total)
            gauge.labels(account_id, "success").set(run.success_count)
            gauge.labels(account_id, "error").set(run.error_count)
            gauge.labels(account_id, "skipped").set(run.skipped_count)
