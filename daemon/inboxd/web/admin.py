"""The admin application: API, metrics and health, behind one bearer token."""

from aiohttp import web

from inboxd.clock import Clock
from inboxd.metrics import CONTENT_TYPE, Metrics
from inboxd.secret import Secret
from inboxd.store.inbox import Inbox
from inboxd.web.api.accounts import AccountsApi
from inboxd.web.api.conversations import ConversationsApi
from inboxd.web.api.deliveries import DeliveriesApi
from inboxd.web.api.participants import ParticipantsApi
from inboxd.web.auth import bearer_middleware
from inboxd.web.connections import request_arrived
from inboxd.web.health import Health
from inboxd.web.problems import Handler, problem_middleware
from inboxd.workers.accounts import Accounts


def admin_application(
    *,
    token: Secret | None,
    health: Health,
    conversations: ConversationsApi,
    deliveries: DeliveriesApi,
    participants: ParticipantsApi,
    accounts_api: AccountsApi,
    accounts: Accounts,
    clock: Clock,
    inbox: Inbox,
    metrics: Metrics,
) -> web.Application:
    """All routes of the admin listener."""
    app = web.Application(middlewares=[_arrival_middleware, problem_middleware, bearer_middleware(token)])
    health.add_routes(app)
    conversations.add_routes(app)
    deliveries.add_routes(app)
    participants.add_routes(app)
    accounts_api.add_routes(app)
    app.router.add_get("/metrics", _metrics_handler(metrics, inbox, accounts, clock))
    return app


def _metrics_handler(metrics: Metrics, inbox: Inbox, accounts: Accounts, clock: Clock) -> Handler:
    async def handler(_request: web.Request) -> web.Response:
        count, age_s = await inbox.backlog()
        metrics.backlog.set(count)
        metrics.backlog_age.set(age_s)
        _observe(metrics, accounts, clock.now_ms())
        return web.Response(body=metrics.rendered(), headers={"Content-Type": CONTENT_TYPE})

    return handler


def _observe(metrics: Metrics, accounts: Accounts, now: int) -> None:
    """How every account stands at this moment."""
    gauges = (metrics.token_expiry, metrics.account_callable, metrics.subscribed)
    for gauge in (*gauges, metrics.budget_used, metrics.budget_remaining, metrics.budget_paused):
        gauge.clear()  # accounts that are no longer served
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


@web.middleware
async def _arrival_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    if not request.body_exists:
        request_arrived(request)
    try:
        return await handler(request)
    finally:
        request_arrived(request)
