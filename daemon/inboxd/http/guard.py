"""The layer between a transport and aiohttp's protocol. It knows since when a request has been arriving."""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol, cast

from inboxd.runtime import logs

READ_BYTES: Final = 32 * 1024
"""Bytes read from a socket at a time. aiohttp buffers about twice as much of a body that is not read."""
_TOO_SLOW: Final = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Inner(Protocol):
    """What a guard needs from the protocol behind it."""

    @property
    def is_waiting(self) -> bool:
        """Whether no request is being answered; the next one may come."""

    @property
    def is_answered(self) -> bool:
        """Whether the latest request has been answered. The rest of its body is discarded."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """As in asyncio.Protocol, like the methods below."""

    def data_received(self, data: bytes) -> None: ...  # noqa: D102

    def eof_received(self) -> None: ...  # noqa: D102

    def pause_writing(self) -> None: ...  # noqa: D102

    def resume_writing(self) -> None: ...  # noqa: D102

    def connection_lost(self, exc: BaseException | None) -> None: ...  # noqa: D102


class Guard(asyncio.BufferedProtocol):
    """One connection. `guards` are all connections of its listener. `buffer` is shared by them for reading.

    `now` is a monotonic clock in seconds.
    """

    def __init__(self, inner: Inner, guards: "set[Guard]", now: Callable[[], float], buffer: memoryview) -> None:
        self._inner = inner
        self._guards = guards
        self._now = now
        self._buffer = buffer
        self._transport: asyncio.Transport | None = None
        self._on_disconnect: list[Callable[[], None]] = []
        self.began = now()
        """When the latest request began to arrive, or when the connection was made."""
        self.arriving_since: float | None = self.began
        self.receiving = False
        """Whether part of a request is here, but not the whole request."""
        self._fresh = True

    @property
    def awaited(self) -> bool:
        """Whether a request is expected: part of it is here, or the connection is new."""
        return self.receiving or self._fresh

    @property
    def idle(self) -> bool:
        """Whether no part of a request is here, and none is being answered."""
        return not self.receiving and self._inner.is_waiting

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Register the connection."""
        self._transport = stream(transport)
        self._guards.add(self)
        self._inner.connection_made(transport)

    def get_buffer(self, _sizehint: int) -> memoryview:
        """The buffer for the next read."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Note when a request begins to arrive, and pass on the bytes that are here."""
        data = bytes(self._buffer[:nbytes])
        self._fresh = False
        self.expect()
        try:
            self._inner.data_received(data)
        except Exception as error:  # noqa: BLE001 - any error of the parser; its text may contain what was sent
            logs.get("web").error("connection_failed", error=type(error).__name__)
            self.abort()

    def expect(self) -> None:
        """Part of a request is here. Start the deadline for the rest, unless it runs already."""
        self.receiving = True
        if self.arriving_since is None:
            self.arriving_since = self.began = self._now()

    def arrived(self) -> None:
        """The whole request is here. There is no deadline until the next one begins."""
        self.arriving_since = None
        self.receiving = False

    def eof_received(self) -> None:
        """The client has closed its side; the transport closes too."""
        self._disconnected()
        self._inner.eof_received()

    def pause_writing(self) -> None:
        """Pass it on."""
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._inner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """Unregister the connection."""
        self._guards.discard(self)
        self._inner.connection_lost(exc)
        self._disconnected()

    def add_on_disconnect(self, callback: Callable[[], None]) -> None:
        """Call `callback` once when the client disconnects."""
        self._on_disconnect.append(callback)

    def remove_on_disconnect(self, callback: Callable[[], None]) -> None:
        """Do not call `callback` any more."""
        if callback in self._on_disconnect:
            self._on_disconnect.remove(callback)

    def cut(self) -> None:
        """Answer 408 unless the request has been answered, and close the connection."""
        if self._transport is not None:
            if not self._inner.is_answered:
                self._transport.write(_TOO_SLOW)
            self.close()

    def close(self) -> None:
        """Close the connection. It no longer counts towards the maximum."""
        self._guards.discard(self)
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close the connection at once, without writing what is buffered."""
        self._guards.discard(self)
        if self._transport is not None:
            self._transport.abort()

    def _disconnected(self) -> None:
        callbacks, self._on_disconnect = self._on_disconnect, []
        for callback in callbacks:
            callback()


def stream(transport: asyncio.BaseTransport) -> asyncio.Transport:
    """The transport with the type of a TCP transport; uvloop's class does not inherit from it."""
    return cast("asyncio.Transport", transport)
