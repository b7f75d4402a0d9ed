"""Removing what is old, in steps that no webhook has to wait for, and giving the room back to the disk."""

import sqlite3
from collections.abc import Sequence
from functools import partial
from typing import Final, NamedTuple, Protocol

from inboxd.conversations import early_changes_store as early_changes
from inboxd.conversations import message_store
from inboxd.runtime import logs
from inboxd.runtime.errors import StorageError
from inboxd.storage.connection import Row
from inboxd.storage.database import Database

_DELIVERIES: Final = "SELECT id, received_at FROM deliveries WHERE state = ? AND id > ? ORDER BY id LIMIT ?"
_DELETE_DELIVERY: Final = "DELETE FROM deliveries WHERE id = ? AND received_at < ? AND state = ?"
_EVENTS: Final = "SELECT id, created_at FROM events WHERE id > ? ORDER BY id LIMIT ?"
_DELETE_EVENT: Final = "DELETE FROM events WHERE id = ? AND created_at < ?"
_MESSAGES: Final = "SELECT id, created_at, conversation_id FROM messages WHERE id > ? ORDER BY id LIMIT ?"
_HEARD: Final = "SELECT max(last_message_at) FROM conversations"
_DELETE_MESSAGE: Final = "DELETE FROM messages WHERE id = ? AND created_at < ?"


class ExpiredRows(NamedTuple):
    """What a step came to: how many rows went, and the last one that it looked at (None: there were none)."""

    rows: int
    last_id: int | None


class Room(NamedTuple):
    """The database's pages."""

    pages: int
    free: int


class _Delete(Protocol):
    """Deletes rows, each with its id and its time, in a transaction."""

    def __call__(self, connection: sqlite3.Connection, old: Sequence[Row]) -> None:
        """Delete them."""


class RetentionStore:
    """Ends of lives, by arrival.

    Each step looks at the next `step` rows after the id `after` and removes those of before `before` (ms). Ids grow
    with time, so that the old ones are the first, unless the clock was wrong once. An id may be given again between a
    look and its removal, so the removal asks for the time once more.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._log = logs.get("retention")

    async def deliveries(self, state: str, before: int, after: int, step: int) -> ExpiredRows:
        """Remove deliveries that have come to this state."""
        rows = await self._database.read(_DELIVERIES, (state, after, step))

        def delete(connection: sqlite3.Connection, old: Sequence[Row]) -> None:
            connection.executemany(_DELETE_DELIVERY, [(row[0], before, state) for row in old])

        return await self._removed(delete, rows, before, "deliveries")

    async def events(self, before: int, after: int, step: int) -> ExpiredRows:
        """Remove kept events."""
        rows = await self._database.read(_EVENTS, (after, step))

        def delete(connection: sqlite3.Connection, old: Sequence[Row]) -> None:
            connection.executemany(_DELETE_EVENT, [(row[0], before) for row in old])

        return await self._removed(delete, rows, before, "events")

    async def messages(self, before: int, after: int, step: int, now: int) -> ExpiredRows:
        """Remove messages. Their conversations stay, with the time of their last message; unread counts follow."""
        rows = await self._database.read(_MESSAGES, (after, step))

        def delete(connection: sqlite3.Connection, old: Sequence[Row]) -> None:
            connection.executemany(_DELETE_MESSAGE, [(row[0], before) for row in old])
            message_store.derive(connection, {row[2] for row in old}, now)

        return await self._removed(delete, rows, before, "messages")

    async def early_changes(self, before: int, _after: int, step: int) -> ExpiredRows:
        """Remove changes whose message never came."""
        rows = await self._database.write(lambda connection: early_changes.forget(connection, before, step))
        return ExpiredRows(rows, None)

    async def heard_at(self) -> int | None:
        """The time of the newest message (ms): by Meta's clock, not by ours."""
        ((at,),) = await self._database.read(_HEARD)
        return None if at is None else int(at)

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

    async def _removed(self, delete: _Delete, rows: Sequence[Row], before: int, table: str) -> ExpiredRows:
        """Delete those of `rows` that are of before `before`: together, or one by one where one cannot be deleted."""
        old, last_id = [row for row in rows if row[1] < before], rows[-1][0] if rows else None
        if not old:
            return ExpiredRows(0, last_id)
        try:
            await self._database.write(partial(delete, old=old))
        except StorageError:
            raise
        except Exception:  # noqa: BLE001 - one of them cannot be deleted: the others must not stay for its sake
            return ExpiredRows(await self._removed_singly(delete, old, table), last_id)
        return ExpiredRows(len(old), last_id)

    async def _removed_singly(self, delete: _Delete, old: Sequence[Row], table: str) -> int:
        removed = 0
        for row in old:
            try:
                await self._database.write(partial(delete, old=[row]))
                removed += 1
            except StorageError:
                raise
            except Exception as error:  # noqa: BLE001 - see above
                self._log.error("row_not_removed", table=table, id=row[0], error=f"{type(error).__name__}: {error}")
        return removed
