"""aiohttp's side of a connection, with our own words for what is broken: nothing of a request is logged or echoed.

aiohttp's parser puts what it could not read into its errors, and aiohttp logs those and answers with them. What stands
there may be a token.
"""

import asyncio
import traceback
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Any, Final

from aiohttp import StreamReader, hdrs, web
from multidict import CIMultiDict, CIMultiDictProxy

from inboxd.http.guard import READ_BYTES, Guard
from inboxd.http.problems import problem
from inboxd.runtime import logs

LINGER_S: Final = 2.0
"""How long the rest of a body is thrown away after an early answer, so that the sender gets to read the answer…"""
LINGER_BYTES: Final = 256 * 1024
LINGER_PAUSE_S: Final = 0.1
"""…and how much of it at once: after so many bytes there is a pause before each read, or who sends rubbish as fast as
they can would have us do nothing but read it."""
_EXPECTS: Final = web.RequestKey("protocol.expects", bool)
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_NOT_HTTP: Final = "This is no HTTP request that this server can read."


Finishing = Coroutine[Any, Any, tuple[web.StreamResponse, bool]]


class RequestProtocol(web.RequestHandler):
    """One connection, as aiohttp handles it. `guard` is set right after it is made."""

    __slots__ = ("guard",)
    guard: Guard

    def __init__(self, server: web.Server, **options: Any) -> None:  # noqa: ANN401 - aiohttp's
        super().__init__(server, read_bufsize=READ_BYTES // 2, lingering_time=0, **options)

    @property
    def is_waiting(self) -> bool:
        """Nothing is being answered: the next request may come."""
        return self._waiter is not None

    @property
    def is_answered(self) -> bool:
        """The latest request has its answer; what still comes of its body is thrown away."""
        return self._waiter is None and self._current_request is None and not self._messages

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Finishing:
        """Answer. Who is answered before their body is here is told that the connection ends with it."""
        if request.content.is_eof():
            return super().finish_response(request, resp, start_time)
        resp.force_close()
        return self._finish_early(super().finish_response(request, resp, start_time), request.content)

    async def _finish_early(self, finishing: Finishing, content: StreamReader) -> tuple[web.StreamResponse, bool]:
        told = await finishing
        with suppress(TimeoutError, ConnectionError, web.RequestPayloadError):
            async with asyncio.timeout(LINGER_S):
                await self._throw_away(content)
        return told

    async def _throw_away(self, content: StreamReader) -> None:
        """Read the rest of a body that nobody wants."""
        thrown = 0
        while not content.is_eof() and not self._force_close:
            thrown += len(await content.readany())
            if thrown > LINGER_BYTES:
                await asyncio.sleep(LINGER_PAUSE_S)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it has what was sent
    ) -> web.StreamResponse:
        """What is answered to a request that cannot be read, or that failed outside of the application."""
        log, reason = logs.get("web"), type(exc).__name__
        if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            log.warning("request_malformed", reason=reason, address=request.remote)
        else:
            log.error("connection_failed", error=reason, where=_where(exc))
        if request.writer.output_size > 0:
            raise ConnectionError("an answer has begun; the error cannot be told")
        answer = problem(status, _NOT_HTTP if status < HTTPStatus.INTERNAL_SERVER_ERROR else None)
        answer.force_close()
        return answer

    def log_exception(self, *_args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - aiohttp's
        """Say that a connection failed, and where in the code; not with what."""
        error = kwargs.get("exc_info")
        logs.get("web").error("connection_failed", error=type(error).__name__, where=_where(error))

    def log_debug(self, *_args: Any, **_kwargs: Any) -> None:  # noqa: ANN401 - aiohttp's
        """Nothing of this is worth a line."""


RequestFactory = Callable[..., web.BaseRequest]


def beginning(make: RequestFactory) -> RequestFactory:
    """`make`, as aiohttp makes a request when its head is here, with what has to be noted at that moment.

    This is the one place that every request comes through, whatever it is answered: its connection has a deadline until
    all of its body is here, read by us or thrown away. An `Expect` header is ours to answer: aiohttp tells the client
    to send its body before anybody has looked at the other headers, and echoes what it does not know.
    """

    def begin(message: Any, payload: Any, protocol: RequestProtocol, *rest: Any) -> web.BaseRequest:  # noqa: ANN401
        guard = protocol.guard
        if payload.is_eof():
            guard.arrived()
        else:
            guard.expect()
            payload.on_eof(guard.arrived)
        if hdrs.EXPECT not in message.headers:
            return make(message, payload, protocol, *rest)
        headers = CIMultiDict(message.headers)
        expected = headers.popall(hdrs.EXPECT)
        request = make(message._replace(headers=CIMultiDictProxy(headers)), payload, protocol, *rest)
        request[_EXPECTS] = any(one.lower() == "100-continue" for one in expected)
        return request

    return begin


def go_on(request: web.Request) -> None:
    """The head of the request is good: a client that waits for that is told to send the body (RFC 9110, 10.1.1)."""
    if request.get(_EXPECTS) and request.transport is not None:
        request.transport.write(_CONTINUE)


@contextmanager
def told_when_gone(request: web.Request, tell: Callable[[], None]) -> Iterator[None]:
    """Calls `tell` when the client hangs up meanwhile, or has already."""
    guard = getattr(request.protocol, "guard", None)
    if guard is None or request.transport is None:
        tell()
        yield
        return
    guard.when_gone(tell)
    try:
        yield
    finally:
        guard.not_when_gone(tell)


def _where(error: object) -> str:
    """The place of an error in the code, without its text."""
    if not isinstance(error, BaseException):
        return ""
    return " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(traceback.extract_tb(error.__traceback__)))
