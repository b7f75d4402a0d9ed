"""The SQLite file: one writer, several readers, one lock.

All writes are functions that are given to the writer. It runs all waiting functions in one transaction and makes it
durable with one fsync (group commit, WAL with synchronous=FULL). Readers have their own read-only connections, so a
slow query never delays a commit.
"""

import asyncio
import os
import sqlite3
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self, TypeVar

from inboxd.runtime.errors import StorageBusyError, StorageClosedError, StorageUnavailableError
from inboxd.storage import backup, migrations
from inboxd.storage.checkpointer import Checkpointer
from inboxd.storage.connection import BUSY_TIMEOUT_MS, READER_PRAGMAS, WRITER_PRAGMAS, Connection, Row, connect, fetch
from inboxd.storage.file_identity import FileIdentity
from inboxd.storage.group_commit import Outcome, Transaction, WriteJob, commit, refusal_of, run_alone
from inboxd.storage.lock import lock
from inboxd.storage.reader import Reader

T = TypeVar("T")
Read = Callable[[str, Sequence[object]], Awaitable[list[Row]]]
"""Runs one query. The type of `Database.read`, for code that only reads."""

MAX_WAITING: Final = 1000
"""Transactions that may wait for the writer. One more is refused with StorageBusyError."""
READERS: Final = 2
CHECKPOINT_PATIENCE_MS: Final = 300


