"""Messages of which only a change or a reply is known: which they are, and when each is looked up."""

import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from inboxd.conversations.message_store import mid_key
from inboxd.domain.reconciliation import LONGEST_WAIT_MS
from inboxd.storage.database import Database

_KNOWN: Final = """
SELECT json_group_array(m.mid) FROM json_each(?2) AS k
CROSS JOIN messages AS m ON m.mid_key = k.value ->> 0 AND m.mid = k.value ->> 1 AND m.direction IS NOT NULL
CROSS JOIN conversations AS c ON c.id = m.conversation_id AND c.account_id = ?1
"""
_ADD: Final = """
INSERT INTO message_lookups (account_id, mid_key, mid, noticed_at, next_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
"""
_EARLY: Final = """
INSERT INTO message_lookups (account_id, mid_key, mid, noticed_at, next_at)
SELECT account_id, mid_key, mid, min(created_at), min(created_at) FROM early_changes
WHERE account_id = ?1 AND created_at BETWEEN ?2 AND ?3 GROUP BY mid_key, mid LIMIT ?4
ON CONFLICT DO NOTHING
"""
_UNKNOWN: Final = """
INSERT INTO message_lookups (account_id, mid_key, mid, noticed_at, next_at)
SELECT c.account_id, m.mid_key, m.mid, m.noticed_at, m.noticed_at
FROM messages AS m INDEXED BY messages_unknown CROSS JOIN conversations AS c ON c.id = m.conversation_id
WHERE m.direction IS NULL AND m.listed_at IS NULL AND m.deleted_at IS NULL
  AND m.noticed_at BETWEEN ?2 AND ?3 AND c.account_id = ?1 LIMIT ?4
ON CONFLICT DO NOTHING
"""
_DUE: Final = """
SELECT mid, attempts FROM message_lookups INDEXED BY message_lookups_due
WHERE account_id = ?1 AND next_at IS NOT NULL AND (next_at <= ?2 OR next_at > ?4) ORDER BY next_at DESC LIMIT ?3
"""
_TRIED: Final = """
UPDATE message_lookups SET attempts = attempts + 1, next_at = ? WHERE account_id = ? AND mid_key = ? AND mid = ?
"""
_DONE: Final = "UPDATE message_lookups SET next_at = NULL WHERE account_id = ? AND mid_key = ? AND mid = ?"
MOST: Final = 100
"""Messages that are noted at once."""


class Lookup(NamedTuple):
    """A message to look up."""

    mid: str
    attempts: int


class LookupStore:
    """The table of lookups. Every method raises StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def missing(self, account_id: str, mids: Sequence[str]) -> set[str]:
        """Those of `mids` of which no message is here."""
        keys = msgspec.json.encode([(mid_key(mid), mid) for mid in mids]).decode()
        ((known,),) = await self._database.read(_KNOWN, (account_id, keys))
        return set(mids) - set(msgspec.json.decode(known, type=list[str]))

    async def add(self, account_id: str, mids: Sequence[str], now: int) -> None:
        """Look these up."""
        rows = [(account_id, mid_key(mid), mid, now, now) for mid in mids[:MOST]]

        def insert(connection: sqlite3.Connection) -> None:
            connection.executemany(_ADD, rows)

        await self._database.write(insert)

    async def collect(self, account_id: str, since: int, until: int) -> None:
        """Look up messages of which a change arrived between two times (ms), and nothing else."""

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute(_EARLY, (account_id, since, until, MOST))
            connection.execute(_UNKNOWN, (account_id, since, until, MOST))

        await self._database.write(insert)

    async def due(self, account_id: str, now: int, limit: int) -> list[Lookup]:
        """What to look up now, the latest first."""
        return [
            Lookup(*row) for row in await self._database.read(_DUE, (account_id, now, limit, now + LONGEST_WAIT_MS))
        ]

    async def tried(self, account_id: str, mid: str, next_at: int | None) -> None:
        """Note that a lookup brought nothing. None: it is not tried again."""
        await self._database.execute(_TRIED, (next_at, account_id, mid_key(mid), mid))


def done(connection: sqlite3.Connection, account_id: str, mid: str) -> None:
    """Note that a message is here, in the caller's transaction."""
    connection.execute(_DONE, (account_id, mid_key(mid), mid))
