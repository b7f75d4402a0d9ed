"""The pages for signing in and out."""

from http import HTTPStatus
from typing import Final

from aiohttp import web

from inboxd.http.auth import COOKIE, SESSION_S, SIGN_OUT, Gate
from inboxd.http.forms import fields_of
from inboxd.http.problems import ProblemError
from inboxd.http.rendering import SIGN_IN, page, see_other
from inboxd.http.same_origin import require_same_origin

_MAX_TOKEN: Final = 4096


class Sessions:
    """Signing in and signing out."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    def add_routes(self, app: web.Application) -> None:
        """Add the routes of the pages to the admin application."""
        app.router.add_get(SIGN_IN, self.ask, allow_head=False)
        app.router.add_post(SIGN_IN, self.sign_in)
        app.router.add_post(SIGN_OUT, self.sign_out)

    async def ask(self, request: web.Request) -> web.Response:
        """Show the form."""
        return page(request, "sign_in.html", {"next": _own_path(request.query.get("next", "/")), "problem": ""})

    async def sign_in(self, request: web.Request) -> web.Response:
        """Open a session for the owner of the token in the form. Raises ProblemError for the form of another site."""
        require_same_origin(request)
        form = await fields_of(request)
        path = _own_path(form.get("next", "/"))
        try:
            cookie = self._gate.sign_in(request, form.get("token", "").strip()[:_MAX_TOKEN])
        except ProblemError as error:
            problem = "That is no token of this daemon." if error.status == HTTPStatus.UNAUTHORIZED else error.detail
            return page(request, "sign_in.html", {"next": path, "problem": problem}, status=error.status)
        response = see_other(path)
        response.set_cookie(
            COOKIE, cookie, max_age=SESSION_S, secure=_is_secure(request), httponly=True, samesite="Strict"
        )
        return response

    async def sign_out(self, request: web.Request) -> web.Response:
        """End the session in this browser."""
        response = see_other(SIGN_IN)
        response.del_cookie(COOKIE, secure=_is_secure(request), httponly=True, samesite="Strict")
        return response


def _own_path(text: str) -> str:
    """The path to open after signing in: `text` if it is a path of this listener, else `/`."""
    is_own = text.startswith("/") and not text.startswith(("//", "/\\")) and text.isprintable()
    return text if is_own and not text.startswith(SIGN_IN) else "/"


def _is_secure(request: web.Request) -> bool:
    """Whether the browser uses TLS; a proxy in front says so in `X-Forwarded-Proto`."""
    return request.secure or request.headers.get("X-Forwarded-Proto", "").lower() == "https"
