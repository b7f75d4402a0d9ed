"""The admin application: API, metrics and health, behind bearer tokens."""

from collections.abc import Sequence
from typing import Final

from aiohttp import web

from inboxd.clock import Clock
from inboxd.metrics import CONTENT_TYPE, Metrics
from inboxd.store.inbox import Inbox
from inboxd.web.api.operations import OPERATIONS, Operation, add_operations
from inboxd.web.auth import AccessToken, bearer_middleware
from inboxd.web.connections import request_arrived
from inboxd.web.problems import Handler, problem_middleware
from inboxd.workers.accounts import Accounts

MAX_BODY_BYTES: Final = 1024 * 1024


def admin_application(
    tokens: Sequence[AccessToken], operations: Sequence[Operation], clock: Clock, *, max_failures: int
) -> web.Application:
    """All routes of the admin listener."""
    open_paths = {operation.path for operation in operations if operation.open}
    middlewares = [
        _arrival_middleware,
        problem_middleware,
        bearer_middleware(tokens, open_paths, clock, max_failures=max_failures),
    ]
    app = web.Application(middlewares=middlewares, client_max_size=MAX_BODY_BYTES)
    app[OPERATIONS] = []
    add_operations(app, operations)
    return app


class MetricsPage:
    """`/metrics`, for Prometheus."""

    def __init__(self, metrics: Metrics, inbox: Inbox, accounts: Accounts, clock: Clock) -> None:
        self._metrics = metrics
        self._inbox = inbox
        self._accounts = accounts
        self._clock = clock

    def operations(self) -> Sequence[Operation]:
        """What can be done."""
        return [Operation("GET", "/metrics", self.metrics, "system", {200: "application/openmetrics-text"})]

    async def metrics(self, _request: web.Request) -> web.Response:
        """The metrics in the OpenMetrics text format."""
        count, age_s = await self._inbox.backlog()
        self._metrics.backlog.set(count)
        self._metrics.backlog_age.set(age_s)
        self._observe(self._clock.now_ms())
        return web.Response(body=self._metrics.rendered(), headers={"Content-Type": CONTENT_TYPE})

    def _observe(self, now: int) -> None:
        """How every account stands at this moment."""
        metrics = self._metrics
        gauges = (metrics.token_expiry, metrics.account_callable, metrics.subscribed)
        for gauge in (*gauges, metrics.budget_used, metrics.budget_remaining, metrics.budget_paused):
            gauge.clear()  # accounts that are no longer served
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


@web.middleware
async def _arrival_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    if not request.body_exists:
        request_arrived(request)
    try:
        return await handler(request)
    finally:
        request_arrived(request)