class Database:
    """An inboxd database, open for this process alone. An async context manager.

    `on_commit` is called with the number of transactions in a commit and its duration in seconds.
    """

    def __init__(self, path: Path, *, on_commit: Callable[[int, float], None] | None = None) -> None:
        self.path = path
        self._on_commit = on_commit
        self._lock_fd: int | None = None
        self._file_fd: int | None = None
        """To sync the file. Closed last: closing any descriptor releases all locks on it, SQLite's too (fcntl(2))."""
        self._writer: Connection | None = None
        self._files: FileIdentity | None = None
        self._checkpointer = Checkpointer(path, self._on_writer)
        self._readers: asyncio.LifoQueue[Reader] = asyncio.LifoQueue()
        self._urgent: deque[WriteJob[Any]] = deque()
        self._patient: deque[WriteJob[Any]] = deque()
        self._between: deque[WriteJob[Any]] = deque()
        """Jobs that cannot be part of a transaction, such as a checkpoint."""
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self.changes = 0  # the writer's `total_changes` after the last commit that the event loop heard of
        self.refusal: str | None = None
        """Why the last commit was refused; None after a later write succeeded. A query on the writer's connection is
        not a write: it succeeds on a full disk too."""

    async def __aenter__(self) -> Self:
        """Take the lock, open, migrate, start the writer.

        Raises DatabaseLockedError, HalfRestoredError, StorageUnavailableError and what `migrations.migrate` raises.
        """
        try:
            self._lock_fd = lock(self.path)
            backup.require_whole(self.path)
            self._writer = await connect(self.path, WRITER_PRAGMAS)
            await self._writer.run(self._bring_forward)
            for _ in range(READERS):
                reader = Reader(self.path)
                self._readers.put_nowait(reader)
                await reader.open()
            self._files = FileIdentity(self.path)
            self._file_fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            await self._checkpointer.open(self._file_fd)
        except sqlite3.Error as error:
            await self._release()
            raise migrations.opening_error(self.path, error) from error
        except BaseException:
            await self._release()
            raise
        self._task = asyncio.create_task(self._write_loop(self._writer), name="database-writer")
        self._task.add_done_callback(self._writer_ended)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Commit the waiting transactions, then close every connection. Idempotent."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await asyncio.wait([self._task])
            self._task = None
        await self._release()

    async def write(self, transaction: Transaction[T]) -> T:
        """Run `transaction` on the writer. Returns its result once it is durable.

        Several transactions may share one commit. If one raises, only its own changes are undone.
        Raises StorageUnavailableError when SQLite refuses the commit, StorageBusyError when too many wait, and
        whatever `transaction` itself raises.
        """
        return await self.submit(transaction)

    async def execute(self, sql: str, parameters: Sequence[object] = ()) -> None:
        """Run one statement as a transaction. It is durable when this returns. Raises as `write` does."""

        def transaction(connection: sqlite3.Connection) -> None:
            connection.execute(sql, parameters)

        await self.write(transaction)

    def submit(
        self, transaction: Transaction[T], *, urgent: bool = False, is_statement: bool = False
    ) -> "asyncio.Future[T]":
        """Queue `transaction` for the writer: `write` without waiting.

        Urgent transactions go first, because a client outside waits for them. After each commit of urgent ones, the
        others get a turn. `is_statement` says that the transaction is a single statement. It is then committed alone,
        without BEGIN and COMMIT: at each of these the writer would have to wait for the interpreter lock.
        """
        if self._closing:
            msg = "the database is closed"
            raise StorageClosedError(msg)
        queue = self._urgent if urgent else self._patient
        if len(queue) >= MAX_WAITING:
            msg = f"{MAX_WAITING} transactions are waiting for the disk"
            raise StorageBusyError(msg)
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        queue.append(WriteJob(transaction, future, is_statement=is_statement))
        self._wake.set()
        return future

    async def read(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """All rows of one query, on a read-only connection. Raises StorageUnavailableError if the file fails."""
        return await self.reading(lambda connection: fetch(connection, sql, parameters))

    async def reading(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run `function` with a read-only connection, on that connection's thread. Raises as `read` does."""
        if self._closing:
            msg = "the database is closed"
            raise StorageClosedError(msg)
        reader = await self._readers.get()
        try:
            return await reader.run(function)
        except sqlite3.Error as error:
            raise refusal_of(error) from error
        finally:
            self._readers.put_nowait(reader)

    async def probe(self) -> None:
        """Write something, to find out whether writing works again. Raises StorageUnavailableError."""

        def touch(connection: sqlite3.Connection) -> None:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            connection.execute(f"PRAGMA user_version = {version:d}")

        await self.write(touch)
        self.refusal = None

    async def checkpoint(self) -> bool:
        """Move the contents of the journal into the file and empty the journal. False while a reader needs it.

        Raises StorageUnavailableError.
        """

        def empty(connection: sqlite3.Connection) -> bool:
            # A replication tool reads the journal all the time. Webhooks must not wait for it.
            connection.execute(f"PRAGMA busy_timeout = {CHECKPOINT_PATIENCE_MS}")
            try:
                ((busy, _, _),) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            finally:
                connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
            return not busy

        async with self._checkpointer.lock:
            return await self._on_writer(empty)

    async def _on_writer(self, function: Transaction[T]) -> T:
        """Run `function` on the writer's connection between two transactions. Raises as `read` does."""
        if self._closing:
            msg = "the database is closed"
            raise StorageClosedError(msg)
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._between.append(WriteJob(function, future))
        self._wake.set()
        return await future

    def _bring_forward(self, connection: sqlite3.Connection) -> None:
        backup.before_migration(connection, self.path)
        migrations.migrate(connection, self.path)
        backup.migration_completed(self.path)

    async def _write_loop(self, connection: Connection) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._wake.clear()
            if self._urgent or self._patient or self._between:
                await connection.run(lambda sqlite: self._drain(sqlite, loop))
            elif self._closing:
                return
            else:
                await self._wake.wait()

    def _writer_ended(self, task: "asyncio.Task[None]") -> None:
        """If the writer crashed, fail all queued jobs and refuse new ones, so that no caller waits forever."""
        error = None if task.cancelled() else task.exception()
        if error is None:
            return
        self._closing = True
        self.refusal = f"the writer crashed: {type(error).__name__}: {error}"
        for job in [*_taken(self._urgent), *_taken(self._patient), *_taken(self._between)]:
            if not job.future.done():
                job.future.set_exception(StorageClosedError(self.refusal))

    def _drain(self, connection: sqlite3.Connection, loop: asyncio.AbstractEventLoop) -> None:
        """Commit until nothing waits. Runs on the writer's thread, so that no commit waits for the event loop.

        The queues are shared with the event loop: it appends, and this removes. Both are atomic on a deque.
        """
        urgent_turn = True
        while self._urgent or self._patient or self._between:
            for job in _taken(self._between):
                loop.call_soon_threadsafe(job.settle, run_alone(connection, job))
            jobs = _taken(self._urgent if self._urgent and (urgent_turn or not self._patient) else self._patient)
            urgent_turn = not urgent_turn
            if jobs:
                began = time.perf_counter()
                outcomes = commit(connection, jobs)
                took = time.perf_counter() - began
                loop.call_soon_threadsafe(self._settle, jobs, outcomes, took, connection.total_changes)

    def _settle(self, jobs: Sequence[WriteJob[Any]], outcomes: Sequence[Outcome], took: float, changes: int) -> None:
        """Give each caller the outcome of its job. Runs on the event loop."""
        self._checkpointer.note(changes)
        outcomes = self._where_the_path_leads(outcomes)
        refusal = next((str(error) for _, error in outcomes if isinstance(error, StorageUnavailableError)), None)
        if refusal is not None or changes != self.changes:
            self.refusal = refusal
        self.changes = changes
        for job, outcome in zip(jobs, outcomes, strict=True):
            job.settle(outcome)
        if self._on_commit is not None:
            self._on_commit(len(jobs), took)

    def _where_the_path_leads(self, outcomes: Sequence[Outcome]) -> Sequence[Outcome]:
        """The outcomes; or only refusals, if the path no longer leads to the file that was written."""
        if self._files is None:
            return outcomes
        try:
            self._files.require_same()
        except StorageUnavailableError as error:
            return [Outcome(None, error)] * len(outcomes)
        return outcomes

    async def _release(self) -> None:
        await self._checkpointer.close()
        while not self._readers.empty():
            await self._readers.get_nowait().close()
        if self._writer is not None:
            await self._writer.close()
            self._writer = None
        for descriptor in (self._file_fd, self._lock_fd):
            if descriptor is not None:
                os.close(descriptor)
        self._file_fd = self._lock_fd = None


@asynccontextmanager
async def open_for_reading(path: Path) -> AsyncIterator[Connection]:
    """A connection for reading a database that another process may use.

    Raises StorageUnavailableError when it is missing or cannot be opened, and what `require_current` raises.
    """
    if not path.exists():
        msg = f"there is no database at {path}"
        raise StorageUnavailableError(msg)
    try:
        connection = await connect(path, READER_PRAGMAS)
    except sqlite3.Error as error:
        raise migrations.opening_error(path, error) from error
    try:
        await connection.run(lambda sqlite: migrations.require_current(sqlite, path))
        yield connection
    finally:
        await connection.close()


def _taken(queue: "deque[WriteJob[Any]]") -> list[WriteJob[Any]]:
    """Remove and return all jobs that wait now. A job that is appended meanwhile may stay in the queue."""
    return [queue.popleft() for _ in range(len(queue))]
