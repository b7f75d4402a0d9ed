"""The inbox: stores deliveries as they came, from their acknowledgement to Meta until they are processed."""

import asyncio
import sqlite3
from collections import deque
from collections.abc import Collection, Sequence
from contextlib import suppress
from itertools import accumulate
from typing import Final, NamedTuple

import msgspec

from inboxd.receiving.arrivals import MINUTE_MS, MINUTES, Arrivals
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import StorageBusyError, StorageError
from inboxd.runtime.worker import Wakeup
from inboxd.storage.connection import MAX_ROWS, Row, fetch_packed, insert_many
from inboxd.storage.database import Database

QUIET_S: Final = 0.02
BATCH_BYTES: Final = 512 * 1024
"""Bytes of bodies that are read at once: decoded, they need many times as much memory. A larger body is read alone."""

_APPEND: Final = "INSERT INTO deliveries (received_at, body, signature) {rows}"
_PENDING: Final = """
SELECT json_group_array(json_array(id, length(body))) FROM (
    SELECT id, body FROM deliveries WHERE state = 'pending' AND next_attempt_at <= ?1 ORDER BY id LIMIT ?2
)
"""
# The bodies of a batch are read as one value, because each row would release and take the interpreter lock.
_BODIES: Final = """
SELECT json_group_array(json_array(id, received_at, attempts, length(body))),
       CAST(group_concat(CAST(body AS TEXT), '') AS BLOB)
FROM (
    SELECT id, received_at, attempts, body FROM deliveries
    WHERE id IN (SELECT value FROM json_each(?)) AND state = 'pending' ORDER BY id
)
"""
_NEXT_ATTEMPT: Final = "SELECT min(next_attempt_at) FROM deliveries WHERE state = 'pending'"
_OLDEST_DUE: Final = """
SELECT id FROM deliveries WHERE state = 'pending' AND next_attempt_at <= ? ORDER BY id LIMIT 1
"""
_DROP: Final = "DELETE FROM deliveries WHERE id = ? AND state = 'done'"
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
_RETRY_ALL: Final = """
UPDATE deliveries SET state = 'pending', attempts = 0, next_attempt_at = 0, settled_at = NULL, error = NULL
WHERE state = 'failed'
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
_BEGINNING: Final = """
SELECT id, received_at, state, attempts, next_attempt_at, settled_at, error, length(body), substr(body, 1, ?2)
FROM deliveries WHERE id = ?1
"""
_COUNT: Final = "SELECT count(*) FROM deliveries WHERE state = ?"
_COUNT_ALL: Final = "SELECT count(*) FROM deliveries"
_BACKLOG: Final = """
SELECT (SELECT count(*) FROM deliveries WHERE state = 'pending'),
       (SELECT received_at FROM deliveries WHERE state = 'pending' ORDER BY id LIMIT 1)
