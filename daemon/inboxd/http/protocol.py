"""aiohttp's request handler, changed so that an error neither logs nor returns any part of a request.

aiohttp's parser quotes the text that it cannot parse, and aiohttp logs that and answers with it. The text may be a
token.
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
"""How long the rest of a body is read and discarded after an early answer, so that the client can read the answer."""
LINGER_BYTES: Final = 256 * 1024
"""Bytes that are discarded without a pause."""
LINGER_PAUSE_S: Final = 0.1
"""Pause before each read once LINGER_BYTES are discarded, so that a fast sender cannot keep the event loop busy."""
MALFORMED_PAUSE_S: Final = 0.02
"""Pause between two reads behind a request that cannot be parsed."""
_EXPECTS: Final = web.RequestKey("protocol.expects", bool)
_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_NOT_HTTP: Final = "The server cannot parse this HTTP request."


Finishing = Coroutine[Any, Any, tuple[web.StreamResponse, bool]]


class RequestProtocol(web.RequestHandler):
    """aiohttp's handler of one connection. `guard` is set directly after construction."""

    __slots__ = ("guard", "is_malformed")
    guard: Guard
    is_malformed: bool
    """Whether a request came that cannot be parsed. Nothing that follows it is."""

    def __init__(self, server: web.Server, **options: Any) -> None:  # noqa: ANN401 - aiohttp's
        super().__init__(server, read_bufsize=READ_BYTES // 2, lingering_time=0, **options)
        self.is_malformed = False

    @property
    def is_waiting(self) -> bool:
        """Whether no request is being answered; the next one may come."""
        return self._waiter is not None

    @property
    def is_answered(self) -> bool:
        """Whether the latest request has been answered. The rest of its body is discarded."""
        return self._waiter is None and self._current_request is None and not self._messages

    def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> Finishing:
        """Send the response. If the body is not here yet, the response also says that the connection closes."""
        if self.is_malformed:
            return self._finish_malformed(super().finish_response(request, resp, start_time))
        if request.content.is_eof():
            return super().finish_response(request, resp, start_time)
        resp.force_close()
        return self._finish_early(super().finish_response(request, resp, start_time), request.content)

    async def _finish_early(self, finishing: Finishing, content: StreamReader) -> tuple[web.StreamResponse, bool]:
        finished = await finishing
        with suppress(TimeoutError, ConnectionError, web.RequestPayloadError):
            async with asyncio.timeout(LINGER_S):
                await self._discard(content)
        return finished

    async def _finish_malformed(self, finishing: Finishing) -> tuple[web.StreamResponse, bool]:
        """Discard what else the client sends, piece by piece, until it has read the response and leaves.

        Our side is closed at once (RFC 9112, 9.6), so that a client that reads to the end does not wait for it.
        """
        finished = await finishing
        gone = asyncio.Event()
        if self.transport is not None and not self.transport.is_closing():
            self.transport.write_eof()
        self.guard.add_on_disconnect(gone.set)
        with suppress(TimeoutError):
            async with asyncio.timeout(LINGER_S):
                while not gone.is_set() and self.transport is not None:
                    self.transport.resume_reading()
                    await asyncio.sleep(0)
                    self.transport.pause_reading()
                    await asyncio.sleep(MALFORMED_PAUSE_S)
        self.guard.remove_on_disconnect(gone.set)
        return finished

    async def _discard(self, content: StreamReader) -> None:
        """Read and discard the rest of a body."""
        discarded = 0
        while not content.is_eof() and not self._force_close:
            discarded += len(await content.readany())
            if discarded > LINGER_BYTES:
                await asyncio.sleep(LINGER_PAUSE_S)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = HTTPStatus.INTERNAL_SERVER_ERROR,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - it contains what was sent
    ) -> web.StreamResponse:
        """The response to a request that cannot be parsed, or that failed outside of the application."""
        log, reason = logs.get("web"), type(exc).__name__
        if status < HTTPStatus.INTERNAL_SERVER_ERROR:
            log.warning("request_malformed", reason=reason, address=request.remote)
            self.is_malformed = True
            self.close()
        else:
            log.error("connection_failed", error=reason, where=_where(exc))
        if request.writer.output_size > 0:
            raise ConnectionError("a response has begun, so the error cannot be sent")
        answer = problem(status, _NOT_HTTP if status < HTTPStatus.INTERNAL_SERVER_ERROR else None)
        answer.force_close()
        return answer

    def log_exception(self, *_args: Any, **kwargs: Any) -> None:  # noqa: ANN401 - aiohttp's
        """Log that a connection failed and where in the code, without the text of the error."""
        error = kwargs.get("exc_info")
        logs.get("web").error("connection_failed", error=type(error).__name__, where=_where(error))

    def log_debug(self, *_args: Any, **_kwargs: Any) -> None:  # noqa: ANN401 - aiohttp's
        """Log nothing."""


RequestFactory = Callable[..., web.BaseRequest]


def starting_deadlines(make: RequestFactory) -> RequestFactory:
    """A request factory for aiohttp that calls `make`, and starts the deadline for the body.

    aiohttp calls it for every request, when the headers are here. The deadline ends when the whole body is here,
    whether it is read or discarded. The factory also removes the `Expect` header: aiohttp would ask the client for the
    body before the other headers are checked, and would echo a value that it does not know.
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


def send_continue(request: web.Request) -> None:
    """Send `100 Continue` if the client waits for it (RFC 9110, 10.1.1). Call it when the headers are accepted."""
    if request.get(_EXPECTS) and request.transport is not None:
        request.transport.write(_CONTINUE)


def allow_more_time(request: web.Request) -> None:
    """Start the deadline for the rest of the request again, because a part of a large body has arrived.

    Only for a client that is authenticated, and whoever calls it limits the whole time.
    """
    guard = getattr(request.protocol, "guard", None)
    if guard is not None:
        guard.arrived()


@contextmanager
def notify_on_disconnect(request: web.Request, callback: Callable[[], None]) -> Iterator[None]:
    """Call `callback` when the client disconnects within the context, or has already disconnected."""
    guard = getattr(request.protocol, "guard", None)
    if guard is None or request.transport is None:
        callback()
        yield
        return
    guard.add_on_disconnect(callback)
    try:
        yield
    finally:
        guard.remove_on_disconnect(callback)


def _where(error: object) -> str:
    """The functions and lines where an error was raised, without its text."""
    if not isinstance(error, BaseException):
        return ""
    return " < ".join(f"{frame.name}:{frame.lineno}" for frame in reversed(traceback.extract_tb(error.__traceback__)))
