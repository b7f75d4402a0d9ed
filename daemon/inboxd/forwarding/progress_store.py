"""What the workers of endpoints keep: how far they are, what waits for a retry, and the latest attempts."""

import sqlite3
from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from inboxd.storage.connection import insert_many
from inboxd.storage.database import Database

MAX_ATTEMPTS: Final = 1000
"""Attempts that are kept of an endpoint."""
MAX_FAILED: Final = 1000
"""Failed events that are kept of an endpoint."""

_ROW: Final = "seq, item_id, type, lane, state, attempts, next_attempt_at, recorded_at, first_failed_at, error"
_SAVE: Final = """
UPDATE webhook_endpoints SET cursor = ?, failing_since = ?, last_success_at = ?, last_attempt_at = ?, last_error = ?,
    lost = lost + ?, lost_untold = max(0, lost_untold - ?)
WHERE id = ? AND generation = ?
"""
_PUT: Final = f"""
INSERT INTO webhook_retries (endpoint_id, {_ROW}) {{rows}}
ON CONFLICT (endpoint_id, seq) DO UPDATE SET
    lane = excluded.lane, state = excluded.state, attempts = excluded.attempts,
    next_attempt_at = excluded.next_attempt_at, first_failed_at = excluded.first_failed_at, error = excluded.error
"""
_DONE: Final = """
DELETE FROM webhook_retries WHERE endpoint_id = ? AND seq IN (SELECT value FROM json_each(?))
"""
_TRIM_FAILED: Final = """
DELETE FROM webhook_retries WHERE endpoint_id = ?1 AND state = 'failed' AND seq <= (
    SELECT seq FROM webhook_retries WHERE endpoint_id = ?1 AND state = 'failed' ORDER BY seq DESC LIMIT 1 OFFSET ?2
)
"""
_ATTEMPT: Final = """
INSERT INTO webhook_attempts (
    endpoint_id, item_id, type, account_id, attempt, at, latency_ms, status, error, response
) {rows}
"""
_TRIM: Final = """
DELETE FROM webhook_attempts WHERE endpoint_id = ?1 AND id <= (
    SELECT id FROM webhook_attempts WHERE endpoint_id = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2
)
"""
_LANES: Final = """
SELECT lane, min(seq), next_attempt_at FROM webhook_retries
WHERE endpoint_id = ? AND state <> 'failed' GROUP BY lane
"""
_LANE: Final = f"""
SELECT {_ROW} FROM webhook_retries WHERE endpoint_id = ? AND lane = ? AND state <> 'failed' ORDER BY seq LIMIT ?
"""  # noqa: S608 - constants
_COUNTS: Final = """
SELECT coalesce(sum(state <> 'failed'), 0), coalesce(sum(state = 'failed'), 0),
       min(CASE WHEN state <> 'failed' THEN recorded_at END)
FROM webhook_retries WHERE endpoint_id = ?
"""
_PAGE: Final = f"""
SELECT {_ROW} FROM webhook_retries WHERE endpoint_id = ? ORDER BY seq LIMIT ? OFFSET ?
"""  # noqa: S608 - constants
_PAGE_OF_STATE: Final = f"""
SELECT {_ROW} FROM webhook_retries WHERE endpoint_id = ? AND state = ? ORDER BY seq LIMIT ? OFFSET ?
"""  # noqa: S608 - constants
_COUNT: Final = "SELECT count(*) FROM webhook_retries WHERE endpoint_id = ?"
_COUNT_OF_STATE: Final = "SELECT count(*) FROM webhook_retries WHERE endpoint_id = ? AND state = ?"
_RETRY: Final = """
UPDATE webhook_retries SET state = 'retrying', attempts = 0, next_attempt_at = 0, first_failed_at = NULL
WHERE endpoint_id = ? AND item_id = ?
"""
_ONE: Final = f"SELECT {_ROW} FROM webhook_retries WHERE endpoint_id = ? AND item_id = ?"  # noqa: S608 - constants
_ATTEMPTS: Final = """
SELECT item_id, type, account_id, attempt, at, latency_ms, status, error, response FROM webhook_attempts
WHERE endpoint_id = ? ORDER BY id DESC LIMIT ? OFFSET ?
"""
_COUNT_ATTEMPTS: Final = "SELECT count(*) FROM webhook_attempts WHERE endpoint_id = ?"
_NEXT_EVENT: Final = "SELECT recorded_at FROM events WHERE seq > ? ORDER BY seq LIMIT 1"
_NEXT_DELIVERY: Final = "SELECT received_at FROM deliveries WHERE id > ? ORDER BY id LIMIT 1"


class RetryState(StrEnum):
    """What becomes of an event that could not be delivered at first."""

    WAITING = "waiting"
    """It waits behind an event of the same lane."""
    RETRYING = "retrying"
    """It was tried, and is tried again."""
    FAILED = "failed"
    """It was tried for its whole schedule. It is tried again when somebody asks for it."""


class RetryRow(NamedTuple):
    """An event, or a delivery, that could not be delivered at first, or that waits behind one. Times in ms."""

    seq: int
    item_id: str
    type: str
    lane: str
    state: RetryState
    attempts: int
    next_attempt_at: int
    recorded_at: int
    first_failed_at: int | None = None
    error: str | None = None


