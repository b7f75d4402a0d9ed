"""The admin application: API, metrics and health, behind bearer tokens."""

from collections.abc import Sequence
from typing import Final

from aiohttp import web

from inboxd.clock import Clock
from inboxd.web.api.operations import OPERATIONS, Operation, add_operations
from inboxd.web.auth import AccessToken, bearer_middleware
from inboxd.web.connections import request_arrived
from inboxd.web.problems import Handler, problem_middleware

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


@web.middleware
async def _arrival_middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
    if not request.body_exists:
        request_arrived(request)
    try:
        return await handler(request)
    finally:
        request_arrived(request)
