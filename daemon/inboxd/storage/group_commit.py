"""Group commit: several transactions in one, durable with one fsync.

An error of one transaction undoes it alone; a refusal by SQLite undoes all that share the commit.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, Generic, NamedTuple, TypeVar

from inboxd.runtime.errors import StorageUnavailableError

T = TypeVar("T")
Transaction = Callable[[sqlite3.Connection], T]
"""Runs on the writer's thread: it must not use anything that the event loop may change at the same time."""

_REFUSALS: Final = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_READONLY,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_NOTADB,
    }
)
"""Primary result codes that report a problem with the file, not with the statement."""


class WriteJob(Generic[T]):
    """A transaction that waits for the writer, and the future of the caller who waits for it."""

    __slots__ = ("future", "is_statement", "transaction")

    def __init__(self, transaction: Transaction[T], future: "asyncio.Future[T]", *, is_statement: bool = False) -> None:
        self.transaction = transaction
        self.future = future
        self.is_statement = is_statement
        """Whether it runs a single statement, which needs no transaction around it."""

    def settle(self, outcome: "Outcome") -> None:
        """Give the caller the result or the error. Runs on the event loop."""
        if self.future.done():  # the caller was cancelled
            return
        if outcome.error is None:
            self.future.set_result(outcome.value)
        else:
            self.future.set_exception(outcome.error)


class Outcome(NamedTuple):
    """What became of a transaction: its result or its error."""

    value: Any
    error: Exception | None


def run_alone(connection: sqlite3.Connection, job: WriteJob[Any]) -> Outcome:
    """Run a job outside of any transaction."""
    try:
        return Outcome(job.transaction(connection), None)
    except Exception as error:  # noqa: BLE001 - the caller must get any error
        return Outcome(None, refusal_of(error))


def commit(connection: sqlite3.Connection, jobs: Sequence[WriteJob[Any]]) -> list[Outcome]:
    """Run `jobs` in one transaction. When it is refused, every caller gets the error."""
    try:
        if len(jobs) == 1 and jobs[0].is_statement:
            return [Outcome(jobs[0].transaction(connection), None)]
        return _run_all(connection, jobs)
    except Exception as error:  # noqa: BLE001 - every caller must get any error
        return [Outcome(None, refusal_of(error))] * len(jobs)


def _run_all(connection: sqlite3.Connection, jobs: Sequence[WriteJob[Any]]) -> list[Outcome]:
    """Run all jobs in one transaction and commit it. Raises when the commit is refused; then nothing is kept."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        outcomes = [_run_one(connection, job, alone=len(jobs) == 1) for job in jobs]
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):
            connection.rollback()
        raise
    return outcomes


def _run_one(connection: sqlite3.Connection, job: WriteJob[Any], *, alone: bool) -> Outcome:
    """Run one of the jobs that share a commit. Its own error is its outcome; a problem with the file is raised."""
    if alone:
        return Outcome(job.transaction(connection), None)
    connection.execute("SAVEPOINT job")
    try:
        value = job.transaction(connection)
    except Exception as error:
        if isinstance(refusal_of(error), StorageUnavailableError) or not connection.in_transaction:
            raise
        connection.execute("ROLLBACK TO job")
        connection.execute("RELEASE job")
        return Outcome(None, error)
    connection.execute("RELEASE job")
    return Outcome(value, None)


def refusal_of(error: Exception) -> Exception:
    """The typed error for a refusal by SQLite; any other error unchanged."""
    if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", 0) & 0xFF in _REFUSALS:
        return StorageUnavailableError(f"the database refuses: {error}")
    return error
