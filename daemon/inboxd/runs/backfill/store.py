"""Backfill runs in the database: the runs, the outcome of each conversation, and the conversations still to walk."""

import sqlite3
from collections.abc import Collection
from typing import Final, NamedTuple

import msgspec

from inboxd.domain.backfill import BackfillRun, ConversationOutcome
from inboxd.domain.event import NewEvent
from inboxd.domain.paging import Place
from inboxd.domain.profile import ProfileState
from inboxd.domain.run import UNFINISHED, RunStatus
from inboxd.events.log import EventLog
from inboxd.runs.event_types import COMPLETED, PROGRESSED, RunEventData
from inboxd.runtime.errors import InboxdError
from inboxd.storage.connection import Row
from inboxd.storage.database import Database

_COLUMNS: Final = (
    "id, account_id, status, origin, batch_size, max_conversations, refresh_before, dry_run, total, success_count, "
    "error_count, skipped_count, reason, created_at, started_at, finished_at"
)
_INSERT: Final = f"""
INSERT INTO backfill_runs ({_COLUMNS}, idempotency_key, request_hash)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
"""  # noqa: S608 - constants
_ONE: Final = f"SELECT {_COLUMNS} FROM backfill_runs WHERE id = ?"  # noqa: S608 - constants
_ACTIVE: Final = f"""
SELECT {_COLUMNS} FROM backfill_runs WHERE account_id = ? AND status IN ('queued', 'running', 'paused')
"""  # noqa: S608 - constants
_BY_KEY: Final = "SELECT id, request_hash FROM backfill_runs WHERE idempotency_key = ?"
_MISSING: Final = """
FROM conversations AS c
JOIN participants AS p ON p.account_id = c.account_id AND p.participant_id = c.participant_id
WHERE +c.account_id = :account AND c.participant_id <> c.account_id
  AND (p.fetched_at IS NULL OR p.fetched_at < :refresh_before)
"""
_COUNT_MISSING: Final = f"""
SELECT count(*), coalesce(sum(p.state = 'no_consent' OR (p.state = 'unavailable'
           AND (p.next_attempt_at IS NULL OR p.next_attempt_at > :now))), 0)
{_MISSING}
"""
_NOT_TRIED: Final = """
  AND NOT EXISTS (SELECT 1 FROM backfill_attempts AS a WHERE a.run_id = :run AND a.conversation_id = c.id)
"""
_CANDIDATE: Final = "SELECT c.id, c.participant_id, c.last_message_at, p.state, p.reason, p.next_attempt_at"
_ORDER: Final = " ORDER BY c.last_message_at DESC, c.id DESC LIMIT :limit"
_DATED: Final = f"""
{_CANDIDATE} {_MISSING} {_NOT_TRIED} AND (c.last_message_at, c.id) < (:at, :id) {_ORDER}
"""
_UNDATED: Final = f"""
{_CANDIDATE} {_MISSING} {_NOT_TRIED} AND c.last_message_at IS NULL AND c.id < :id {_ORDER}
"""
_HAS: Final = """
SELECT 1 FROM participants WHERE account_id = ? AND participant_id = ? AND fetched_at IS NOT NULL AND fetched_at >= ?
"""
_ATTEMPT: Final = """
INSERT INTO backfill_attempts (run_id, conversation_id, participant_id, outcome, code, reason, attempts, at)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8
WHERE EXISTS (SELECT 1 FROM conversations WHERE id = ?2 AND participant_id = ?3)
ON CONFLICT DO NOTHING
"""
"""Stores nothing of a participant that was erased while the profile was fetched."""
_COUNTED: Final = {
    ConversationOutcome.SUCCESS: "UPDATE backfill_runs SET success_count = success_count + 1 WHERE id = ?",
    ConversationOutcome.ERROR: "UPDATE backfill_runs SET error_count = error_count + 1 WHERE id = ?",
    ConversationOutcome.SKIPPED: "UPDATE backfill_runs SET skipped_count = skipped_count + 1 WHERE id = ?",
}
_STATUS: Final = """
UPDATE backfill_runs SET
    status = ?1, reason = ?2,
    started_at = CASE WHEN ?1 = 'running' THEN coalesce(started_at, ?3) ELSE started_at END,
    finished_at = CASE WHEN ?1 IN ('completed', 'failed', 'cancelled') THEN ?3 ELSE finished_at END
WHERE id = ?4 AND status IN (SELECT value FROM json_each(?5))
"""
_BATCH: Final = """
INSERT INTO backfill_batches (run_id, number, started_at, finished_at, success_count, error_count, skipped_count)
SELECT ?1, 1 + (SELECT count(*) FROM backfill_batches WHERE run_id = ?1), ?2, ?3, ?4, ?5, ?6
"""
_PROBLEMS: Final = """
SELECT conversation_id, participant_id, outcome, code, reason, attempts, at FROM backfill_attempts
WHERE run_id = ? AND outcome <> 'success' ORDER BY at LIMIT ? OFFSET ?
"""
_BATCHES: Final = """
SELECT number, started_at, finished_at, success_count, error_count, skipped_count FROM backfill_batches
WHERE run_id = ? ORDER BY number DESC LIMIT ?
"""
_EXPIRE_ATTEMPTS: Final = """
DELETE FROM backfill_attempts WHERE (run_id, conversation_id) IN (
    SELECT a.run_id, a.conversation_id FROM backfill_runs AS r CROSS JOIN backfill_attempts AS a ON a.run_id = r.id
    WHERE r.finished_at < ?1 LIMIT ?2
)
"""
_EXPIRE: Final = """
DELETE FROM backfill_runs WHERE finished_at < ?1 AND NOT EXISTS (
    SELECT 1 FROM backfill_attempts AS a WHERE a.run_id = backfill_runs.id
)
"""

