"""The inbox: deliveries as they came, from the moment they are promised to Meta until they are understood."""

import asyncio
import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from inboxd.clock import Clock
from inboxd.errors import StorageBusyError
from inboxd.store.connection import insert_many
from inboxd.store.database import Database

_APPEND: Final = "INSERT INTO deliveries (received_at, body) VALUES {rows}"
_PENDING: Final = """
SELECT id, received_at, attempts, body FROM deliveries
WHERE state = 'pending' AND next_attempt_at <= ? ORDER BY id LIMIT ?
"""
_NEXT_ATTEMPT: Final = "SELECT min(next_attempt_at) FROM deliveries WHERE state = 'pending'"
_DONE: Final = """
UPDATE deliveries SET state = 'done', settled_at = ?, error = NULL
WHERE id IN (SELECT value FROM json_each(?))
"""
_POSTPONE: Final = """
UPDATE deliveries SET attempts = ?, next_attempt_at = ?, error = ? WHERE id = ? AND state = 'pending'
"""
_FAIL: Final = """
UPDATE deliveries SET state = 'failed', attempts = ?, settled_at = ?, error = ? WHERE id = ? AND state = 'pending'
"""
_RETRY: Final = """
UPDATE deliveries SET state = 'pending', attempts = 0, next_attempt_at = 0, settled_at = NULL, error = NULL
WHERE id = ? AND state = 'failed'
"""
_LIST: Final = """
SELECT id, received_at, state, attempts, next_attempt_at, settled_at, error, length(body) FROM deliveries
WHERE state = ? ORDER BY id DESC LIMIT ? OFFSET ?
"""
_LIST_ALL: Final = """
SELECT id, received_at, state, attempts, next_attempt_at, settled_at, error, length(body) FROM deliveries
ORDER BY id DESC LIMIT ? OFFSET ?
"""
_ONE: Final = """
SELECT id, received_at, state, attempts, next_attempt_at, settled_at, error, length(body), body FROM deliveries
WHERE id = ?
"""
_COUNT: Final = "SELECT count(*) FROM deliveries WHERE state = ?"
_COUNT_ALL: Final = "SELECT count(*) FROM deliveries"
_BACKLOG: Final = """
SELECT (SELECT count(*) FROM deliveries WHERE state = 'pending'),
       (SELECT received_at FROM deliveries WHERE state = 'pending' ORDER BY id LIMIT 1)
"""
_EXPIRE: Final = """
DELETE FROM deliveries WHERE id IN (SELECT id FROM deliveries WHERE settled_at < ? ORDER BY settled_at LIMIT ?)
    AND state = 'done'
"""


class PendingDelivery(NamedTuple):
    """A delivery that waits to be understood."""

    id: int
    received_at: int
    attempts: int
    body: bytes


class DeliverySummary(NamedTuple):
    """A delivery without its body. Times in ms."""

    id: int
    received_at: int
    state: str
    attempts: int
    next_attempt_at: int
    settled_at: int | None
    error: str | None
    size: int


class _Group:
    """Deliveries that will become durable together, and the requests that wait for it."""

    __slots__ = ("rows", "waiters")

    def __init__(self) -> None:
        self.rows: list[tuple[int, bytes]] = []
        self.waiters: list[asyncio.Future[None]] = []


