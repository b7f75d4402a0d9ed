"""The SQLite file: one writer, several readers, one lock.

All writes are functions handed to the writer, which runs everything that waits in one transaction and makes it
durable with one fsync (group commit, WAL with synchronous=FULL). Readers have read-only connections of their own,
so a slow query never delays a commit.
"""

import asyncio
import fcntl
import functools
import itertools
import os
import sqlite3
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

import aiosqlite

from inboxd.errors import (
    DatabaseLockedError,
    StorageBusyError,
    StorageClosedError,
    StorageUnavailableError,
)
from inboxd.store import migrations

T = TypeVar("T")
Transaction = Callable[[aiosqlite.Connection], Awaitable[T]]
Row = tuple[Any, ...]
Read = Callable[[str, Sequence[object]], Awaitable[list[Row]]]
"""Runs one query; how `Database.read` looks to those who only read."""

MAX_WAITING: Final = 1000
"""Transactions that may wait for the writer; one more is refused with StorageBusyError."""
READERS: Final = 2
BUSY_TIMEOUT_MS: Final = 5000
WAL_LIMIT_BYTES: Final = 64 * 1024 * 1024
_CACHE_KIB: Final = 8 * 1024
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
"""Primary result codes that mean the file, not the statement, is in trouble."""


class _Job(Generic[T]):
    """A transaction that waits, and the caller who waits for it."""

    __slots__ = ("future", "transaction")

    def __init__(self, transaction: Transaction[T], future: "asyncio.Future[T]") -> None:
        self.transaction = transaction
        self.future = future

    def succeed(self, value: T) -> None:
        if not self.future.done():
            self.future.set_result(value)

    def fail(self, error: BaseException) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class Database:
    """An inboxd database, open for this process alone. An async context manager.

    `on_commit` is told the number of transactions in a commit and how long it took in seconds.
    """

    def __init__(self, path: Path, *, on_commit: Callable[[int, float], None] | None = None) -> None:
        self.path = path
        self._on_commit = on_commit
        self._lock_fd: int | None = None
        self._writer: aiosqlite.Connection | None = None
        self._readers: asyncio.LifoQueue[aiosqlite.Connection] = asyncio.LifoQueue()
        self._jobs: deque[_Job[Any]] = deque()
        self._wake = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self.refusal: str | None = None
        """Why the last commit was refused; None while commits succeed."""

    async def __aenter__(self) -> Self:
        """Take the lock, open, migrate, start the writer.

        Raises DatabaseLockedError, DatabaseTooNewError, NotOurDatabaseError or StorageUnavailableError.
        """
        try:
            self._lock_fd = _lock(self.path)
            self._writer = await _connect(self.path, _WRITER_PRAGMAS)
            await migrations.migrate(self._writer, self.path)
            for _ in range(READERS):
                self._readers.put_nowait(await _connect(self.path, _READER_PRAGMAS, read_only=True))
        except sqlite3.Error as error:
            await self._release()
            msg = f"cannot open the database {self.path}: {error}"
            raise StorageUnavailableError(msg) from error
        except BaseException:
            await self._release()
            raise
        self._task = asyncio.create_task(self._write_loop(self._writer), name="database-writer")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Commit what was handed over, then close every connection. Idempotent."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task
            self._task = None
        await self._release()

    async def write(self, transaction: Transaction[T]) -> T:
        """Run `transaction` on the writer; returns its result once it is durable.

        Several transactions may share one commit; if one raises, only its own changes are undone.
        Raises StorageUnavailableError when SQLite refuses the commit, StorageBusyError when too many wait, and
        whatever `transaction` itself raises.
        """
        return await self.submit(transaction)

    def submit(self, transaction: Transaction[T]) -> "asyncio.Future[T]":
        """Queue `transaction` at the writer: `write` without waiting."""
        if self._closing:
            msg = "the database is closed"
            raise StorageClosedError(msg)
        if len(self._jobs) >= MAX_WAITING:
            msg = f"{MAX_WAITING} transactions are waiting for the disk"
            raise StorageBusyError(msg)
        job = _Job(transaction, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self._wake.set()
        return job.future

    @asynccontextmanager
    async def reader(self) -> AsyncIterator[aiosqlite.Connection]:
        """A read-only connection, lent for the length of the block."""
        if self._closing:
            msg = "the database is closed"
            raise StorageClosedError(msg)
        connection = await self._readers.get()
        try:
            yield connection
        finally:
            self._readers.put_nowait(connection)

    async def read(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """All rows of one query."""
        async with self.reader() as connection:
            return await fetch(connection, sql, parameters)

    async def probe(self) -> None:
        """Write something, to learn whether the disk takes writes again. Raises StorageUnavailableError."""

        async def touch(connection: aiosqlite.Connection) -> None:
            version = (await fetch(connection, "PRAGMA user_version"))[0][0]
            await connection.execute(f"PRAGMA user_version = {version:d}")

        await self.write(touch)

    async def _write_loop(self, connection: aiosqlite.Connection) -> None:
        while True:
            if not self._jobs:
                if self._closing:
                    return
                self._wake.clear()
                await self._wake.wait()
                continue
            jobs = list(self._jobs)
            self._jobs.clear()
            started = asyncio.get_running_loop().time()
            await self._commit(connection, jobs)
            if self._on_commit is not None:
                self._on_commit(len(jobs), asyncio.get_running_loop().time() - started)

    async def _commit(self, connection: aiosqlite.Connection, jobs: list[_Job[Any]]) -> None:
        try:
            await connection.execute("BEGIN IMMEDIATE")
            outcomes = [await _attempt(connection, job, isolated=len(jobs) > 1) for job in jobs]
            await connection.commit()
        except Exception as error:  # noqa: BLE001 - whatever it is, every caller must hear of it
            with suppress(sqlite3.Error):
                await connection.rollback()
            failure = _refused(error)
            if isinstance(failure, StorageUnavailableError):
                self.refusal = str(failure)
            for job in jobs:
                job.fail(failure)
            return
        self.refusal = None
        for job, (value, failure_of_one) in zip(jobs, outcomes, strict=True):
            if failure_of_one is not None:
                job.fail(failure_of_one)
            else:
                job.succeed(value)

    async def _release(self) -> None:
        while not self._readers.empty():
            await self._readers.get_nowait().close()
        if self._writer is not None:
            with suppress(sqlite3.Error):
                await self._writer.execute("PRAGMA optimize")
            await self._writer.close()
            self._writer = None
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None


@asynccontextmanager
async def open_for_reading(path: Path) -> AsyncIterator[aiosqlite.Connection]:
    """A read-only connection to a database that another process may be serving.

    Raises StorageUnavailableError when there is none, DatabaseTooNewError or NotOurDatabaseError when it is not for us.
    """
    if not path.exists():
        msg = f"there is no database at {path}"
        raise StorageUnavailableError(msg)
    try:
        connection = await _connect(path, _READER_PRAGMAS)
    except sqlite3.Error as error:
        msg = f"cannot read the database {path}: {error}"
        raise StorageUnavailableError(msg) from error
    try:
        await migrations.require_current(connection, path)
        yield connection
    finally:
        await connection.close()


async def fetch(connection: aiosqlite.Connection, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
    """All rows of one query."""
    return list(await connection.execute_fetchall(sql, parameters))  # type: ignore[arg-type]  # rows are plain tuples


async def insert_many(connection: aiosqlite.Connection, sql: str, rows: Sequence[Sequence[object]]) -> None:
    """Run an `INSERT … VALUES {rows} …` for all `rows` in as few steps as possible.

    Each step gives up and takes back the interpreter lock; a row a step (executemany) would let a busy event loop
    make the writer wait a hundred times over. Row counts are powers of two, so the statement cache holds them all.
    """
    if not rows:
        return
    width = len(rows[0])
    start = 0
    while start < len(rows):
        count = min(1 << (len(rows) - start).bit_length() - 1, _MAX_ROWS)
        chunk = itertools.chain.from_iterable(rows[start : start + count])
        await connection.execute(_with_rows(sql, width, count), tuple(chunk))
        start += count


_MAX_ROWS: Final = 256


@functools.lru_cache(maxsize=256)
def _with_rows(sql: str, width: int, count: int) -> str:
    row = "(" + ",".join("?" * width) + ")"
    return sql.replace("{rows}", ",".join([row] * count))


_WRITER_PRAGMAS: Final = (
    "auto_vacuum = INCREMENTAL",  # takes effect on a new file only
    "journal_mode = WAL",
    "synchronous = FULL",
    "foreign_keys = ON",
    f"busy_timeout = {BUSY_TIMEOUT_MS}",
    f"cache_size = -{_CACHE_KIB}",
    f"journal_size_limit = {WAL_LIMIT_BYTES}",
)
_READER_PRAGMAS: Final = ("query_only = ON", f"busy_timeout = {BUSY_TIMEOUT_MS}", "cache_size = -2048")


async def _connect(path: Path, pragmas: Iterable[str], *, read_only: bool = False) -> aiosqlite.Connection:
    uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
    connection = await aiosqlite.connect(uri, uri=True, isolation_level=None, cached_statements=256)
    try:
        for pragma in pragmas:
            await connection.execute_fetchall(f"PRAGMA {pragma}")
    except BaseException:
        await connection.close()
        raise
    return connection


def _lock(path: Path) -> int:
    """Hold `<path>.lock` for this process; the kernel lets go of it however the process ends."""
    lock_path = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        msg = f"cannot create the lock file {lock_path}: {error.strerror}; does inboxd own the directory?"
        raise StorageUnavailableError(msg) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        msg = f"another inboxd is using {path}; stop it first, or give this one another storage.path"
        raise DatabaseLockedError(msg) from error
    return descriptor


async def _attempt(
    connection: aiosqlite.Connection, job: _Job[T], *, isolated: bool
) -> tuple[T | None, Exception | None]:
    """Run one of the jobs that share a commit. Its own failure is its result; trouble with the file is raised."""
    if not isolated:
        return await job.transaction(connection), None
    await connection.execute("SAVEPOINT job")
    try:
        value = await job.transaction(connection)
    except Exception as error:  # noqa: BLE001 - given to the caller who waits for it
        if isinstance(_refused(error), StorageUnavailableError) or not connection.in_transaction:
            raise
        await connection.execute("ROLLBACK TO job")
        await connection.execute("RELEASE job")
        return None, error
    await connection.execute("RELEASE job")
    return value, None


def _refused(error: Exception) -> Exception:
    """The typed error for a refusal by SQLite; any other error as it is."""
    if isinstance(error, sqlite3.Error):
        code = getattr(error, "sqlite_errorcode", None)
        if code is not None and code & 0xFF in _REFUSALS:
            return StorageUnavailableError(f"the database refuses writes: {error}")
    return error
