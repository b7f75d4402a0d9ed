"""The admin application: API, dashboard, metrics and health, behind tokens and sessions."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from importlib.resources.abc import Traversable
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

from inboxd.http.auth import SCOPES, AccessToken, Gate
from inboxd.http.forms import MAX_FORM_BYTES
from inboxd.http.operations import OPERATIONS, Operation, add_operations
from inboxd.http.pages import Pages
from inboxd.http.problems import Handler, ProblemError, problem_middleware
from inboxd.http.protocol import send_continue
from inboxd.http.rendering import SIGN_IN, error_pages, set_up
from inboxd.http.sessions import Sessions
from inboxd.http.static_files import StaticFiles
from inboxd.runtime.clock import Clock

MAX_BODY_BYTES: Final = 1024 * 1024


def admin_application(
    tokens: Sequence[AccessToken],
    operations: Sequence[Operation],
    pages: Sequence[Pages],
    clock: Clock,
    *,
    templates: Sequence[str],
    navigation: Sequence[tuple[str, str]],
    static: Traversable,
    max_failures: int,
) -> web.Application:
    """The application of the admin listener.

    The pages use the templates of the packages `templates`, and the style sheets and scripts of the folder `static`.
    Every page links to the paths of `navigation`, each given with its text.
    """
    files = StaticFiles(static)
    open_paths = {operation.path for operation in operations if operation.open} | {SIGN_IN} | files.paths
    gate = Gate(tokens, open_paths, clock, max_failures=max_failures)
    streamed = {(one.method, one.path): one.streams for one in operations if one.streams}
    middlewares = [problem_middleware, error_pages, gate.middleware, _body_reader(streamed)]
    app = web.Application(middlewares=middlewares, client_max_size=MAX_BODY_BYTES)
    app[OPERATIONS] = []
    app[SCOPES] = {}
    add_operations(app, operations)
    set_up(app, clock, templates, navigation)
    everything: list[Pages] = [Sessions(gate), files, *pages]
    for part in everything:
        part.add_routes(app)
    return app


def _body_reader(streamed: Mapping[tuple[str, str], int]) -> Middleware:
    """Checks the size of the body and reads it. It runs after authentication.

    The body of an operation in `streamed`, given with its limit, is left to its handler. Signing in needs no
    authentication, so its body may only have the size of a small form.
    """

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        most = streamed.get((request.method, request.path), 0)
        limit = most or (MAX_FORM_BYTES if request.path == SIGN_IN else MAX_BODY_BYTES)
        length = request.content_length
        if request.body_exists and ((length is None and request.path == SIGN_IN) or (length or 0) > limit):
            raise ProblemError(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                f"The body may have {limit} bytes, and its Content-Length is required.",
            )
        if not most:
            send_continue(request)
            await request.read()
        return await handler(request)

    return middleware
