"""Deleting everything of an account because its owner asked Meta to: requested at once, done in small steps."""

import sqlite3
from typing import Final, NamedTuple

from inboxd.store.database import Database

_REQUEST: Final = """
INSERT INTO deletions (code, account_id, requested_at, completed_at) VALUES (?, ?, ?, ?) ON CONFLICT (code) DO NOTHING
"""
_ONE: Final = "SELECT requested_at, completed_at FROM deletions WHERE code = ?"
_OPEN: Final = """
SELECT code, account_id FROM deletions WHERE completed_at IS NULL ORDER BY requested_at LIMIT 1
"""
_COMPLETE: Final = "UPDATE deletions SET account_id = NULL, completed_at = ? WHERE code = ?"
_EXPIRE: Final = "DELETE FROM deletions WHERE completed_at < ?"
_CONVERSATIONS: Final = "SELECT json_group_array(id) FROM (SELECT id FROM conversations WHERE account_id = ? LIMIT 20)"
_MESSAGES: Final = """
DELETE FROM messages WHERE id IN (
    SELECT m.id FROM json_each(?1) AS k CROSS JOIN messages AS m WHERE m.conversation_id = k.value LIMIT ?2
)
"""
_DELETE_CONVERSATIONS: Final = "DELETE FROM conversations WHERE id IN (SELECT value FROM json_each(?))"
_OTHERS: Final = (
    """
    DELETE FROM participants WHERE (account_id, participant_id) IN (
        SELECT account_id, participant_id FROM participants WHERE account_id = ?1 LIMIT ?2
    )
    """,
    "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE account_id = ?1 LIMIT ?2)",
    """
    DELETE FROM backfill_attempts WHERE (run_id, conversation_id) IN (
        SELECT a.run_id, a.conversation_id FROM backfill_runs AS r CROSS JOIN backfill_attempts AS a ON a.run_id = r.id
        WHERE r.account_id = ?1 LIMIT ?2
    )
    """,
    "DELETE FROM backfill_runs WHERE id IN (SELECT id FROM backfill_runs WHERE account_id = ?1 LIMIT ?2)",
    "DELETE FROM graph_calls WHERE id IN (SELECT id FROM graph_calls WHERE account_id = ?1 LIMIT ?2)",
)


class OpenDeletion(NamedTuple):
    """A deletion that is not completed."""

    code: str
    account_id: str


class Receipt(NamedTuple):
    """How a deletion stands. Times in ms."""

    requested_at: int
    completed_at: int | None


class Deletions:
    """Requests for deletion, and carrying them out."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def request(self, code: str, account_id: str | None, now: int) -> None:
        """Note a request, once; without an account there is nothing to delete. Raises StorageError."""
        row = (code, account_id, now, now if account_id is None else None)
        await self._database.execute(_REQUEST, row)

    async def receipt(self, code: str) -> Receipt | None:
        """How the request of this code stands."""
        rows = await self._database.read(_ONE, (code,))
        return Receipt(*rows[0]) if rows else None

    async def next_open(self) -> OpenDeletion | None:
        """The oldest request that is not completed."""
        rows = await self._database.read(_OPEN)
        return OpenDeletion(*rows[0]) if rows else None

    async def erase_step(self, account_id: str, step: int) -> int:
        """Delete at most `step` rows of one table; returns how many. 0 means that nothing of the account is left."""

        def transaction(connection: sqlite3.Connection) -> int:
            ((ids,),) = connection.execute(_CONVERSATIONS, (account_id,)).fetchall()
            if ids != "[]":
                removed = connection.execute(_MESSAGES, (ids, step)).rowcount
                if removed < step:
                    removed += connection.execute(_DELETE_CONVERSATIONS, (ids,)).rowcount
                return removed
            for sql in _OTHERS:
                removed = connection.execute(sql, (account_id, step)).rowcount
                if removed:
                    return removed
            return 0

        return await self._database.write(transaction)

    async def complete(self, code: str, now: int) -> None:
        """The request is carried out; from now on its receipt names nobody."""
        await self._database.execute(_COMPLETE, (now, code))

    async def expire(self, before: int) -> None:
        """Forget receipts of requests completed before `before` (ms)."""
        await self._database.execute(_EXPIRE, (before,))