class PushAttempt(NamedTuple):
    """One attempt to push something. Times in ms."""

    item_id: str
    type: str
    account_id: str
    attempt: int
    at: int
    latency_ms: int
    status: int | None
    """The HTTP status. None: there was no answer."""
    error: str | None
    """None: it was delivered."""
    response: str | None
    """The beginning of the answer."""


class Health(NamedTuple):
    """How the attempts of an endpoint went. Times in ms."""

    failing_since: int | None = None
    last_success_at: int | None = None
    last_attempt_at: int | None = None
    last_error: str | None = None


class Progress(NamedTuple):
    """What a worker did since it last saved."""

    cursor: int
    health: Health
    rows: Sequence[RetryRow]
    """What waits for a retry from now on, or differently from before."""
    done: Sequence[int]
    """What waits no more, by sequence number."""
    attempts: Sequence[PushAttempt]
    lost: int = 0
    """How many items were no longer kept."""
    told: int = 0
    """How many of those were counted already when they were removed."""


class RetryCounts(NamedTuple):
    """What waits for retries."""

    waiting: int
    failed: int
    oldest: int | None
    """When the oldest of what waits was recorded (ms)."""


class Standing(NamedTuple):
    """How far an endpoint is."""

    behind_by: int
    """Events, or deliveries, that it does not have yet, about."""
    lag_s: float
    """The age of the oldest of them in seconds; 0 when there are none."""
    retries: int
    """Events that are tried again, or wait behind one that is."""
    failures: int
    """Events that are tried no more."""


class ProgressStore:
    """Reads and writes the progress of workers. Every method may raise StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, endpoint_id: str, generation: int, progress: Progress) -> bool:
        """Store what a worker did, in one transaction.

        False, and nothing is stored, when the endpoint is gone or its cursor was moved by somebody else.
        """

        def transaction(connection: sqlite3.Connection) -> bool:
            values = (progress.cursor, *progress.health, progress.lost, progress.told, endpoint_id, generation)
            changed = connection.execute(_SAVE, values).rowcount
            if not changed:
                return False
            if progress.done:
                connection.execute(_DONE, (endpoint_id, msgspec.json.encode(progress.done).decode()))
            if progress.rows:
                insert_many(connection, _PUT, [(endpoint_id, *row) for row in progress.rows])
                connection.execute(_TRIM_FAILED, (endpoint_id, MAX_FAILED))
            if progress.attempts:
                insert_many(connection, _ATTEMPT, [(endpoint_id, *attempt) for attempt in progress.attempts])
                connection.execute(_TRIM, (endpoint_id, MAX_ATTEMPTS))
            return True

        return await self._database.write(transaction)

    async def lanes(self, endpoint_id: str) -> dict[str, int]:
        """The lanes in which something waits, with the time of the next attempt (ms)."""
        return {lane: at for lane, _, at in await self._database.read(_LANES, (endpoint_id,))}

    async def lane(self, endpoint_id: str, lane: str, limit: int) -> list[RetryRow]:
        """What waits in a lane, in order."""
        return [_row(row) for row in await self._database.read(_LANE, (endpoint_id, lane, limit))]

    async def counts(self, endpoint_id: str) -> RetryCounts:
        """How much waits for retries."""
        (row,) = await self._database.read(_COUNTS, (endpoint_id,))
        return RetryCounts(*row)

    async def oldest_after(self, cursor: int, *, deliveries: bool) -> int | None:
        """When the first event (or delivery) after `cursor` was recorded (ms)."""
        rows = await self._database.read(_NEXT_DELIVERY if deliveries else _NEXT_EVENT, (cursor,))
        return int(rows[0][0]) if rows else None

    async def failures(
        self, endpoint_id: str, state: RetryState | None, *, limit: int, offset: int
    ) -> tuple[list[RetryRow], int]:
        """What waits for retries or has failed, the oldest first, and how much there is."""
        if state is None:
            rows = await self._database.read(_PAGE, (endpoint_id, limit, offset))
            ((total,),) = await self._database.read(_COUNT, (endpoint_id,))
        else:
            rows = await self._database.read(_PAGE_OF_STATE, (endpoint_id, state.value, limit, offset))
            ((total,),) = await self._database.read(_COUNT_OF_STATE, (endpoint_id, state.value))
        return [_row(row) for row in rows], int(total)

    async def failure(self, endpoint_id: str, item_id: str) -> RetryRow | None:
        """What waits for a retry, or has failed, by its id."""
        rows = await self._database.read(_ONE, (endpoint_id, item_id))
        return _row(rows[0]) if rows else None

    async def retry(self, endpoint_id: str, item_id: str) -> bool:
        """Let something be tried again at once, with its whole schedule; False when there is no such failure."""

        def transaction(connection: sqlite3.Connection) -> bool:
            return connection.execute(_RETRY, (endpoint_id, item_id)).rowcount > 0

        return await self._database.write(transaction)

    async def attempts(self, endpoint_id: str, *, limit: int, offset: int) -> tuple[list[PushAttempt], int]:
        """The latest attempts, the latest first, and how many are kept."""
        rows = await self._database.read(_ATTEMPTS, (endpoint_id, limit, offset))
        ((total,),) = await self._database.read(_COUNT_ATTEMPTS, (endpoint_id,))
        return [PushAttempt(*row) for row in rows], int(total)


def _row(row: tuple[object, ...]) -> RetryRow:
    seq, item_id, kind, lane, state, *rest = row
    return RetryRow(seq, item_id, kind, lane, RetryState(state), *rest)  # type: ignore[arg-type]