"""
_RECALLED: Final = 20_000
_ARRIVALS: Final = """
SELECT min(received_at), count(*) FROM (SELECT received_at FROM deliveries ORDER BY id DESC LIMIT ?)
WHERE received_at >= ? GROUP BY received_at / 60000 ORDER BY 1
"""


class _Waiting(NamedTuple):
    """A delivery that is not durable yet, and the future of the request that waits until it is."""

    received_at: int
    body: bytes
    signature: bytes | None
    durable: "asyncio.Future[int]"


class PendingDelivery(NamedTuple):
    """A delivery that waits to be processed."""

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


class Inbox:
    """Stores deliveries durably, many per commit, and keeps their state."""

    def __init__(self, database: Database, clock: Clock, *, max_waiting: int) -> None:
        self._database = database
        self._clock = clock
        self.max_waiting = max_waiting
        self._waiting: deque[_Waiting] = deque()
        self._queued = False
        self.waiting = 0
        """How many deliveries have a sender that waits for the disk."""
        self.arrivals = Arrivals()
        self._pressure = 0.0
        self._committed_at = 0.0
        self.arrived = Wakeup()
        """Notified when there may be something to process. The processing worker uses it as its wakeup."""

    async def append(self, body: bytes, signature: bytes | None = None) -> int:
        """Store `body`, with the HMAC-SHA256 by which it was verified. Returns the delivery's id once it is durable.

        All deliveries that arrive during one commit go into the next. Raises StorageBusyError when `max_waiting`
        deliveries wait already, and StorageUnavailableError when the disk refuses.
        """
        if self.waiting >= self.max_waiting:
            msg = f"{self.max_waiting} deliveries are waiting for the disk"
            raise StorageBusyError(msg)
        durable: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        # Here the delivery is queued first, then the flag is read. The writer's thread clears the flag first, then
        # takes the queue. So the queued transaction takes the delivery, or a new transaction is queued for it.
        delivery = _Waiting(self._clock.now_ms(), body, signature, durable)
        self._waiting.append(delivery)
        if not self._queued:
            self._queued = True
            try:
                self._queue()
            except StorageError:  # the writer takes no more: no request may wait for a transaction that never comes
                self._queued = False
                with suppress(ValueError):  # unless a running transaction has taken it
                    self._waiting.remove(delivery)
                raise
        self.waiting += 1
        try:
            return await durable
        finally:
            self.waiting -= 1

    @property
    def pressure(self) -> float:
        """How many senders wait for the disk: an average over the latest commits; 0 after QUIET_S without a commit."""
        return self._pressure if self._clock.monotonic() - self._committed_at < QUIET_S else 0.0

    def _queue(self) -> None:
        """Queue a transaction that stores the waiting deliveries, up to the limit of one statement."""
        taken: list[_Waiting] = []
        began = False
        last_id = 0

        def store(connection: sqlite3.Connection) -> None:
            nonlocal began, last_id
            began = True
            self._queued = False
            taken.extend(self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_ROWS)))
            last_id = insert_many(connection, _APPEND, [(one.received_at, one.body, one.signature) for one in taken])

        def settle(commit: "asyncio.Future[None]") -> None:
            error = commit.exception()
            if not began:  # the file refused to begin: the requests that wait must get the error
                self._queued = False
                taken.extend(self._waiting)
                self._waiting.clear()
            self._pressure += (self.waiting - self._pressure) / 8
            self._committed_at = self._clock.monotonic()
            for number, one in enumerate(taken, start=last_id - len(taken) + 1):
                if one.durable.done():  # the request was cancelled; its delivery is stored anyway
                    continue
                if error is None:
                    one.durable.set_result(number)
                else:
                    one.durable.set_exception(error)
            if error is None:
                self.arrivals.add(self._clock.now_ms(), len(taken))
            self.arrived.notify()  # also when refused: it may be stored, in a file that was moved away
            self._queue_rest()

        self._database.submit(store, urgent=True, is_statement=True).add_done_callback(settle)

    def _queue_rest(self) -> None:
        """Queue what did not fit into one statement, so that it does not wait for the next delivery."""
        if self._queued or not self._waiting:
            return
        self._queued = True
        try:
            self._queue()
        except StorageError as error:
            self._queued = False
            while self._waiting:
                stranded = self._waiting.popleft().durable
                if not stranded.done():
                    stranded.set_exception(error)

    async def recall(self) -> None:
        """Count the arrivals from before this start. Reads at most _RECALLED deliveries. Raises StorageError."""
        since = self._clock.now_ms() - MINUTES * MINUTE_MS
        for at, count in await self._database.read(_ARRIVALS, (_RECALLED, since)):
            self.arrivals.add(at, count)

    async def pending(self, max_count: int, *, max_bytes: int = BATCH_BYTES) -> list[PendingDelivery]:
        """The deliveries that are due, in arrival order: at least one, and as many more as both limits allow."""
        now = self._clock.now_ms()

        def read(connection: sqlite3.Connection) -> list[PendingDelivery]:
            ids = _fitting(sorted(fetch_packed(connection, _PENDING, (now, max_count))), max_bytes)
            return _bodies(connection, ids) if ids else []

        return await self._database.reading(read)

    async def next_attempt_at(self) -> int | None:
        """When the earliest waiting delivery is due (ms), or None when none waits."""
        ((at,),) = await self._database.read(_NEXT_ATTEMPT)
        return int(at) if at is not None else None

    async def retry(self, delivery_id: int) -> bool:
        """Put a failed delivery back in the queue. False when there is no failed delivery with that id."""

        def transaction(connection: sqlite3.Connection) -> bool:
            return connection.execute(_RETRY, (delivery_id,)).rowcount > 0

        found = await self._database.write(transaction)
        if found:
            self.arrived.notify()
        return found

    async def retry_all(self) -> int:
        """Put every failed delivery back in the queue. Returns how many."""
        count = await self._database.write(lambda connection: connection.execute(_RETRY_ALL).rowcount)
        if count:
            self.arrived.notify()
        return count

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
        return _with_body(await self._database.read(_ONE, (delivery_id,)))

    async def look(self, delivery_id: int, size: int = 0) -> tuple[DeliverySummary, bytes] | None:
        """One delivery with the first `size` bytes of its raw body."""
        return _with_body(await self._database.read(_BEGINNING, (delivery_id, size)))

    async def backlog(self) -> tuple[int, float]:
        """How many deliveries wait to be processed, and the age of the oldest in seconds (0 when none waits)."""
        ((count, oldest),) = await self._database.read(_BACKLOG)
        return int(count), 0.0 if oldest is None else max(0, self._clock.now_ms() - oldest) / 1000


def _fitting(sizes: Sequence[Sequence[int]], max_bytes: int) -> list[int]:
    """The ids of the first deliveries that fit into `max_bytes`. The first one is always included."""
    totals = accumulate(size for _, size in sizes)
    return [
        number for (number, _), total in zip(sizes, totals, strict=True) if total <= max_bytes or number == sizes[0][0]
    ]


def _bodies(connection: sqlite3.Connection, ids: Sequence[int]) -> list[PendingDelivery]:
    ((packed, joined),) = connection.execute(_BODIES, (msgspec.json.encode(ids).decode(),)).fetchall()
    found: list[PendingDelivery] = []
    start = 0
    for number, received_at, attempts, size in msgspec.json.decode(packed):
        found.append(PendingDelivery(number, received_at, attempts, joined[start : start + size]))
        start += size
    return found


def oldest_due(connection: sqlite3.Connection, now: int) -> int | None:
    """The id of the oldest delivery that is due to be processed at `now` (ms), or None."""
    rows = connection.execute(_OLDEST_DUE, (now,)).fetchall()
    return int(rows[0][0]) if rows else None


def _with_body(rows: Sequence[Row]) -> tuple[DeliverySummary, bytes] | None:
    if not rows:
        return None
    *summary, body = rows[0]
    return DeliverySummary(*summary), bytes(body or b"")  # substr of an empty body is NULL


def mark_done(connection: sqlite3.Connection, ids: Sequence[int], now: int) -> None:
    """Record that these deliveries are processed. `now` in ms."""
    connection.execute(_DONE, (now, msgspec.json.encode(ids).decode()))


def drop(connection: sqlite3.Connection, ids: Collection[int]) -> None:
    """Remove deliveries that are processed: they hold what was erased before they came."""
    connection.executemany(_DROP, [(one,) for one in ids])


def mark_postponed(
    connection: sqlite3.Connection, delivery_id: int, *, attempts: int, next_attempt_at: int, error: str
) -> None:
    """Record that processing failed, and that the next attempt is at `next_attempt_at` (ms)."""
    connection.execute(_POSTPONE, (attempts, next_attempt_at, error, delivery_id))


def mark_failed(connection: sqlite3.Connection, delivery_id: int, *, attempts: int, now: int, error: str) -> None:
    """Mark the delivery as failed, with its error. It blocks no other delivery and can be retried. `now` in ms."""
    connection.execute(_FAIL, (attempts, now, error, delivery_id))
