"""Authentication on the admin listener: bearer tokens (RFC 6750) for programs, a session cookie for people."""

import base64
import binascii
import hashlib
import hmac
import secrets
from collections import Counter
from collections.abc import Collection, Sequence
from http import HTTPStatus
from typing import Final, NamedTuple

from aiohttp import web
from cachetools import TTLCache

from inboxd.http.problems import Handler, ProblemError
from inboxd.http.same_origin import SAFE_METHODS, require_same_origin
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock
from inboxd.runtime.secret import Secret

FAILURE_WINDOW_S: Final = 60.0
_ADDRESSES: Final = 4096
"""How many addresses with failures are remembered. Beyond that, the oldest is forgotten."""

COOKIE: Final = "inboxd_session"
SESSION_S: Final = 12 * 3600
SIGN_OUT: Final = "/sign-out"
"""Signing out needs no `write` scope, since it only deletes the cookie in the browser."""


class AccessToken(NamedTuple):
    """A token, the name of its owner, and its scopes: `read`, `write`, `send`. None of them includes another."""

    name: str
    scopes: Collection[str]
    token: Secret


SESSION: Final = web.RequestKey("auth.session", AccessToken)
"""The token that opened the session of this request. Absent when the request itself brought a token."""
OWNER: Final = web.RequestKey("auth.owner", AccessToken)
"""The token with which this request is made, by itself or by its session. Absent on open paths."""
SCOPES: Final = web.AppKey("auth.scopes", dict[tuple[str, str], str])
"""By method and path (as the route has it), the scope of what needs another one than `read` for reading and `write` for
everything else."""


class Gate:
    """Accepts requests with one of `tokens`, or with a session that was opened with one; none when there is no token.

    A session is a signed cookie: it survives a restart and ends after SESSION_S, or when its token is removed.

    An address that sends wrong tokens `max_failures` times within FAILURE_WINDOW_S gets 429, and its failures are no
    longer logged. A correct token is still accepted from there: clients behind a proxy or on one machine share an
    address, and one of them with an old token must not lock out the others. Tokens are too long to be guessed.
    """

    def __init__(
        self, tokens: Sequence[AccessToken], open_paths: Collection[str], clock: Clock, *, max_failures: int
    ) -> None:
        self._tokens = tokens
        self._open_paths = open_paths
        self._clock = clock
        self._max_failures = max_failures
        self._failures: TTLCache[str, Counter[str]] = TTLCache(_ADDRESSES, FAILURE_WINDOW_S, timer=clock.monotonic)
        self._log = logs.get("auth")

    @web.middleware
    async def middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Authenticate the request and check its scope, except on open paths. Raises ProblemError."""
        if request.path in self._open_paths:
            return await handler(request)
        owner = self._owner(request)
        scope = _scope_of(request)
        if scope not in owner.scopes:
            raise ProblemError(
                HTTPStatus.FORBIDDEN,
                f"The token '{owner.name}' has no scope '{scope}'.",
                headers={"WWW-Authenticate": f'Bearer realm="inboxd", error="insufficient_scope", scope="{scope}"'},
            )
        request[OWNER] = owner
        return await handler(request)

    def sign_in(self, request: web.Request, shown: str) -> str:
        """The cookie of a new session, opened with the token `shown`. Raises ProblemError."""
        owner = self._known(request, shown)
        body = f"{owner.name}\n{self._clock.now_ms() // 1000 + SESSION_S}\n{secrets.token_hex(16)}".encode()
        return base64.urlsafe_b64encode(body + _seal(owner, body)).decode()

    def _owner(self, request: web.Request) -> AccessToken:
        self._require_tokens()
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._known(request, given.strip())
        owner = self._session(request)
        if owner is None:
            if scheme:  # another scheme, for example Basic for a proxy in front: only a session could be valid with it
                return self._known(request, "")
            raise _unauthorized()
        if request.method not in SAFE_METHODS:
            require_same_origin(request)
        request[SESSION] = owner
        return owner

    def _known(self, request: web.Request, shown: str) -> AccessToken:
        """The owner of the token `shown`, compared in constant time. Raises ProblemError."""
        self._require_tokens()
        given, found = shown.encode(errors="replace"), None
        for one in self._tokens:  # always all of them, so that the time reveals nothing
            if hmac.compare_digest(given, one.token.reveal().encode()):
                found = one
        if found is None:
            raise self._failure(request.remote or "")
        return found

    def _failure(self, address: str) -> ProblemError:
        """Count a wrong token from `address`, and return the problem to answer with."""
        failures = self._failures.get(address, Counter())
        if failures[address] >= self._max_failures:
            return ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "Too many requests with a wrong token came from this address; wait a minute.",
                headers={"Retry-After": str(int(FAILURE_WINDOW_S))},
            )
        failures[address] += 1  # the entry is changed in place, so that its window does not start again
        self._failures.setdefault(address, failures)
        self._log.warning("authentication_failed", address=address, failures=failures[address])
        return _unauthorized()

    def _session(self, request: web.Request) -> AccessToken | None:
        """The token behind the session cookie; None without a valid cookie."""
        try:
            told = base64.b64decode(request.cookies.get(COOKIE, "").encode(), altchars=b"-_", validate=True)
        except (binascii.Error, UnicodeEncodeError):
            return None
        body, seal = told[:-32], told[-32:]
        for owner in self._tokens:
            if hmac.compare_digest(seal, _seal(owner, body)):
                _, expires, _ = body.decode().split("\n")
                return owner if int(expires) * 1000 > self._clock.now_ms() else None
        return None

    def _require_tokens(self) -> None:
        if not self._tokens:
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE, "The admin API is off: no admin_token is configured for this daemon."
            )


def _scope_of(request: web.Request) -> str:
    """The scope that a request needs. Where nothing is, it makes no difference."""
    resource = request.match_info.route.resource
    declared = None if resource is None else request.app[SCOPES].get((request.method, resource.canonical))
    if declared is not None:
        return declared
    return "read" if request.method in SAFE_METHODS or request.path == SIGN_OUT else "write"


def _seal(owner: AccessToken, body: bytes) -> bytes:
    """The signature of a session. Only the token can make it. It includes the name, since names may be swapped."""
    key = hashlib.sha256(f"inboxd session {owner.name}\n{owner.token.reveal()}".encode()).digest()
    return hmac.digest(key, body, "sha256")


def _unauthorized() -> ProblemError:
    return ProblemError(
        HTTPStatus.UNAUTHORIZED,
        "Send the admin token as 'Authorization: Bearer <token>'.",
        headers={"WWW-Authenticate": 'Bearer realm="inboxd"'},
    )
