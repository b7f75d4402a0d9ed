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
from inboxd.meta.meta_clock import MetaClock
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
        self._timeout_s = timeout_s
        self._session: aiohttp.ClientSession | None = None
        self._log = logs.get("graph")
        self._probe_timeout = aiohttp.ClientTimeout(total=min(timeout_s, PROBE_TIMEOUT_S))
        self.circuit = Circuit(clock, self._probe)
        """Stops calls while the host does not answer."""
        self.time = MetaClock(clock)

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=OutboundConnector(),
            timeout=self._longer(1),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"User-Agent": "inboxd"},
            trace_configs=[_tracing()],
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
            fields["appsecret_proof"] = _proof(app_secret, token)
        url = f"{self._base}/{self._version}/{path}" if versioned else f"{self._base}/{path}"
        if as_form:
            form = fields | {"access_token": token, "method": method.lower()}
            answer = await self._answered("POST", url, data=form)
        else:
            answer = await self._answered(method, url, params=fields, headers=_bearer(token))
        return self._answers(answer)

    async def post(
        self, path: str, body: Mapping[str, Any], token: str, *, app_secret: str | None = None, patience: int = 1
    ) -> Answer:
        """POST `body` as JSON, once: aiohttp itself repeats no POST. `app_secret` as in `send`.

        The answer is waited for `patience` times as long as of other calls.

        Raises GraphError when Meta does not answer. It is `unsent` when no connection was made, so that the request
        cannot have reached Meta. In all other cases Meta may have done what was asked.
        """
        params = {} if app_secret is None else {"appsecret_proof": _proof(app_secret, token)}
        url = f"{self._base}/{self._version}/{path}"
        options = {"params": params, "json": body, "headers": _bearer(token), "timeout": self._longer(patience)}
        return self._answers(await self._answered("POST", url, **options))

    def _longer(self, times: int) -> aiohttp.ClientTimeout:
        return aiohttp.ClientTimeout(total=self._timeout_s * times)

    def _answers(self, answer: Answer) -> Answer:
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
        attempt = _Attempt()
        try:
            async with self._session.request(
                method, url, allow_redirects=False, trace_request_ctx=attempt, **options
            ) as response:
                answer = _answer(response.status, await _read(response), parse_usage(response.headers))
                self.time.note(response.headers.get("Date"))
                return answer
        except TimeoutError as error:
            raise self._unanswered("no answer in time", unsent=not attempt.connected) from error
        except (aiohttp.ClientError, OSError, ValueError) as error:  # ValueError: malformed headers
            raise self._unanswered(f"no answer: {type(error).__name__}", unsent=not attempt.connected) from error
        except GraphError as error:
            if error.too_large:  # the host answers: more than was to be read at once
                raise
            raise self._unanswered(str(error)) from error

    def _unanswered(self, reason: str, *, unsent: bool = False) -> GraphError:
        was_up = not self.circuit.strikes
        self.circuit.failed(reason)
        if was_up and self.circuit.strikes:
            self._log.error("graph_unreachable", url=self._base, error=reason)
        return transport(reason, unsent=unsent)


class _Attempt:
    """What is known of one request while it is made."""

    connected = False
    """Whether it got a connection, with TLS: from then on it may reach Meta."""


def _tracing() -> aiohttp.TraceConfig:
    """Notes in a request's `_Attempt` that it got a connection, a new one or one that was open."""

    async def note(_session: aiohttp.ClientSession, context: Any, _params: object) -> None:  # noqa: ANN401 - aiohttp's
        context.trace_request_ctx.connected = True

    tracing = aiohttp.TraceConfig()
    tracing.on_connection_create_end.append(note)
    tracing.on_connection_reuseconn.append(note)
    return tracing


def _proof(app_secret: str, token: str) -> str:
    return hmac.digest(app_secret.encode(), token.encode(), "sha256").hex()


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


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
