"""The webhook events about comments from before these were kept as threads, and how far they are taken over."""

import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from inboxd.comments import store
from inboxd.comments.webhook_reading import KINDS, told_comment
from inboxd.storage.database import Database

_SPAN: Final = "SELECT next_id, last_id FROM earlier_comments"
_EVENTS: Final = """
SELECT id, kind, account_id, coalesce(happened_at, created_at), payload FROM webhook_events
WHERE id >= ? AND id <= ? AND kind IN (SELECT value FROM json_each(?)) ORDER BY id LIMIT ?
"""
_MOVE_TO: Final = "UPDATE earlier_comments SET next_id = ? WHERE next_id < ?"
_KINDS: Final = msgspec.json.encode(list(KINDS)).decode()


class EarlierEvent(NamedTuple):
    """A webhook event that was kept. `at` in ms."""

    id: int
    kind: str
    account_id: str
    at: int
    payload: bytes


class EarlierStore:
    """Takes earlier webhook events over. Every method raises StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def next(self, limit: int) -> list[EarlierEvent]:
        """The next events that are to be taken over."""
        ((next_id, last_id),) = await self._database.read(_SPAN)
        if next_id > last_id:
            return []
        found = [EarlierEvent(*row) for row in await self._database.read(_EVENTS, (next_id, last_id, _KINDS, limit))]
        if not found:
            await self.passed(last_id)
        return found

    async def take(self, events: Sequence[EarlierEvent], now: int) -> None:
        """Keep what these events tell, and that they are done. The event log was told of them when they arrived."""

        def transaction(connection: sqlite3.Connection) -> None:
            for one in events:
                store.apply(connection, one.account_id, [told_comment(one.kind, bytes(one.payload), one.at)], now)
            connection.execute(_MOVE_TO, (events[-1].id + 1, events[-1].id + 1))

        await self._database.write(transaction)

    async def passed(self, event_id: int) -> None:
        """Go on behind this event."""
        await self._database.execute(_MOVE_TO, (event_id + 1, event_id + 1))
