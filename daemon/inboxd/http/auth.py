"""Who may use the admin listener: bearer tokens (RFC 6750) for programs, a session cookie for people."""

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
"""Addresses whose failures are remembered at a time; beyond it the oldest is forgotten."""

COOKIE: Final = "inboxd_session"
SESSION_S: Final = 12 * 3600
SIGN_OUT: Final = "/sign-out"
"""Changes nothing but the browser that asks."""


class AccessToken(NamedTuple):
    """A token, who has it, and what it is good for: `read`, `write`."""

    name: str
    scopes: Collection[str]
    token: Secret


SESSION: Final = web.RequestKey("auth.session", AccessToken)
"""The token that opened the session of this request. Absent when the request itself brought a token."""


class Gate:
    """Lets in who shows one of `tokens`, or a session that was opened with one; without any token it is shut.

    A session is a signed cookie: it outlives a restart and ends with its token or after SESSION_S. An address that
    showed something wrong `max_failures` times within FAILURE_WINDOW_S is told to wait, and logged no more. What is
    right passes all the same: behind a proxy or on one machine many have the same address, and one old token among
    them must not shut out the others. Tokens are too long to be guessed at any rate.
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
        """Ask everybody who they are, but for what is open to all."""
        if request.path in self._open_paths:
            return await handler(request)
        owner = self._owner(request)
        scope = "read" if request.method in SAFE_METHODS or request.path == SIGN_OUT else "write"
        if scope not in owner.scopes:
            raise ProblemError(
                HTTPStatus.FORBIDDEN,
                f"The token '{owner.name}' has no scope '{scope}'.",
                headers={"WWW-Authenticate": f'Bearer realm="inboxd", error="insufficient_scope", scope="{scope}"'},
            )
        return await handler(request)

    def sign_in(self, request: web.Request, shown: str) -> str:
        """The cookie of a new session for who shows this token. Raises ProblemError."""
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
            if scheme:  # what a proxy in front may add for itself, as with Basic, says nothing to us
                return self._known(request, "")
            raise _unauthorized()
        if request.method not in SAFE_METHODS:
            require_same_origin(request)
        request[SESSION] = owner
        return owner

    def _known(self, request: web.Request, shown: str) -> AccessToken:
        """Whose token this is; compared in constant time."""
        self._require_tokens()
        given, found = shown.encode(errors="replace"), None
        for one in self._tokens:  # all of them, whichever it is: time tells nothing
            if hmac.compare_digest(given, one.token.reveal().encode()):
                found = one
        if found is None:
            raise self._failure(request.remote or "")
        return found

    def _failure(self, address: str) -> ProblemError:
        """Count something wrong; what to answer to it."""
        failures = self._failures.get(address, Counter())
        if failures[address] >= self._max_failures:
            return ProblemError(
                HTTPStatus.TOO_MANY_REQUESTS,
                "Too many requests with a wrong token came from this address; wait a minute.",
                headers={"Retry-After": str(int(FAILURE_WINDOW_S))},
            )
        failures[address] += 1  # in what is there, so that the window does not begin anew
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


def _seal(owner: AccessToken, body: bytes) -> bytes:
    """Only who has the token can make this; the owner's name is in it, since names may be swapped around."""
    key = hashlib.sha256(f"inboxd session {owner.name}\n{owner.token.reveal()}".encode()).digest()
    return hmac.digest(key, body, "sha256")


def _unauthorized() -> ProblemError:
    return ProblemError(
        HTTPStatus.UNAUTHORIZED,
        "Send the admin token as 'Authorization: Bearer <token>'.",
        headers={"WWW-Authenticate": 'Bearer realm="inboxd"'},
    )
