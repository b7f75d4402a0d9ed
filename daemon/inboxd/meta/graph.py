"""The client for the Graph API: sends one request and parses its answer.

The token is sent in the Authorization header, so that no URL, log or error contains it.
"""

import hmac
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import aiohttp

from inboxd.domain.retry import FailureAction
from inboxd.meta import answers
from inboxd.meta.graph_errors import GraphError, classified, transport
from inboxd.meta.response_body import read_at_most
from inboxd.meta.throttle import Circuit
from inboxd.meta.usage import Usage, parse_usage
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock
from inboxd.runtime.connections import OutboundConnector

MAX_ANSWER_BYTES: Final = 1024 * 1024
PROBE_TIMEOUT_S: Final = 5.0
_MAX_CODE: Final = 2**31 - 1
_TOO_LARGE: Final = "reduce the amount of data"


class Answer(NamedTuple):
    """Meta's answer: fields or an error, and the usage of its limits."""

    fields: dict[str, Any]
    error: GraphError | None
    usage: Usage
    proof_refused: bool = False
    """The error is about our `appsecret_proof`, not about the request itself."""


class GraphClient:
    """Sends requests to one Graph API host. An async context manager that owns its connections."""

    def __init__(self, base_url: str, version: str, *, timeout_s: float, clock: Clock) -> None:
        self._base = base_url.rstrip("/")
        self._version = version
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._session: aiohttp.ClientSession | None = None
        self._log = logs.get("graph")
        self._probe_timeout = aiohttp.ClientTimeout(total=min(timeout_s, PROBE_TIMEOUT_S))
        self.circuit = Circuit(clock, self._probe)
        """Stops calls while the host does not answer."""

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=OutboundConnector(),
            timeout=self._timeout,
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "inboxd"},
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def send(
        self,
        method: str,
        path: str,
        parameters: Mapping[str, str],
        token: str,
        *,
        app_secret: str | None = None,
        versioned: bool = True,
        as_form: bool = False,
    ) -> Answer:
        """Make one call. `app_secret` adds `appsecret_proof` ("Secure Graph API calls").

        `as_form` sends a POST with Meta's `method` override and all parameters, including the token, as form fields.
        It is for endpoints that require the token as a parameter. Raises GraphError when Meta does not answer.
        """
        fields = dict(parameters)
        if app_secret is not None:
            fields["appsecret_proof"] = hmac.digest(app_secret.encode(), token.encode(), "sha256").hex()
        url = f"{self._base}/{self._version}/{path}" if versioned else f"{self._base}/{path}"
        if as_form:
            form = fields | {"access_token": token, "method": method.lower()}
            answer = await self._answered("POST", url, data=form)
        else:
            answer = await self._answered(method, url, params=fields, headers={"Authorization": f"Bearer {token}"})
        if self.circuit.strikes:
            self._log.info("graph_answers_again", url=self._base)
        self.circuit.answered()
        return answer

    async def _probe(self) -> None:
        """Call the host without a token. Meta refuses such a call, which is an answer, and counts it for no account.

        Raises GraphError when Meta does not answer.
        """
        await self._answered("GET", f"{self._base}/{self._version}/me", timeout=self._probe_timeout)

    async def _answered(self, method: str, url: str, **options: Any) -> Answer:  # noqa: ANN401 - aiohttp's
        """The answer. When the response is not from Meta, the circuit counts a failure and GraphError is raised."""
        if self._session is None:
            msg = "GraphClient is used outside its context"
            raise RuntimeError(msg)
        try:
            async with self._session.request(method, url, allow_redirects=False, **options) as response:
                return _answer(response.status, await _read(response), parse_usage(response.headers))
        except TimeoutError as error:
            raise self._unanswered("no answer in time") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: malformed headers
            raise self._unanswered(f"no answer: {type(error).__name__}") from error
        except GraphError as error:
            if error.too_large:  # the host answers: more than was to be read at once
                raise
            raise self._unanswered(str(error)) from error

    def _unanswered(self, reason: str) -> GraphError:
        was_up = not self.circuit.strikes
        self.circuit.failed(reason)
        if was_up and self.circuit.strikes:
            self._log.error("graph_unreachable", url=self._base, error=reason)
        return transport(reason)


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The whole body. Raises GraphError when it is larger than MAX_ANSWER_BYTES."""
    body = await read_at_most(response, MAX_ANSWER_BYTES)
    if body is None:
        msg = f"the answer is larger than {MAX_ANSWER_BYTES} bytes"
        raise GraphError(msg, FailureAction.RETRY_LATER, too_large=True)
    return body


def _answer(status: int, body: bytes, usage: Usage) -> Answer:
    """Parse a response. An error in the body counts at any HTTP status. Raises GraphError when it is not from Meta.

    Errors have two formats: the error envelope ("Handle errors"), and that of the OAuth endpoints ("Business login").
    """
    try:
        found = answers.parsed(body)
    except answers.NotJsonError:
        found = None
    if isinstance(found, dict):
        named = found.get("error")
        if isinstance(named, dict) and (code := answers.whole(named.get("code"), _MAX_CODE)) is not None:
            subcode = answers.whole(named.get("error_subcode"), _MAX_CODE)
            # No code identifies these errors. Both texts are in English wherever they were seen.
            told = str(named.get("message"))
            refused = code == 100 and "appsecret_proof" in told
            return Answer({}, classified(code, subcode or None, too_large=_TOO_LARGE in told), usage, refused)
        if isinstance(found.get("error_type"), str):
            return Answer({}, classified(answers.whole(found.get("code"), _MAX_CODE) or 0, None), usage)
        if status == 200 and named is None:
            return Answer(found, None, usage)
    if status == 429:
        return Answer({}, GraphError("HTTP 429: too many requests", FailureAction.WAIT_FOR_BUDGET), usage)
    what = "Meta's error envelope" if isinstance(found, dict) else "an answer of Meta's"
    raise transport(f"HTTP {status} without {what}")