TOP: Final = Place(2**62, 2**62)
"""Before the first conversation."""


class RunActiveError(InboxdError):
    """The account has a run that is not finished; `run_id` names it."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"the run {run_id} of this account is not finished")
        self.run_id = run_id


class KeyReusedError(InboxdError):
    """The idempotency key was used before, for another request."""


class Missing(NamedTuple):
    """Conversations without the profile that is wanted."""

    missing: int
    skipped: int
    """Those of them that a run would skip: the person must write first, or is known to have no profile."""


class Candidate(NamedTuple):
    """A conversation that lacks a profile. Times are ms, UTC."""

    conversation_id: int
    participant_id: str
    last_message_at: int | None
    state: ProfileState
    reason: str | None
    next_attempt_at: int | None


class Attempt(NamedTuple):
    """The outcome of one conversation, after so many `attempts`, at the moment `at` (ms, UTC)."""

    conversation_id: int
    participant_id: str
    outcome: ConversationOutcome
    code: int | None
    reason: str | None
    attempts: int
    at: int


class Batch(NamedTuple):
    """One batch of a run. Times are ms, UTC."""

    number: int
    started_at: int
    finished_at: int
    success_count: int
    error_count: int
    skipped_count: int


class BackfillStore:
    """Reads and writes runs. Every method raises StorageError."""

    def __init__(self, database: Database, event_log: EventLog) -> None:
        self._database = database
        self._event_log = event_log

    async def create(
        self, run: BackfillRun, *, key: str | None = None, request_hash: bytes | None = None
    ) -> BackfillRun:
        """Store a new run and return it. When `key` was used before, return the run that it made.

        Raises RunActiveError, KeyReusedError.
        """

        def transaction(connection: sqlite3.Connection) -> BackfillRun:
            if key is not None:
                earlier = connection.execute(_BY_KEY, (key,)).fetchone()
                if earlier is not None:
                    if earlier[1] != request_hash:
                        msg = "this Idempotency-Key was used for another request"
                        raise KeyReusedError(msg)
                    return _run(connection.execute(_ONE, (earlier[0],)).fetchone())
            if not run.status.finished:
                active = connection.execute(_ACTIVE, (run.account_id,)).fetchone()
                if active is not None:
                    raise RunActiveError(active[0])
            connection.execute(_INSERT, (*_row(run), key, request_hash))
            self._record(connection, run, run.created_at)
            return run

        return await self._database.write(transaction)

    async def get(self, run_id: str) -> BackfillRun | None:
        """The run of this id. None: there is none."""
        rows = await self._database.read(_ONE, (run_id,))
        return _run(rows[0]) if rows else None

    async def active(self, account_id: str) -> BackfillRun | None:
        """The account's run that is not finished. None: there is none."""
        rows = await self._database.read(_ACTIVE, (account_id,))
        return _run(rows[0]) if rows else None

    async def page(
        self, *, account_id: str | None, status: RunStatus | None, limit: int, offset: int
    ) -> tuple[list[BackfillRun], int]:
        """Runs, the latest first, and how many there are in all. `running` also means `waiting-for-budget`."""
        stored = RunStatus.RUNNING if status is RunStatus.WAITING else status
        given = {"account_id = ?": account_id, "status = ?": stored}
        conditions = {sql: value for sql, value in given.items() if value is not None}
        where = " WHERE " + " AND ".join(conditions) if conditions else ""
        order = " ORDER BY created_at DESC, id LIMIT ? OFFSET ?"
        parameters = list(conditions.values())
        sql = f"SELECT {_COLUMNS} FROM backfill_runs{where}{order}"  # noqa: S608 - constants
        rows = await self._database.read(sql, [*parameters, limit, offset])
        ((total,),) = await self._database.read(f"SELECT count(*) FROM backfill_runs{where}", parameters)  # noqa: S608 - constants
        return [_run(row) for row in rows], int(total)

    async def set_status(
        self,
        run_id: str,
        status: RunStatus,
        now: int,
        reason: str | None = None,
        *,
        only_from: Collection[RunStatus] = UNFINISHED,
    ) -> bool:
        """Set the status of a run if it is one of `only_from`. Returns whether it was.

        So a status that somebody set since the run was read is never overwritten. `now` is in ms, UTC.
        """
        allowed = msgspec.json.encode([one.value for one in only_from]).decode()
        parameters = (status.value, reason, now, run_id, allowed)

        def transaction(connection: sqlite3.Connection) -> bool:
            changed = connection.execute(_STATUS, parameters).rowcount > 0
            if changed:
                self._record(connection, _run(connection.execute(_ONE, (run_id,)).fetchone()), now)
            return changed

        return await self._database.write(transaction)

    async def record_progress(self, run_id: str, now: int) -> None:
        """Record in the event log how a run stands. `now` in ms, UTC."""

        def transaction(connection: sqlite3.Connection) -> None:
            for row in connection.execute(_ONE, (run_id,)).fetchall():
                self._record(connection, _run(row), now)

        await self._database.write(transaction)

    def _record(self, connection: sqlite3.Connection, run: BackfillRun, now: int) -> None:
        data = RunEventData(
            run_id=run.id,
            kind="backfill",
            status=run.status.value,
            origin=run.origin,
            total=run.total,
            success_count=run.success_count,
            error_count=run.error_count,
            skipped_count=run.skipped_count,
            reason=run.reason,
        )
        kind = COMPLETED if run.status.finished else PROGRESSED
        event = NewEvent(kind.name, run.account_id, now, msgspec.json.encode(data), subject=run.id)
        self._event_log.append(connection, [event])

    async def missing(self, account_id: str, refresh_before: int) -> int:
        """How many conversations of the account lack a profile, or have one fetched before `refresh_before` (ms)."""
        return (await self.count(account_id, refresh_before, 0)).missing

    async def count(self, account_id: str, refresh_before: int, now: int) -> Missing:
        """The same count, and how many of those a run would skip at the moment `now` (ms)."""
        values = {"account": account_id, "refresh_before": _wanted_since(refresh_before), "now": now}
        return Missing(
            *await self._database.reading(lambda connection: connection.execute(_COUNT_MISSING, values).fetchone())
        )

    async def has_profile(self, run: BackfillRun, participant_id: str) -> bool:
        """Whether the participant has the profile that the run wants by now."""
        return bool(
            await self._database.read(_HAS, (run.account_id, participant_id, _wanted_since(run.refresh_before)))
        )

    async def candidates(self, run: BackfillRun, after: Place | None, limit: int) -> list[Candidate]:
        """The next conversations of a run, the latest activity first; those without any message come last."""
        place = after or TOP
        values = {
            "account": run.account_id, "refresh_before": _wanted_since(run.refresh_before), "run": run.id,
            "at": place.at, "id": place.id, "limit": limit,
        }  # fmt: skip

        def query(connection: sqlite3.Connection) -> list[Row]:
            found = connection.execute(_DATED, values).fetchall() if place.at is not None else []
            if len(found) < limit:
                rest = values | {"limit": limit - len(found), "id": TOP.id if place.at is not None else place.id}
                found += connection.execute(_UNDATED, rest).fetchall()
            return found

        rows = await self._database.reading(query)
        return [Candidate(row[0], row[1], row[2], ProfileState(row[3]), row[4], row[5]) for row in rows]

    async def record(self, run_id: str, attempt: Attempt) -> None:
        """Store the outcome of a conversation, in a transaction of its own."""
        await self._database.write(lambda connection: record(connection, run_id=run_id, attempt=attempt))

    async def add_batch(
        self, run_id: str, started_at: int, finished_at: int, counts: dict[ConversationOutcome, int]
    ) -> None:
        """Store the counts of one batch. Times are ms, UTC."""
        numbers = [
            counts.get(outcome, 0)
            for outcome in (ConversationOutcome.SUCCESS, ConversationOutcome.ERROR, ConversationOutcome.SKIPPED)
        ]
        await self._database.execute(_BATCH, (run_id, started_at, finished_at, *numbers))

    async def problems(self, run_id: str, *, limit: int, offset: int) -> list[Attempt]:
        """Conversations of a run that got no profile, in the order of their attempts."""
        rows = await self._database.read(_PROBLEMS, (run_id, limit, offset))
        return [Attempt(row[0], row[1], ConversationOutcome(row[2]), *row[3:]) for row in rows]

    async def batches(self, run_id: str, limit: int) -> list[Batch]:
        """The latest batches of a run."""
        return [Batch(*row) for row in await self._database.read(_BATCHES, (run_id, limit))]

    async def expire(self, before: int, step: int) -> int:
        """Remove runs that finished before `before` (ms), at most `step` rows; returns how many."""

        def transaction(connection: sqlite3.Connection) -> int:
            removed = connection.execute(_EXPIRE_ATTEMPTS, (before, step)).rowcount
            return removed or connection.execute(_EXPIRE, (before,)).rowcount

        return await self._database.write(transaction)


def record(connection: sqlite3.Connection, *, run_id: str, attempt: Attempt) -> None:
    """Store the outcome of a conversation and count it, in the given transaction: that which stores its profile."""
    if connection.execute(_ATTEMPT, (run_id, *attempt)).rowcount > 0:
        connection.execute(_COUNTED[attempt.outcome], (run_id,))


def _wanted_since(refresh_before: int) -> int:
    """Profiles fetched before this are fetched again: also imported ones, which count as fetched at 0."""
    return max(refresh_before, 1)


def _row(run: BackfillRun) -> Row:
    return (
        run.id, run.account_id, run.status.value, run.origin, run.batch_size, run.max_conversations,
        run.refresh_before, run.dry_run, run.total, run.success_count, run.error_count, run.skipped_count, run.reason,
        run.created_at, run.started_at, run.finished_at,
    )  # fmt: skip


def _run(row: Row) -> BackfillRun:
    names = [name.strip() for name in _COLUMNS.split(",")]
    values = dict(zip(names, row, strict=True))
    values["status"] = RunStatus(values["status"])
    values["dry_run"] = bool(values["dry_run"])
    return BackfillRun(**values)
