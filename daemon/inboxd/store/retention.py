"""Removing what is old, in steps that no webhook has to wait for, and giving the room back to the disk."""

import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

from inboxd.store import conversations
from inboxd.store.database import Database

_DELIVERIES: Final = "SELECT id, received_at FROM deliveries WHERE state = ? AND id > ? ORDER BY id LIMIT ?"
_DELETE_DELIVERY: Final = "DELETE FROM deliveries WHERE id = ? AND received_at < ? AND state = ?"
_EVENTS: Final = "SELECT id, created_at FROM events WHERE id > ? ORDER BY id LIMIT ?"
_DELETE_EVENT: Final = "DELETE FROM events WHERE id = ? AND created_at < ?"
_MESSAGES: Final = "SELECT id, created_at, conversation_id FROM messages WHERE id > ? ORDER BY id LIMIT ?"
_DELETE_MESSAGE: Final = "DELETE FROM messages WHERE id = ? AND created_at < ?"


class Removed(NamedTuple):
    """What a step came to: how many rows went, and the last one that it looked at (None: there were none)."""

    rows: int
    last_id: int | None


class Room(NamedTuple):
    """The database's pages."""

    pages: int
    free: int


class Retention:
    """Ends of lives, by arrival.

    Each step looks at the next `step` rows after the id `after` and removes those of before `before` (ms). Ids grow
    with time, so that the old ones are the first, unless the clock was wrong once. An id may be given again between a
    look and its removal, so the removal asks for the time once more.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def deliveries(self, state: str, before: int, after: int, step: int) -> Removed:
        """Remove deliveries that have come to this state."""
        rows = await self._database.read(_DELIVERIES, (state, after, step))
        old = [(row[0], before, state) for row in rows if row[1] < before]
        return await self._removed(_DELETE_DELIVERY, old, rows)

    async def events(self, before: int, after: int, step: int) -> Removed:
        """Remove kept events."""
        rows = await self._database.read(_EVENTS, (after, step))
        return await self._removed(_DELETE_EVENT, [(row[0], before) for row in rows if row[1] < before], rows)

    async def messages(self, before: int, after: int, step: int, now: int) -> Removed:
        """Remove messages. Their conversations stay, with the time of their last message; unread counts follow."""
        rows = await self._database.read(_MESSAGES, (after, step))
        old = [row for row in rows if row[1] < before]

        def transaction(connection: sqlite3.Connection) -> None:
            connection.executemany(_DELETE_MESSAGE, [(row[0], before) for row in old])
            conversations.derive(connection, {row[2] for row in old}, now)

        if old:
            await self._database.write(transaction)
        return Removed(len(old), rows[-1][0] if rows else None)

    async def room(self) -> Room:
        """How much of the file is in use."""
        ((pages,),) = await self._database.read("PRAGMA page_count")
        ((free,),) = await self._database.read("PRAGMA freelist_count")
        return Room(int(pages), int(free))

    async def shrink(self, pages: int) -> None:
        """Give up to `pages` free pages back. The file itself shrinks at the next checkpoint."""

        def transaction(connection: sqlite3.Connection) -> None:
            connection.execute(f"PRAGMA incremental_vacuum({pages:d})").fetchall()

        await self._database.write(transaction)

    async def _removed(self, sql: str, old: Sequence[tuple[object, ...]], rows: Sequence[tuple[int, ...]]) -> Removed:
        def transaction(connection: sqlite3.Connection) -> None:
            connection.executemany(sql, old)

        if old:
            await self._database.write(transaction)
        return Removed(len(old), rows[-1][0] if rows else None)
