"""The admin application: API, metrics and health, behind one bearer token."""

from aiohttp import web

from inboxd.metrics import CONTENT_TYPE, Metrics
from inboxd.secret import Secret
from inboxd.store.inbox import Inbox
from inboxd.web.api.conversations import ConversationsApi
from inboxd.web.api.deliveries import DeliveriesApi
from inboxd.web.auth import bearer_middleware
from inboxd.web.connections import request_arrived
from inboxd.web.health import Health
from inboxd.web.problems import Handler, problem_middleware


def admin_application(
    *,
    token: Secret | None,
    health: Health,
    conversations: ConversationsApi,
    deliveries: DeliveriesApi,
    inbox: Inbox,
    metrics: Metrics,
) -> web.Application:
    """All routes of the admin listener."""
    app = web.Application(middlewares=[_arrival_middleware, problem_middleware, bearer_middleware(token)])
    health.add_routes(app)
    conversations.add_routes(app)
    deliveries.add_routes(app)
    app.router.add_get("/metrics", _metrics_handler(metrics, inbox))
    return app


def _metrics_handler(metrics: Metrics, inbox: Inbox) -> Handler:
    async def handler(_request: web.Request) -> web.Response:
        count, age_s = await inbox.backlog()
        metrics.backlog.set(count)
        metrics.backlog_age.set(age_s)
        return web.Response(body=metrics.rendered(), headers={"Content-Type": CONTENT_TYPE})

    return handler


@web.middleware
async def _arrival_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    if not request.body_exists:
        request_arrived(request)
    try:
        return await handler(request)
    finally:
        request_arrived(request)
