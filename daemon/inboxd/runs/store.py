"""Runs of every kind in the database: the runs, the outcome of each of their conversations, and their batches."""

import sqlite3
from collections.abc import Collection, Sequence
from typing import Final, Generic, NamedTuple, TypeVar

import msgspec

from inboxd.domain.event import NewEvent
from inboxd.domain.run import UNFINISHED, ConversationOutcome, Run, RunKind, RunStatus
from inboxd.events.log import EventLog
from inboxd.runs.event_types import COMPLETED, PROGRESSED, RunEventData
from inboxd.runtime.errors import InboxdError
from inboxd.storage.connection import Row
from inboxd.storage.database import Database

R = TypeVar("R", bound=Run)
_NAMES: Final = tuple(field.name for field in msgspec.structs.fields(Run))
_COLUMNS: Final = ", ".join((*_NAMES, "options"))
_PLACES: Final = ", ".join("?" * (len(_NAMES) + 4))
_INSERT: Final = f"""
INSERT INTO runs ({_COLUMNS}, kind, idempotency_key, request_hash) VALUES ({_PLACES})
"""  # noqa: S608 - constants
_ONE: Final = f"SELECT {_COLUMNS} FROM runs WHERE id = ? AND kind = ?"  # noqa: S608 - constants
_ACTIVE: Final = f"""
SELECT {_COLUMNS} FROM runs WHERE account_id = ? AND kind = ? AND status IN ('queued', 'running', 'paused')
"""  # noqa: S608 - constants
_BY_KEY: Final = "SELECT id, request_hash FROM runs WHERE idempotency_key = ?"
# An item that is a number is one of our conversations: nothing is stored of a participant who was erased meanwhile.
_ATTEMPT: Final = """
INSERT INTO run_items (run_id, item, participant_id, outcome, code, reason, attempts, at)
SELECT ?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8
WHERE typeof(?2) = 'text' OR EXISTS (SELECT 1 FROM conversations WHERE id = ?2 AND participant_id = ?3)
ON CONFLICT DO NOTHING
"""
_COUNTED: Final = {
    ConversationOutcome.SUCCESS: "UPDATE runs SET success_count = success_count + 1 WHERE id = ?",
    ConversationOutcome.ERROR: "UPDATE runs SET error_count = error_count + 1 WHERE id = ?",
    ConversationOutcome.SKIPPED: "UPDATE runs SET skipped_count = skipped_count + 1 WHERE id = ?",
}
_STATUS: Final = """
UPDATE runs SET
    status = ?1, reason = ?2,
    started_at = CASE WHEN ?1 = 'running' THEN coalesce(started_at, ?3) ELSE started_at END,
    finished_at = CASE WHEN ?1 IN ('completed', 'failed', 'cancelled') THEN ?3 ELSE finished_at END
WHERE id = ?4 AND status IN (SELECT value FROM json_each(?5))
"""
_BATCH: Final = """
INSERT INTO run_batches (run_id, number, started_at, finished_at, success_count, error_count, skipped_count)
SELECT ?1, 1 + (SELECT count(*) FROM run_batches WHERE run_id = ?1), ?2, ?3, ?4, ?5, ?6
"""
_PROBLEMS: Final = """
SELECT item, participant_id, outcome, code, reason, attempts, at FROM run_items
WHERE run_id = ? AND outcome <> 'success' ORDER BY at LIMIT ? OFFSET ?
"""
_BATCHES: Final = """
SELECT number, started_at, finished_at, success_count, error_count, skipped_count FROM run_batches
WHERE run_id = ? ORDER BY number DESC LIMIT ?
"""
_EXPIRE_ITEMS: Final = """
DELETE FROM run_items WHERE (run_id, item) IN (
    SELECT a.run_id, a.item FROM runs AS r CROSS JOIN run_items AS a ON a.run_id = r.id
    WHERE r.finished_at < ?1 LIMIT ?2
)
"""
_EXPIRE: Final = """
DELETE FROM runs WHERE finished_at < ?1 AND NOT EXISTS (SELECT 1 FROM run_items AS a WHERE a.run_id = runs.id)
"""


