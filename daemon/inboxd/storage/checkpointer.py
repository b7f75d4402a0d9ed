"""Moves the contents of the journal into the database file, while the writer goes on.

SQLite's own automatic checkpoint runs inside a commit: all later commits wait until thousands of pages are written and
synced. Here another connection writes the pages, and syncs them at once, because SQLite syncs only when the last page
is written. The writer moves only the last few pages, which were added meanwhile. Then the journal can start again at
its beginning ("Write-Ahead Logging", "Checkpointing").
"""

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from inboxd.runtime import logs
from inboxd.runtime.errors import StorageError
from inboxd.storage.connection import CHECKPOINTER_PRAGMAS, Connection, connect

CHANGES: Final = 16_000
"""Changed rows between two checkpoints: about 15,000 pages of the journal. SQLite's own checkpoint handles rows of
many pages."""
FEW_FRAMES: Final = 400
"""Pages that may be left to the writer: they take it a few ms."""
PASSES: Final = 4

Passive = Callable[[sqlite3.Connection], int]


def passive(connection: sqlite3.Connection) -> int:
    """Checkpoint as far as no other connection blocks it. Returns how many pages are left. Raises sqlite3.Error."""
    ((_, pages, moved),) = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    return int(pages - moved)


class Checkpointer:
    """Checkpoints after CHANGES rows. `on_writer` runs `passive` on the writer's connection, between two commits."""

    def __init__(self, path: Path, on_writer: Callable[[Passive], Awaitable[int]]) -> None:
        self._path = path
        self._on_writer = on_writer
        self._connection: Connection | None = None
        self._task: asyncio.Task[None] | None = None
        self._file = -1
        self._changes = self._due = 0
        self._wake = asyncio.Event()
        self.lock = asyncio.Lock()
        """Held during a checkpoint: two at the same time would block each other."""
        self._log = logs.get("checkpointer")

    async def open(self, file: int) -> None:
        """Start. `file` is a descriptor of the database file. It must stay open until `close` has returned.

        Raises sqlite3.Error.
        """
        self._file = file
        self._connection = await connect(self._path, CHECKPOINTER_PRAGMAS)
        self._task = asyncio.create_task(self._loop(self._connection), name="database-checkpointer")

    async def close(self) -> None:
        """Stop, after the checkpoint that is running."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        if self._connection is not None:
            await self._connection.close()
            self._connection = None

    def note(self, changes: int) -> None:
        """Note that the writer has changed `changes` rows since it was opened."""
        self._changes = changes
        if changes >= self._due:
            self._wake.set()

    async def _loop(self, connection: Connection) -> None:
        while True:
            self._wake.clear()
            self._due = self._changes + CHANGES
            await self._wake.wait()
            try:
                async with self.lock:
                    await self._checkpoint(connection)
            except (sqlite3.Error, OSError, StorageError) as error:  # SQLite's own checkpoint does the work instead
                self._log.warning("checkpoint_failed", error=str(error))

    async def _checkpoint(self, connection: Connection) -> None:
        for _ in range(PASSES):
            left = await connection.run(self._passive_and_synced)
            if left <= FEW_FRAMES:
                await self._on_writer(passive)
                return

    def _passive_and_synced(self, connection: sqlite3.Connection) -> int:
        left = passive(connection)
        os.fdatasync(self._file)
        return left
