"""How much memory the bodies of requests may take until they are verified and stored: a budget in bytes.

Anybody can send a body with a well-formed signature; whether it is a good one shows when all of it is here. So what is
held until then is bounded, whoever sends and however slowly (docs/decisions/0014-bounds-before-authentication.md):

- Each connection has a **share**, large enough for an ordinary delivery. It is never refused, so small bodies do not
  depend on anybody else's.
- What a body takes beyond its share comes from a **pool**, counted as it arrives. One address may have half of it.
- When a piece does not fit, the slowest body that is still arriving is dropped from the pool; when that is the one that
  wants more, it is refused.
"""

import asyncio
import ipaddress
from collections import Counter
from typing import Final, Self

from aiohttp import StreamReader

SHARE_BYTES: Final = 64 * 1024
_NETWORK: Final = 64
"""Whoever has one IPv6 address has all of its network of so many bits."""


class BodyTooLargeError(Exception):
    """The body is larger than one may be."""


class NoRoomError(Exception):
    """There is no room for the body among the others."""


class BodyBudget:
    """The bytes that all bodies of a listener may take: `max_bytes`, of which one may have `max_body_bytes`."""

    def __init__(self, *, max_bytes: int, max_body_bytes: int, max_connections: int) -> None:
        self.max_body_bytes = max_body_bytes
        self.share = min(SHARE_BYTES, max_bytes // 2 // max_connections, max_body_bytes)
        """Bytes that every connection may have without asking."""
        self._pool = max(max_bytes - self.share * max_connections, max_body_bytes)
        self._per_address = max(self._pool // 2, max_body_bytes)
        self._bodies: set[Body] = set()
        self._by_address: Counter[str] = Counter()

    @property
    def pooled(self) -> int:
        """Bytes that are taken from the pool."""
        return self._by_address.total()

    def body(self, remote: str | None, first: bytes) -> "Body":
        """A body that may become larger than a share, of which `first` is here; when it is left, its room is free."""
        return Body(self, _address(remote), first)

    def enter(self, body: "Body") -> None:
        """It begins to arrive."""
        self._bodies.add(body)

    def leave(self, body: "Body") -> None:
        """It takes nothing any more."""
        self._bodies.discard(body)
        self._by_address[body.address] -= body.pooled
        if not self._by_address[body.address]:
            del self._by_address[body.address]
        body.pooled = 0

    def grow(self, body: "Body", size: int) -> None:
        """The body has this size now. Others are dropped for it if they are slower. Raises NoRoomError."""
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
        """Whose bytes keep the body from having `more`, itself among them; nobody's when there is room."""
        if self._by_address[body.address] + more > self._per_address:
            return {one for one in self._bodies if one.address == body.address}
        return self._bodies if self.pooled + more > self._pool else set()


class Body:
    """One body that takes from the pool, until it is left."""

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
        self._received.clear()  # at once: the frames of an error live on until the collector comes

    @property
    def arriving(self) -> bool:
        """Whether it is not all here: what is can still be dropped."""
        return self._limit is not None

    def speed(self) -> float:
        """Bytes a second, from its first to this moment."""
        return len(self._received) / max(asyncio.get_running_loop().time() - self._began, 0.001)

    async def read(self, content: StreamReader) -> bytes:
        """All of it. Raises BodyTooLargeError and NoRoomError."""
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
                    del piece  # while the next one is waited for, there is one copy
        except TimeoutError as error:
            raise NoRoomError from error
        finally:
            self._limit = None
        whole = bytes(received)
        received.clear()
        return whole

    def drop(self) -> None:
        """Make room: whoever reads it ends with NoRoomError."""
        self._budget.leave(self)
        if self._limit is not None:
            self._limit.reschedule(asyncio.get_running_loop().time())
            self._limit = None


def _address(remote: str | None) -> str:
    """Whom an address belongs to: its network, for IPv6."""
    try:
        address = ipaddress.ip_address(remote or "")
    except ValueError:
        return remote or ""
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _NETWORK), strict=False))
