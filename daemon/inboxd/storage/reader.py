"""A connection for reading that never stays on an old snapshot."""

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from inboxd.runtime.errors import StorageClosedError
from inboxd.storage.connection import READER_PRAGMAS, Connection, connect

T = TypeVar("T")


class Reader:
    """A read-only connection that is replaced after a failure.

    A statement that fails before its end keeps its snapshot. All later queries on the same connection would read old
    data, and the journal could not be emptied.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: Connection | None = None
        self._failed = False

    async def run(self, function: Callable[[sqlite3.Connection], T]) -> T:
        """Run `function` on the connection's thread. Raises sqlite3.Error, and whatever `function` raises."""
        if self._failed or self._connection is None:
            await self.open()
        connection = self._connection
        if connection is None:
            msg = "the database is closed"
            raise StorageClosedError(msg)
        try:
            return await connection.run(lambda sqlite: self._noting_failure(function, sqlite))
        finally:
            if self._failed:  # if this is cancelled first, the next call replaces the connection
                await self.close()

    async def open(self) -> None:
        """Open a new connection. Raises sqlite3.Error."""
        await self.close()
        self._connection = await connect(self._path, READER_PRAGMAS, read_only=True)
        self._failed = False

    async def close(self) -> None:
        """Close the connection and every open statement."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def _noting_failure(self, function: Callable[[sqlite3.Connection], T], connection: sqlite3.Connection) -> T:
        try:
            return function(connection)
        except BaseException:
            self._failed = True
            raise