class Inbox:
    """Appends deliveries durably, many to a commit, and keeps track of what became of them."""

    def __init__(self, database: Database, clock: Clock, *, max_waiting: int) -> None:
        self._database = database
        self._clock = clock
        self._max_waiting = max_waiting
        self._open: _Group | None = None
        self.waiting = 0
        """Deliveries whose senders wait for the disk."""
        self.arrived = asyncio.Event()
        """Set when there may be something to process; whoever processes clears it."""

    async def append(self, body: bytes) -> None:
        """Store `body`; returns once it is durable.

        Everything that arrives while one commit runs goes into the next. Raises StorageBusyError beyond
        `max_waiting`, and StorageUnavailableError when the disk refuses.
        """
        if self.waiting >= self._max_waiting:
            msg = f"{self._max_waiting} deliveries are waiting for the disk"
            raise StorageBusyError(msg)
        if self._open is None:
            self._open = self._hand_over(_Group())
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._open.rows.append((self._clock.now_ms(), body))
        self._open.waiters.append(waiter)
        self.waiting += 1
        await waiter

    def _hand_over(self, group: _Group) -> _Group:
        """Queue `group` at the writer; it stays open to newcomers until the writer takes it."""

        def insert(connection: sqlite3.Connection) -> None:
            insert_many(connection, _APPEND, group.rows)

        def close() -> None:
            self._open = None

        def settle(commit: "asyncio.Future[None]") -> None:
            self.waiting -= len(group.waiters)
            error = commit.exception()
            for waiter in group.waiters:
                if waiter.done():  # the request was cancelled; its delivery is stored all the same
                    continue
                if error is None:
                    waiter.set_result(None)
                else:
                    waiter.set_exception(error)
            if error is None:
                self.arrived.set()

        self._database.submit(insert, on_taken=close).add_done_callback(settle)
        return group

    async def pending(self, limit: int) -> list[PendingDelivery]:
        """Deliveries that are due to be processed, in arrival order."""
        rows = await self._database.read(_PENDING, (self._clock.now_ms(), limit))
        return [PendingDelivery(*row) for row in rows]

    async def next_attempt_at(self) -> int | None:
        """When the earliest waiting delivery is due (ms), or None when none waits."""
        ((at,),) = await self._database.read(_NEXT_ATTEMPT)
        return int(at) if at is not None else None

    async def retry(self, delivery_id: int) -> bool:
        """Put a failed delivery back in the queue; False when there is no failed delivery of that id."""

        def transaction(connection: sqlite3.Connection) -> bool:
            return connection.execute(_RETRY, (delivery_id,)).rowcount > 0

        found = await self._database.write(transaction)
        if found:
            self.arrived.set()
        return found

    async def page(self, *, state: str | None, limit: int, offset: int) -> tuple[list[DeliverySummary], int]:
        """Deliveries in one state (None: all), newest first, and how many there are."""
        if state is None:
            rows = await self._database.read(_LIST_ALL, (limit, offset))
            ((total,),) = await self._database.read(_COUNT_ALL)
        else:
            rows = await self._database.read(_LIST, (state, limit, offset))
            ((total,),) = await self._database.read(_COUNT, (state,))
        return [DeliverySummary(*row) for row in rows], int(total)

    async def get(self, delivery_id: int) -> tuple[DeliverySummary, bytes] | None:
        """One delivery with its raw body."""
        rows = await self._database.read(_ONE, (delivery_id,))
        if not rows:
            return None
        *summary, body = rows[0]
        return DeliverySummary(*summary), bytes(body)

    async def backlog(self) -> tuple[int, float]:
        """How many deliveries wait to be processed, and the age of the oldest in seconds (0 when none waits)."""
        ((count, oldest),) = await self._database.read(_BACKLOG)
        return int(count), 0.0 if oldest is None else max(0, self._clock.now_ms() - oldest) / 1000

    async def expire(self, before: int, limit: int) -> int:
        """Remove up to `limit` deliveries that were understood before `before` (ms); returns how many."""

        def transaction(connection: sqlite3.Connection) -> int:
            return connection.execute(_EXPIRE, (before, limit)).rowcount

        return await self._database.write(transaction)


def mark_done(connection: sqlite3.Connection, ids: Sequence[int], now: int) -> None:
    """These deliveries are understood."""
    connection.execute(_DONE, (now, msgspec.json.encode(ids).decode()))


def mark_postponed(
    connection: sqlite3.Connection, delivery_id: int, *, attempts: int, next_attempt_at: int, error: str
) -> None:
    """Handling failed; try again at `next_attempt_at` (ms)."""
    connection.execute(_POSTPONE, (attempts, next_attempt_at, error, delivery_id))


def mark_failed(connection: sqlite3.Connection, delivery_id: int, *, attempts: int, now: int, error: str) -> None:
    """Set the delivery aside with its error; it blocks nobody and can be retried."""
    connection.execute(_FAIL, (attempts, now, error, delivery_id))
