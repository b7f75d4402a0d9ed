"""The memory that request bodies may take until they are verified and stored: a budget in bytes.

Anybody can send a body with a well-formed signature. Whether it is valid is only known when the whole body is here. So
the bytes that are held until then are bounded, however many clients send, and however slowly
(docs/decisions/0014-bounds-before-authentication.md):

- Each connection has a **share**, large enough for an ordinary delivery. It is never refused, so small bodies do not
  depend on the bodies of others.
- Bytes beyond the share come from a **pool**, counted as they arrive. One address may have half of the pool.
- When the pool is full, the slowest body that is still arriving is dropped. When that is the body that needs more
  bytes, it is refused.
"""

import asyncio
import ipaddress
from collections import Counter
from typing import Final, Self

from aiohttp import StreamReader

SHARE_BYTES: Final = 64 * 1024
_NETWORK: Final = 64
"""Prefix length: all IPv6 addresses of one network count as one address, since they have one owner."""


class BodyTooLargeError(Exception):
    """The body is larger than the limit."""


class NoRoomError(Exception):
    """The pool has no room for the body."""


class BodyBudget:
    """The budget of one listener: `max_bytes` for all bodies, `max_body_bytes` for one."""

    def __init__(self, *, max_bytes: int, max_body_bytes: int, max_connections: int) -> None:
        self.max_body_bytes = max_body_bytes
        self.share = min(SHARE_BYTES, max_bytes // 2 // max_connections, max_body_bytes)
        """Bytes that every connection may have without taking from the pool."""
        self._pool = max(max_bytes - self.share * max_connections, max_body_bytes)
        self._per_address = max(self._pool // 2, max_body_bytes)
        self._bodies: set[Body] = set()
        self._by_address: Counter[str] = Counter()

    @property
    def pooled(self) -> int:
        """Bytes that are taken from the pool."""
        return self._by_address.total()

    def body(self, remote: str | None, first: bytes) -> "Body":
        """A new body, of which the bytes `first` have arrived. It is a context manager; its end frees the bytes."""
        return Body(self, _address(remote), first)

    def enter(self, body: "Body") -> None:
        """Add a body that begins to arrive."""
        self._bodies.add(body)

    def leave(self, body: "Body") -> None:
        """Remove a body and free its bytes."""
        self._bodies.discard(body)
        self._by_address[body.address] -= body.pooled
        if not self._by_address[body.address]:
            del self._by_address[body.address]
        body.pooled = 0

    def grow(self, body: "Body", size: int) -> None:
        """Give the body the bytes for this size. Slower bodies are dropped for it if necessary. Raises NoRoomError."""
        more = size - self.share - body.pooled
        while more > 0 and (rivals := self._in_the_way(body, more)):
            droppable = (one for one in rivals if one.arriving and (one.pooled or one is body))
            slowest = min(droppable, key=Body.speed, default=body)
            if slowest is body:
                raise NoRoomError
            slowest.drop()
        if more > 0:
            body.pooled += more
            self._by_address[body.address] += more

    def _in_the_way(self, body: "Body", more: int) -> "set[Body]":
        """The bodies that compete with this one for `more` bytes, itself included; empty when there is room."""
        if self._by_address[body.address] + more > self._per_address:
            return {one for one in self._bodies if one.address == body.address}
        return self._bodies if self.pooled + more > self._pool else set()


class Body:
    """One body that takes bytes from the pool, until its context ends."""

    def __init__(self, budget: BodyBudget, address: str, first: bytes) -> None:
        self.address = address
        self.pooled = 0
        self._budget = budget
        self._received = bytearray(first)
        self._began = asyncio.get_running_loop().time()
        self._limit: asyncio.Timeout | None = None

    def __enter__(self) -> Self:
        self._budget.enter(self)
        return self

    def __exit__(self, *_error: object) -> None:
        self._budget.leave(self)
        self._received.clear()  # now: the frames of an error stay alive until the garbage collector runs

    @property
    def arriving(self) -> bool:
        """Whether part of it is missing. Until then it can be dropped."""
        return self._limit is not None

    def speed(self) -> float:
        """Average bytes per second since it began."""
        return len(self._received) / max(asyncio.get_running_loop().time() - self._began, 0.001)

    async def read(self, content: StreamReader) -> bytes:
        """Read the whole body. Raises BodyTooLargeError and NoRoomError."""
        received = self._received
        try:
            async with asyncio.timeout(None) as self._limit:
                while True:
                    if len(received) > self._budget.max_body_bytes:
                        raise BodyTooLargeError
                    self._budget.grow(self, len(received))
                    piece = await content.readany()
                    if not piece:
                        break
                    received += piece
                    del piece  # only one copy is kept while waiting for the next piece
        except TimeoutError as error:
            raise NoRoomError from error
        finally:
            self._limit = None
        whole = bytes(received)
        received.clear()
        return whole

    def drop(self) -> None:
        """Free the bytes; `read` raises NoRoomError."""
        self._budget.leave(self)
        if self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time())
            self._limit = None


def _address(remote: str | None) -> str:
    """The address to count for: for IPv6, the network."""
    try:
        address = ipaddress.ip_address(remote or "")
    except ValueError:
        return remote or ""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _NETWORK), strict=False))
