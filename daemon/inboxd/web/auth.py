"""Who may use the admin API: bearer tokens (RFC 6750), in the Authorization header only."""

import hmac
from collections.abc import Collection, Sequence
from http import HTTPStatus
from typing import Final, NamedTuple

from aiohttp import web
from cachetools import TTLCache

from inboxd import logs
from inboxd.clock import Clock
from inboxd.secret import Secret
from inboxd.web.problems import Handler, ProblemError

FAILURE_WINDOW_S: Final = 60.0
_ADDRESSES: Final = 4096
"""Addresses whose failures are remembered at a time; beyond it the oldest is forgotten."""
_READING: Final = frozenset({"GET", "HEAD"})


class AccessToken(NamedTuple):
    """A token, who has it, and what it is good for: `read`, `write`."""

    name: str
    scopes: Collection[str]
    token: Secret


def bearer_middleware(
    tokens: Sequence[AccessToken], open_paths: Collection[str], clock: Clock, *, max_failures: int
) -> web.middleware:  # type: ignore[valid-type]  # a decorator's type
    """Lets in who shows one of `tokens`, compared in constant time; without any the API is off.

    An address that failed `max_failures` times within FAILURE_WINDOW_S has to wait.
    """
    failures: TTLCache[str, int] = TTLCache(_ADDRESSES, FAILURE_WINDOW_S, timer=clock.monotonic)
    log = logs.get("auth")

    @web.middleware
    async def authenticate(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path in open_paths:
            return await handler(request)
        if not tokens:
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE, "The admin API is off: no admin_token is configured for this daemon."
            )
        if "Authorization" not in request.headers:
            raise _unauthorized()
        address = request.remote or ""
        if failures.get(address, 0) >= max_failures:
            raise ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "Too many requests with a wrong token came from this address; wait a minute.",
                headers={"Retry-After": str(int(FAILURE_WINDOW_S))},
            )
        found = _owner(request, tokens)
        if found is None:
            failures[address] = failures.get(address, 0) + 1
            log.warning("authentication_failed", address=address, failures=failures[address])
            raise _unauthorized()
        scope = "read" if request.method in _READING else "write"
        if scope not in found.scopes:
            raise ProblemError(
                HTTPStatus.FORBIDDEN,
                f"The token '{found.name}' has no scope '{scope}'.",
                headers={"WWW-Authenticate": f'Bearer realm="inboxd", error="insufficient_scope", scope="{scope}"'},
            )
        return await handler(request)

    return authenticate


def _unauthorized() -> ProblemError:
    return ProblemError(
        HTTPStatus.UNAUTHORIZED,
        "Send the admin token as 'Authorization: Bearer <token>'.",
        headers={"WWW-Authenticate": 'Bearer realm="inboxd"'},
    )


def _owner(request: web.Request, tokens: Sequence[AccessToken]) -> AccessToken | None:
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    shown = given.strip().encode(errors="replace")
    found = None
    for one in tokens:  # all of them, whichever it is: time tells nothing
        if hmac.compare_digest(shown, one.token.reveal().encode()):
            found = one
    return found if scheme.lower() == "bearer" else None
