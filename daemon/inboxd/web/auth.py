"""Who may use the admin API: bearer tokens (RFC 6750), in the Authorization header only."""

import hmac
from http import HTTPStatus
from typing import Final

from aiohttp import web

from inboxd.secret import Secret
from inboxd.web.problems import Handler, ProblemError

OPEN_PATHS: Final = frozenset({"/healthz", "/readyz"})


def bearer_middleware(token: Secret | None) -> web.middleware:  # type: ignore[valid-type]  # a decorator's type
    """Lets in who shows `token`, compared in constant time; without a token the API is off. Health is open to all."""
    expected = None if token is None else token.reveal().encode()

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in OPEN_PATHS:
            return await handler(request)
        if expected is None:
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE, "The admin API is off: no admin_token is configured for this daemon."
            )
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(errors="replace"), expected):
            raise ProblemError(
                HTTPStatus.UNAUTHORIZED,
                "Send the admin token as 'Authorization: Bearer <token>'.",
                headers={"WWW-Authenticate": 'Bearer realm="inboxd"'},
            )
        return await handler(request)

    return authenticate
