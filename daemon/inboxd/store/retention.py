"""Removing what is old, in steps that no webhook has to wait for, and giving the room back to the disk."""

import sqlite3
from collections.abc import Callable
from typing import Final, NamedTuple

from inboxd.store import conversations
from inboxd.store.database import Database

_FAILED_DELIVERIES: Final = """
DELETE FROM deliveries WHERE id IN (
    SELECT id FROM deliveries WHERE state = 'failed' AND received_at < ? ORDER BY id LIMIT ?
)
"""
_EVENTS: Final = """
DELETE FROM events WHERE id IN (SELECT id FROM events ORDER BY id LIMIT ?2) AND created_at < ?1
"""
_OLD_MESSAGES: Final = """
SELECT id, conversation_id FROM messages WHERE id IN (SELECT id FROM messages ORDER BY id LIMIT ?2) AND created_at < ?1
"""
_DELETE_MESSAGE: Final = "DELETE FROM messages WHERE id = ?"


class Room(NamedTuple):
    """The database's pages."""

    pages: int
    free: int


class Retention:
    """Ends of lives. `before` is in ms, by arrival; each step looks at `step` rows and returns how many it removed."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def failed_deliveries(self, before: int, step: int) -> int:
        """Remove deliveries that nobody could understand."""
        return await self._database.write(_deleting(_FAILED_DELIVERIES, before, step))

    async def events(self, before: int, step: int) -> int:
        """Remove kept events. Ids grow with time, so the old ones are the first."""
        return await self._database.write(_deleting(_EVENTS, before, step))

    async def messages(self, before: int, step: int, now: int) -> int:
        """Remove messages. Their conversations stay, with the time of their last message; unread counts follow."""

        def transaction(connection: sqlite3.Connection) -> int:
            found = connection.execute(_OLD_MESSAGES, (before, step)).fetchall()
            if found:
                connection.executemany(_DELETE_MESSAGE, [(row[0],) for row in found])
                conversations.derive(connection, {row[1] for row in found}, now)
            return len(found)

        return await self._database.write(transaction)

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


def _deleting(sql: str, before: int, step: int) -> Callable[[sqlite3.Connection], int]:
    return lambda connection: connection.execute(sql, (before, step)).rowcount
