"""`/metrics`, for Prometheus."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from aiohttp import web

from inboxd.accounts.manager import AccountManager
from inboxd.http.operations import Operation
from inboxd.runtime.clock import Clock
from inboxd.runtime.metrics import Metrics
from inboxd.runtime.supervisor import Supervisor
from inboxd.storage import backup

Collect = Callable[[], Awaitable[None]]
"""Sets the gauges of one feature."""


class MetricsApi:
    """`/metrics`: counters as they stand, and gauges that are read when somebody asks."""

    def __init__(
        self,
        metrics: Metrics,
        collectors: Sequence[Collect],
        accounts: AccountManager,
        supervisor: Supervisor,
        clock: Clock,
        *,
        database_path: Path,
        backup_folder: Path,
    ) -> None:
        self._metrics = metrics
        self._collectors = collectors
        self._accounts = accounts
        self._supervisor = supervisor
        self._clock = clock
        self._database_path = database_path
        self._backup_folder = backup_folder

    def operations(self) -> Sequence[Operation]:
        """What can be done."""
        return [Operation("GET", "/metrics", self.metrics, "system", {200: "text/plain"})]

    async def metrics(self, request: web.Request) -> web.Response:
        """The metrics in Prometheus's text format, or in that of OpenMetrics where it is asked for."""
        for collect in self._collectors:
            await collect()
        self._metrics.workers_parked.set(len(self._supervisor.parked))
        self._observe_accounts(self._clock.now_ms())
        await asyncio.to_thread(self._observe_disk)
        text, content_type = self._metrics.rendered(request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type})

    def _observe_accounts(self, now: int) -> None:
        metrics = self._metrics
        gauges = (metrics.token_expiry, metrics.account_callable, metrics.subscribed)
        budget = (metrics.budget_used, metrics.budget_remaining, metrics.budget_paused, metrics.budget_slowed_by)
        for gauge in (*gauges, *budget):
            gauge.clear()  # accounts that are no longer served
        unreachable = False
        for account_id, served in self._accounts.served.items():
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

    def _observe_disk(self) -> None:
        for kind, suffix in (("database", ""), ("wal", "-wal")):
            path = self._database_path.with_name(self._database_path.name + suffix)
            size = path.stat().st_size if path.exists() else 0
            self._metrics.database_bytes.labels(kind).set(size)
        self._metrics.disk_free_bytes.set(shutil.disk_usage(self._database_path.parent).free)
        made_at = backup.latest_at(self._backup_folder)
        self._metrics.last_backup.set(0 if made_at is None else made_at / 1000)
