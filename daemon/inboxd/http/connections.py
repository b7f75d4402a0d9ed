"""Limits on the connections of a listener: their number, and the time that a request may take to arrive.

aiohttp limits the size of a body and the time of an idle connection, but not a client that sends its request one byte
at a time. Here each connection has a deadline for a request. It starts when the connection is made or at the first byte
of the next request, and ends when the whole request is here. When the maximum number of connections is reached, the one
that has been idle for the longest time is closed for a new one.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Final

from aiohttp import web

from inboxd.http.guard import READ_BYTES, Guard, stream
from inboxd.http.protocol import RequestProtocol, starting_deadlines
from inboxd.runtime import logs
from inboxd.runtime.errors import AddressInUseError

SWEEP_S: Final = 0.5
ARRIVAL_S: Final = 0.8
"""Time for requests that have begun to arrive completely when the listener stops."""
BACKLOG: Final = 1024
KEEPALIVE_S: Final = 75.0
"""Longer than the idle time of the usual reverse proxies, so that the proxy closes first."""
PATIENCE_S: Final = 1.0
"""When the listener is full and no connection is idle, a request that has been arriving for longer is cut off."""
_TOO_MANY: Final = (
    b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
)


class _TooMany(asyncio.Protocol):
    """Answers a connection beyond the maximum with 503."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        connection = stream(transport)
        connection.write(_TOO_MANY)
        connection.close()


class GuardedSite(web.BaseSite):
    """A listener on `sock` with limits on its connections.

    `on_refused` is called with `too_many`, `too_slow` or `made_room`. `options` are for aiohttp's request handler.
    """

    def __init__(
        self,
        runner: web.BaseRunner,
        sock: socket.socket,
        *,
        max_connections: int,
        request_timeout_s: float,
        on_refused: Callable[[str], None],
        **options: Any,  # noqa: ANN401 - aiohttp's
    ) -> None:
        super().__init__(runner, backlog=BACKLOG)
        self._sock = sock
        self._max_connections = max_connections
        self._request_timeout_s = request_timeout_s
        self._on_refused = on_refused
        self._options = options
        self._guards: set[Guard] = set()
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._log = logs.get("web")
        self._sweep_timer: asyncio.TimerHandle | None = None
        self._sweep_at = 0.0
        """When the next sweep is due (s, of the loop's clock)."""
        self._skipped = False

    @property
    def name(self) -> str:
        """The address, as a URL."""
        return url_of(self._sock)

    async def start(self) -> None:
        """Start to accept connections."""
        await super().start()
        loop = asyncio.get_running_loop()
        server = self._runner.server
        assert server is not None  # noqa: S101 - super().start() created it
        server.request_factory = starting_deadlines(server.request_factory)
        self._server = await loop.create_server(self._accept, sock=self._sock, backlog=BACKLOG)
        self._plan_sweep()

    async def stop(self) -> None:
        """Stop accepting connections, and wait until requests that have begun are here; the runner answers them."""
        await super().stop()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + ARRIVAL_S
        while loop.time() < deadline:
            await asyncio.sleep(0.01)  # sleep first: a connection may be accepted whose callback has not run yet
            if not any(guard.awaited for guard in self._guards):
                break
        if self._sweep_timer is not None:
            self._sweep_timer.cancel()

    def _accept(self) -> asyncio.BaseProtocol:
        server = self._runner.server
        if server is None:  # the runner has been cleaned up
            return _TooMany()
        if len(self._guards) >= self._max_connections and not self._make_room():
            self._on_refused("too_many")
            return _TooMany()
        loop = asyncio.get_running_loop()
        inner = RequestProtocol(server, loop=loop, **self._options)
        inner.guard = Guard(inner, self._guards, loop.time, self._buffer)
        return inner.guard

    def _make_room(self) -> bool:
        """Close the connection that has been idle for the longest time, else the one with the slowest request."""
        self._log.warning("listener_full", connections=self._max_connections, listener=self.name)
        idle = min((guard for guard in self._guards if guard.idle), key=_since, default=None)
        if idle is not None:
            self._on_refused("made_room")
            idle.close()
            return True
        oldest = asyncio.get_running_loop().time() - PATIENCE_S
        slow = [guard for guard in self._guards if guard.arriving_since is not None and guard.arriving_since < oldest]
        if slow:
            self._on_refused("too_slow")
            min(slow, key=_since).cut()
        return bool(slow)

    def _plan_sweep(self) -> None:
        loop = asyncio.get_running_loop()
        self._sweep_at = loop.time() + SWEEP_S
        self._sweep_timer = loop.call_at(self._sweep_at, self._sweep)

    def _sweep(self) -> None:
        """Cut the connections whose requests arrive too slowly."""
        now = asyncio.get_running_loop().time()
        # The process itself stood still: what has arrived meanwhile is read before anybody is blamed for it.
        self._skipped = not self._skipped and now - self._sweep_at > SWEEP_S
        if not self._skipped:
            self._cut_slow(now - self._request_timeout_s)
        self._plan_sweep()

    def _cut_slow(self, oldest: float) -> None:
        for guard in list(self._guards):
            if guard.arriving_since is not None and guard.arriving_since < oldest:
                self._on_refused("too_slow")
                guard.cut()


def _since(guard: Guard) -> float:
    return guard.began


def bind(host: str, port: int, *, key: str) -> socket.socket:
    """A socket that listens on an address. It is opened before anything else is started.

    Raises AddressInUseError when that is impossible; the message names the setting (`key`).
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
    """The URL of a listening socket."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
