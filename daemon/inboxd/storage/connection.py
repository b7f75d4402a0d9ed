"""A connection to SQLite that runs on its own thread.

aiosqlite sends each statement to the thread and its result back. This takes about 50 µs each way and one pass of the
event loop. A transaction of a dozen statements would spend most of its time on this, while every later webhook waits.
So whole functions are sent to the thread instead. See docs/decisions/0002-transactions-travel-whole.md.
"""

import functools
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import aiosqlite
import msgspec

T = TypeVar("T")
Row = tuple[Any, ...]

BUSY_TIMEOUT_MS: Final = 5000
WAL_LIMIT_BYTES: Final = 64 * 1024 * 1024
WRITER_PRAGMAS: Final = (
    "auto_vacuum = INCREMENTAL",  # takes effect on a new file only
    "journal_mode = WAL",
    "synchronous = FULL",
    "wal_autocheckpoint = 40000",  # only used when the checkpointer is too slow
    "foreign_keys = ON",
    "secure_delete = ON",  # erased data is overwritten, also where SQLite had moved it
    f"busy_timeout = {BUSY_TIMEOUT_MS}",
    "temp_store = MEMORY",  # a transaction of several jobs must not open files
    "cache_size = -12288",  # KiB
    f"journal_size_limit = {WAL_LIMIT_BYTES}",
)
CHECKPOINTER_PRAGMAS: Final = ("synchronous = FULL", f"busy_timeout = {BUSY_TIMEOUT_MS}", "cache_size = -256")
READER_PRAGMAS: Final = ("query_only = ON", f"busy_timeout = {BUSY_TIMEOUT_MS}", "cache_size = -2048")
_STATEMENTS: Final = 256
MAX_ROWS: Final = 256
"""Rows that `insert_many` inserts with one statement."""


class Connection(aiosqlite.Connection):
    """An aiosqlite connection that can run a whole function on its thread."""

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Call `function` with the SQLite connection, on its thread. Returns its result; raises what it raises."""
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


def fetch_packed(connection: sqlite3.Connection, sql: str, parameters: Sequence[object] = ()) -> list[list[Any]]:
    """All rows of a query of the form `SELECT json_group_array(json_array(…))`, in no particular order.

    SQLite returns all of them as one row, so in one step. `insert_many` says why that matters.
    """
    ((packed,),) = connection.execute(sql, parameters).fetchall()
    rows: list[list[Any]] = msgspec.json.decode(packed)
    return rows


@contextmanager
def one_moment(connection: sqlite3.Connection) -> Iterator[None]:
    """All that is read within is of one moment, whatever is committed meanwhile. For connections that only read."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("COMMIT")


def insert_many(connection: sqlite3.Connection, sql: str, rows: Sequence[Row]) -> int:
    """Run an `INSERT INTO … {rows} …` for all `rows`, MAX_ROWS of them in each step. Returns the id of the last row.

    Each step releases and takes the interpreter lock. With one row per step (executemany), the writer would wait for a
    busy event loop a hundred times. The number of rows is padded to a power of two, so that the statement cache can
    hold every statement. Padding rows have NULL in the first column, so no real row may have NULL there.
    """
    last_id = 0
    for start in range(0, len(rows), MAX_ROWS):
        chunk = rows[start : start + MAX_ROWS]
        width, count = len(chunk[0]), 1 << (len(chunk) - 1).bit_length()
        parameters = [value for row in chunk for value in row]
        parameters += [None] * (width * (count - len(chunk)))
        last_id = connection.execute(_with_rows(sql, width, count), parameters).lastrowid or 0
    return last_id


@functools.lru_cache(maxsize=_STATEMENTS)
def _with_rows(sql: str, width: int, count: int) -> str:
    row = "(" + ",".join("?" * width) + ")"
    values = ",".join([row] * count)
    return sql.replace("{rows}", f"SELECT * FROM (VALUES {values}) WHERE column1 IS NOT NULL")  # noqa: S608 - placeholders
