"""A connection to SQLite on a thread of its own.

aiosqlite brings a statement to the thread and its result back, about 50 µs each way and a turn of the event loop.
A transaction of a dozen statements would spend its time travelling, and every webhook behind it would wait; so whole
functions travel instead. See docs/decisions/0002-transactions-travel-whole.md.
"""

import functools
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import aiosqlite

T = TypeVar("T")
Row = tuple[Any, ...]

BUSY_TIMEOUT_MS: Final = 5000
WAL_LIMIT_BYTES: Final = 64 * 1024 * 1024
WRITER_PRAGMAS: Final = (
    "auto_vacuum = INCREMENTAL",  # takes effect on a new file only
    "journal_mode = WAL",
    "synchronous = FULL",
    "wal_autocheckpoint = 16000",
    "foreign_keys = ON",
    f"busy_timeout = {BUSY_TIMEOUT_MS}",
    "cache_size = -12288",  # KiB
    f"journal_size_limit = {WAL_LIMIT_BYTES}",
)
READER_PRAGMAS: Final = ("query_only = ON", f"busy_timeout = {BUSY_TIMEOUT_MS}", "cache_size = -2048")
_STATEMENTS: Final = 256
_MAX_ROWS: Final = 256


class Connection(aiosqlite.Connection):
    """An aiosqlite connection that can run a whole function on its thread."""

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Call `function` with the SQLite connection, on its thread; returns or raises what it does."""
        result: T = await self._execute(function, self._conn)  # type: ignore[no-untyped-call]
        return result

    async def read(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """All rows of one query."""
        return await self.run(lambda connection: fetch(connection, sql, parameters))


async def connect(path: Path, pragmas: Iterable[str], *, read_only: bool = False) -> Connection:
    """Open the file at `path` and set `pragmas`. Raises sqlite3.Error."""
    uri = f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rwc'}"
    connection = Connection(
        functools.partial(sqlite3.connect, uri, uri=True, isolation_level=None, cached_statements=_STATEMENTS), 64
    )
    await connection
    try:
        for pragma in pragmas:
            await connection.read(f"PRAGMA {pragma}")
    except BaseException:
        await connection.close()
        raise
    return connection


def fetch(connection: sqlite3.Connection, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
    """All rows of one query."""
    return connection.execute(sql, parameters).fetchall()


def insert_many(connection: sqlite3.Connection, sql: str, rows: Sequence[Row]) -> None:
    """Run an `INSERT … VALUES {rows} …` for all `rows` in as few steps as possible.

    Each step gives up and takes back the interpreter lock; a row a step (executemany) would let a busy event loop
    make the writer wait a hundred times over. Row counts are powers of two, so the statement cache holds them all.
    """
    start = 0
    while start < len(rows):
        count = min(1 << (len(rows) - start).bit_length() - 1, _MAX_ROWS)
        parameters = [value for row in rows[start : start + count] for value in row]
        connection.execute(_with_rows(sql, len(rows[0]), count), parameters)
        start += count


@functools.lru_cache(maxsize=_STATEMENTS)
def _with_rows(sql: str, width: int, count: int) -> str:
    row = "(" + ",".join("?" * width) + ")"
    return sql.replace("{rows}", ",".join([row] * count))
