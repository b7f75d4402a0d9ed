"""What stands between a transport and aiohttp's protocol: it knows since when a request is arriving."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, cast

from inboxd.runtime import logs

READ_BYTES: Final = 32 * 1024
"""Read from a socket at a time: what aiohttp holds of a body that nobody reads is about twice this, not megabytes."""
_TOO_SLOW: Final = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Inner(Protocol):
    """What a guard must know of the protocol behind it."""

    @property
    def is_waiting(self) -> bool:
        """Nothing is being answered: the next request may come."""

    @property
    def is_answered(self) -> bool:
        """The latest request has its answer; what still comes of its body is thrown away."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As asyncio has it; so are the others."""

    def data_received(self, data: bytes) -> None: ...  # noqa: D102

    def eof_received(self) -> None: ...  # noqa: D102

    def pause_writing(self) -> None: ...  # noqa: D102

    def resume_writing(self) -> None: ...  # noqa: D102

    def connection_lost(self, exc: BaseException | None) -> None: ...  # noqa: D102


class Guard(asyncio.BufferedProtocol):
    """One connection. `guards` are all of its listener; `buffer` is what they read into, one after the other."""

    def __init__(self, inner: Inner, guards: "set[Guard]", now: Callable[[], float], buffer: memoryview) -> None:
        self._inner = inner
        self._guards = guards
        self._now = now
        self._buffer = buffer
        self._transport: asyncio.Transport | None = None
        self._on_gone: list[Callable[[], None]] = []
        self.began = now()
        """When the latest request began to arrive, or the connection was made."""
        self.arriving_since: float | None = self.began
        self.receiving = False
        """Whether part of a request is here, but not all of it."""
        self._fresh = True

    @property
    def awaited(self) -> bool:
        """Whether a request is on its way: part of it is here, or its connection has only just been made."""
        return self.receiving or self._fresh

    @property
    def idle(self) -> bool:
        """Whether nothing of a request is here, and none is being answered."""
        return not self.receiving and self._inner.is_waiting

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection in."""
        self._transport = stream(transport)
        self._guards.add(self)
        self._inner.connection_made(transport)

    def get_buffer(self, _sizehint: int) -> memoryview:
        """Where to read to."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Note when a request begins to arrive, and pass on what is here of it."""
        data = bytes(self._buffer[:nbytes])
        self._fresh = False
        self.expect()
        try:
            self._inner.data_received(data)
        except Exception as error:  # noqa: BLE001 - whatever a parser makes of what strangers send; it may stand in the text
            logs.get("web").error("connection_failed", error=type(error).__name__)
            self.abort()

    def expect(self) -> None:
        """Part of a request is here: the rest has a deadline from now on, unless it had one before."""
        self.receiving = True
        if self.arriving_since is None:
            self.arriving_since = self.began = self._now()

    def arrived(self) -> None:
        """The request is here in full: there is no deadline until the next one begins."""
        self.arriving_since = None
        self.receiving = False

    def eof_received(self) -> None:
        """The client sends no more: it has hung up, and the transport closes."""
        self._tell_gone()
        self._inner.eof_received()

    def pause_writing(self) -> None:
        """Pass it on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Count the connection out."""
        self._guards.discard(self)
        self._inner.connection_lost(exc)
        self._tell_gone()

    def when_gone(self, tell: Callable[[], None]) -> None:
        """Call `tell` once when the client hangs up."""
        self._on_gone.append(tell)

    def not_when_gone(self, tell: Callable[[], None]) -> None:
        """Call `tell` no more."""
        if tell in self._on_gone:
            self._on_gone.remove(tell)

    def cut(self) -> None:
        """Tell the client that it was too slow, unless it has its answer, and hang up."""
        if self._transport is not None:
            if not self._inner.is_answered:
                self._transport.write(_TOO_SLOW)
            self.close()

    def close(self) -> None:
        """Hang up; from now on the connection counts no more."""
        self._guards.discard(self)
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Hang up at once, whatever was still to be written."""
        self._guards.discard(self)
        if self._transport is not None:
            self._transport.abort()

    def _tell_gone(self) -> None:
        tellers, self._on_gone = self._on_gone, []
        for tell in tellers:
            tell()


def stream(transport: asyncio.BaseTransport) -> asyncio.Transport:
    """What a TCP connection's transport is, though uvloop's does not inherit from it."""
    return cast("asyncio.Transport", transport)