class RunActiveError(InboxdError):
    """The account has a run of this kind that is not finished; `run_id` names it."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"the run {run_id} of this account is not finished")
        self.run_id = run_id


class KeyReusedError(InboxdError):
    """The idempotency key was used before, for another request."""


class Attempt(NamedTuple):
    """The outcome of one conversation, after so many `attempts`, at the moment `at` (ms, UTC)."""

    item: int | str
    """The id of our conversation; for history, what stands for the id at Meta."""
    participant_id: str | None
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


class RunStore(Generic[R]):
    """Reads and writes the runs of one kind. Every method raises StorageError."""

    def __init__(self, database: Database, event_log: EventLog, kind: RunKind, run_type: type[R]) -> None:
        self.kind = kind
        self._database = database
        self._event_log = event_log
        self._run_type = run_type

    async def create(self, run: R, *, key: str | None = None, request_hash: bytes | None = None) -> R:
        """Store a new run and return it. When `key` was used before, return the run that it made.

        Raises RunActiveError, KeyReusedError.
        """

        def transaction(connection: sqlite3.Connection) -> R:
            if key is not None:
                earlier = connection.execute(_BY_KEY, (key,)).fetchone()
                if earlier is not None:
                    known = self._row_of(connection, earlier[0])
                    if earlier[1] != request_hash or not known:
                        msg = "this Idempotency-Key was used for another request"
                        raise KeyReusedError(msg)
                    return self._run(known[0])
            if not run.status.finished:
                active = connection.execute(_ACTIVE, (run.account_id, self.kind.value)).fetchone()
                if active is not None:
                    raise RunActiveError(active[0])
            connection.execute(_INSERT, (*_row(run), self.kind.value, key, request_hash))
            self._record(connection, run, run.created_at)
            return run

        return await self._database.write(transaction)

    async def get(self, run_id: str) -> R | None:
        """The run of this id. None: there is none of this kind."""
        rows = await self._database.read(_ONE, (run_id, self.kind.value))
        return self._run(rows[0]) if rows else None

    async def active(self, account_id: str) -> R | None:
        """The account's run that is not finished. None: there is none."""
        rows = await self._database.read(_ACTIVE, (account_id, self.kind.value))
        return self._run(rows[0]) if rows else None

    async def page(
        self, *, account_id: str | None, status: RunStatus | None, limit: int, offset: int
    ) -> tuple[list[R], int]:
        """Runs, the latest first, and how many there are in all. `running` also means `waiting-for-budget`."""
        stored = RunStatus.RUNNING if status is RunStatus.WAITING else status
        given = {"kind = ?": self.kind.value, "account_id = ?": account_id, "status = ?": stored}
        conditions = {sql: value for sql, value in given.items() if value is not None}
        where = " WHERE " + " AND ".join(conditions)
        order = " ORDER BY created_at DESC, id LIMIT ? OFFSET ?"
        parameters = list(conditions.values())
        sql = f"SELECT {_COLUMNS} FROM runs{where}{order}"  # noqa: S608 - constants
        rows = await self._database.read(sql, [*parameters, limit, offset])
        ((total,),) = await self._database.read(f"SELECT count(*) FROM runs{where}", parameters)  # noqa: S608 - constants
        return [self._run(row) for row in rows], int(total)

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
                self._record(connection, self._run(self._row_of(connection, run_id)[0]), now)
            return changed

        return await self._database.write(transaction)

    async def record_progress(self, run_id: str, now: int) -> None:
        """Record in the event log how a run stands. `now` in ms, UTC."""

        def transaction(connection: sqlite3.Connection) -> None:
            for row in self._row_of(connection, run_id):
                self._record(connection, self._run(row), now)

        await self._database.write(transaction)

    async def record(self, run_id: str, attempt: Attempt) -> None:
        """Store the outcome of a conversation, in a transaction of its own."""
        await self._database.write(lambda connection: record(connection, run_id=run_id, attempt=attempt))

    async def record_all(self, run_id: str, attempts: Sequence[Attempt]) -> None:
        """Store the outcomes of conversations, in one transaction."""

        def transaction(connection: sqlite3.Connection) -> None:
            for attempt in attempts:
                record(connection, run_id=run_id, attempt=attempt)

        await self._database.write(transaction)

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
        """Conversations of a run that did not succeed, in the order of their attempts."""
        rows = await self._database.read(_PROBLEMS, (run_id, limit, offset))
        return [Attempt(row[0], row[1], ConversationOutcome(row[2]), *row[3:]) for row in rows]

    async def batches(self, run_id: str, limit: int) -> list[Batch]:
        """The latest batches of a run."""
        return [Batch(*row) for row in await self._database.read(_BATCHES, (run_id, limit))]

    def _row_of(self, connection: sqlite3.Connection, run_id: str) -> list[Row]:
        return connection.execute(_ONE, (run_id, self.kind.value)).fetchall()

    def _run(self, row: Row) -> R:
        values = dict(zip(_NAMES, row[:-1], strict=True))
        return msgspec.convert(
            {**values, "dry_run": bool(values["dry_run"]), **msgspec.json.decode(row[-1])}, self._run_type
        )

    def _record(self, connection: sqlite3.Connection, run: Run, now: int) -> None:
        data = RunEventData(
            run_id=run.id,
            kind=self.kind.value,
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


def record(connection: sqlite3.Connection, *, run_id: str, attempt: Attempt) -> None:
    """Store the outcome of a conversation and count it, in the given transaction: that which stores its result."""
    if connection.execute(_ATTEMPT, (run_id, *attempt)).rowcount > 0:
        connection.execute(_COUNTED[attempt.outcome], (run_id,))


async def expire(database: Database, before: int, step: int) -> int:
    """Remove runs of every kind that finished before `before` (ms), at most `step` rows; returns how many."""

    def transaction(connection: sqlite3.Connection) -> int:
        removed = connection.execute(_EXPIRE_ITEMS, (before, step)).rowcount
        return removed or connection.execute(_EXPIRE, (before,)).rowcount

    return await database.write(transaction)


def _row(run: Run) -> Row:
    values = msgspec.structs.asdict(run)
    base = (values.pop(name) for name in _NAMES)
    return (*base, msgspec.json.encode(values).decode())
