"""Connections of a listener: how many there may be, and how long a request may take to arrive.

aiohttp bounds the size of a body and the life of an idle connection; what it leaves open is the client that connects
and sends its request a byte at a time. Here each connection has a deadline, from its first moment or the first byte of
its next request until that request is there in full.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Final, cast

from aiohttp import web

from inboxd.errors import AddressInUseError

SWEEP_S: Final = 0.5
ARRIVAL_S: Final = 0.8
"""How long requests that have begun get to arrive when the listener stops."""
BACKLOG: Final = 1024
KEEPALIVE_S: Final = 75.0
"""Longer than the idle time of the usual reverse proxies, so that it is they who close."""
_TOO_MANY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)
_TOO_SLOW: Final = b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


class Guard(asyncio.Protocol):
    """Stands between a transport and aiohttp's protocol, and knows since when a request is arriving."""

    def __init__(self, inner: asyncio.Protocol, guards: "set[Guard]", now: Callable[[], float]) -> None:
        self._inner = inner
        self._guards = guards
        self._now = now
        self._transport: asyncio.Transport | None = None
        self.arriving_since: float | None = now()
        self.receiving = False
        """Whether part of a request is here, but not all of it."""
        self._fresh = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the connection in."""
        self._transport = _stream(transport)
        self._guards.add(self)
        self._inner.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Note when a request begins to arrive."""
        self._fresh = False
        self.expect()
        self._inner.data_received(data)

    def expect(self) -> None:
        """Part of a request is here: the rest has a deadline from now on, unless it had one before."""
        self.receiving = True
        if self.arriving_since is None:
            self.arriving_since = self._now()

    @property
    def awaited(self) -> bool:
        """Whether a request is on its way: part of it is here, or its connection has only just been made."""
        return self.receiving or self._fresh

    def eof_received(self) -> bool | None:
        """Pass it on."""
        return self._inner.eof_received()

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

    def cut(self) -> None:
        """Tell the client that it was too slow, and hang up."""
        if self._transport is not None:
            self._transport.write(_TOO_SLOW)
            self._transport.close()


def _stream(transport: asyncio.BaseTransport) -> asyncio.Transport:
    """What a TCP connection's transport is, though uvloop's does not inherit from it."""
    return cast("asyncio.Transport", transport)


class _TooMany(asyncio.Protocol):
    """The answer to one connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        stream = _stream(transport)
        stream.write(_TOO_MANY)
        stream.close()


def request_arriving(request: web.Request) -> None:
    """The body of the request is not here yet: its connection has a deadline, also behind one that had arrived."""
    guard = _guard_of(request)
    if guard is not None:
        guard.expect()


def request_arrived(request: web.Request) -> None:
    """The request is here in full: its connection has no deadline until the next one begins."""
    guard = _guard_of(request)
    if guard is not None:
        guard.arriving_since = None
        guard.receiving = False


def _guard_of(request: web.Request) -> Guard | None:
    transport = request.transport
    guard = transport.get_protocol() if transport is not None else None
    return guard if isinstance(guard, Guard) else None


class GuardedSite(web.BaseSite):
    """A listener on `sock` with limits on its connections. `on_refused` is told `too_many` or `too_slow`."""

    def __init__(
        self,
        runner: web.BaseRunner,
        sock: socket.socket,
        *,
        max_connections: int,
        request_timeout_s: float,
        on_refused: Callable[[str], None],
    ) -> None:
        super().__init__(runner, backlog=BACKLOG)
        self._sock = sock
        self._max_connections = max_connections
        self._request_timeout_s = request_timeout_s
        self._on_refused = on_refused
        self._guards: set[Guard] = set()
        self._sweep_timer: asyncio.TimerHandle | None = None

    @property
    def name(self) -> str:
        """The address, as a URL."""
        return url_of(self._sock)

    async def start(self) -> None:
        """Begin to accept."""
        await super().start()
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._accept, sock=self._sock, backlog=BACKLOG)
        self._sweep_timer = loop.call_later(SWEEP_S, self._sweep)

    async def stop(self) -> None:
        """Stop accepting, and let requests that have begun arrive; answering them is the runner's business."""
        await super().stop()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ARRIVAL_S
        while any(guard.awaited for guard in self._guards) and loop.time() < deadline:  # noqa: ASYNC110 - once, at the end
            await asyncio.sleep(0.01)
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()

    def _accept(self) -> asyncio.Protocol:
        if len(self._guards) >= self._max_connections:
            self._on_refused("too_many")
            return _TooMany()
        server = self._runner.server
        if server is None:  # between the last request and the end
            return _TooMany()
        return Guard(server(), self._guards, asyncio.get_running_loop().time)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        oldest = loop.time() - self._request_timeout_s
        for guard in list(self._guards):
            if guard.arriving_since is not None and guard.arriving_since < oldest:
                self._on_refused("too_slow")
                guard.cut()
        self._sweep_timer = loop.call_later(SWEEP_S, self._sweep)


def bind(host: str, port: int, *, key: str) -> socket.socket:
    """A listening socket's address, taken before anything else is started.

    Raises AddressInUseError, naming the setting (`key`), when it cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        sock = socket.socket(family, kind, protocol)
    except OSError as error:
        msg = f"cannot listen on {host}:{port}: {error.strerror}; check {key}.host"
        raise AddressInUseError(msg) from error
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind(address)
        sock.listen(BACKLOG)
    except OSError as error:
        sock.close()
        msg = f"cannot listen on {host}:{port}: {error.strerror}; stop what uses it, or set {key}.port"
        raise AddressInUseError(msg) from error
    return sock


def url_of(sock: socket.socket) -> str:
    """The URL under which a listening socket is reached."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
