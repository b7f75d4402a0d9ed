"""Which conversations of the mailbox at Meta were imported, and up to when."""

import hashlib
import sqlite3
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

import msgspec

from inboxd.conversations.message_store import mid_key
from inboxd.domain.conversation import ConversationKey
from inboxd.storage.connection import fetch_packed
from inboxd.storage.database import Database

_KNOWN: Final = """
SELECT json_group_array(json_array(i.api_key, i.imported_to, i.imported_since, i.erased_to))
FROM json_each(?2) AS k CROSS JOIN imported_conversations AS i ON i.account_id = ?1 AND i.api_key = k.value
"""
_DONE: Final = """
SELECT json_group_array(json_array(i.item))
FROM json_each(?2) AS k CROSS JOIN run_items AS i ON i.run_id = ?1 AND i.item = +k.value
"""
_IMPORTED: Final = """
INSERT INTO imported_conversations (account_id, api_key, participant_id, imported_to, imported_since, imported_at)
VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET
    participant_id = excluded.participant_id, imported_to = excluded.imported_to,
    imported_since = excluded.imported_since, imported_at = excluded.imported_at
"""
_READABLE: Final = """
SELECT count(*) FROM json_each(?3) AS k
JOIN conversations AS c ON c.account_id = ?1 AND c.participant_id = ?2
CROSS JOIN messages AS m ON m.mid_key = k.value ->> 0 AND m.conversation_id = c.id AND m.mid = k.value ->> 1
WHERE m.direction IS NOT NULL
"""
_COUNT: Final = """
UPDATE runs SET
    added_count = added_count + ?2, known_count = known_count + ?3, unavailable_count = unavailable_count + ?4
WHERE id = ?1
"""
_FOUND: Final = "UPDATE runs SET total = max(total, ?2) WHERE id = ?1"


class Imported(NamedTuple):
    """What is known of a conversation that was imported. All times are ms."""

    imported_to: int | None
    """All its messages since `imported_since` were read when the list said that it had changed then."""
    imported_since: int
    erased_to: int | None
    """Messages up to here belong to a participant who was erased: they do not come back."""

    def covers(self, updated_time: int | None, since: int) -> bool:
        """Whether nothing since `since` (ms) is left to read of it, if the list says that it changed then (ms)."""
        if self.imported_to is None or updated_time is None:
            return False
        return self.imported_to >= updated_time and self.imported_since <= since


class MessageCounts(NamedTuple):
    """What became of the messages of one conversation."""

    added: int
    known: int
    unavailable: int


class ImportedConversationStore:
    """Reads what was imported. Every method raises StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def known(self, account_id: str, api_ids: Collection[str]) -> Mapping[str, Imported]:
        """What was imported of these conversations, by their ids in the Conversations API."""
        keys = {api_key(one): one for one in api_ids}

        def query(connection: sqlite3.Connection) -> dict[str, Imported]:
            rows = fetch_packed(connection, _KNOWN, (account_id, _json(sorted(keys))))
            return {keys[row[0]]: Imported(*row[1:]) for row in rows}

        return await self._database.reading(query)

    async def done(self, run_id: str, api_ids: Collection[str]) -> set[str]:
        """Those of these conversations that have an outcome in the run."""
        items = {item_of(one): one for one in api_ids}

        def query(connection: sqlite3.Connection) -> set[str]:
            return {items[row[0]] for row in fetch_packed(connection, _DONE, (run_id, _json(sorted(items))))}

        return await self._database.reading(query)

    async def set_total(self, run_id: str, total: int) -> None:
        """So many conversations are to be done, as far as they were found. The number never becomes smaller."""
        await self._database.execute(_FOUND, (run_id, total))


def mark_imported(
    connection: sqlite3.Connection, key: ConversationKey, api_id: str, imported: Imported, now: int
) -> None:
    """Note that a conversation was imported, in the transaction that stores its messages. `now` in ms."""
    row = (key.account_id, api_key(api_id), key.participant_id, imported.imported_to, imported.imported_since, now)
    connection.execute(_IMPORTED, row)


def readable(connection: sqlite3.Connection, key: ConversationKey, mids: Collection[str]) -> int:
    """How many of these messages are here with what they say."""
    wanted = _json([(mid_key(mid), mid) for mid in mids])
    return int(connection.execute(_READABLE, (*key, wanted)).fetchone()[0])


def count(connection: sqlite3.Connection, run_id: str, counts: MessageCounts) -> None:
    """Add to the counts of a run, in the transaction that stores what is counted."""
    connection.execute(_COUNT, (run_id, *counts))


def api_key(api_id: str) -> int:
    """The key of a conversation: 64 bits of a hash of its id, as SQLite's signed integer."""
    return int.from_bytes(hashlib.blake2b(api_id.encode(), digest_size=8).digest(), "big", signed=True)


def item_of(api_id: str) -> str:
    """The item of a run that stands for a conversation: a hash, because the id may tell who the participant is."""
    return f"h{api_key(api_id) & (2**64 - 1):016x}"


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
