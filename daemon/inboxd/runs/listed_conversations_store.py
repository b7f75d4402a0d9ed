"""What the Conversations API last listed of each conversation, and how far its messages were read."""

import hashlib
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from inboxd.storage.connection import fetch_packed
from inboxd.storage.database import Database

_KNOWN: Final = """
SELECT json_group_array(json_array(
    l.api_key, l.participant_id, l.updated_time, l.read_to, l.imported_to, l.imported_since, l.erased_to
))
FROM json_each(?2) AS k CROSS JOIN listed_conversations AS l ON l.account_id = ?1 AND l.api_key = k.value
"""
_LIST: Final = """
INSERT INTO listed_conversations (account_id, api_key, participant_id, updated_time, listed_at)
SELECT ?1, k.value ->> 0, k.value ->> 1, k.value ->> 2, ?3 FROM json_each(?2) AS k WHERE true
ON CONFLICT DO UPDATE SET
    participant_id = coalesce(excluded.participant_id, participant_id), updated_time = excluded.updated_time,
    listed_at = excluded.listed_at
"""
_READ: Final = """
UPDATE listed_conversations SET read_to = ?3, read_at = ?4 WHERE account_id = ?1 AND api_key = ?2
"""
_IMPORTED: Final = """
UPDATE listed_conversations SET imported_to = ?3, imported_since = ?4 WHERE account_id = ?1 AND api_key = ?2
"""


class Listed(NamedTuple):
    """A conversation as the list shows it now. `updated_time` in ms. Without a participant, the sides cannot be told."""

    api_id: str
    participant_id: str | None
    updated_time: int | None


class KnownListed(NamedTuple):
    """What is known of a listed conversation. All times are ms."""

    participant_id: str | None = None
    updated_time: int | None = None
    """What the list said last."""
    read_to: int | None = None
    """Its latest messages were read when the list said this. None: never."""
    imported_to: int | None = None
    """All its messages since `imported_since` were read when the list said this. None: never."""
    imported_since: int | None = None
    erased_to: int | None = None
    """Messages up to here belong to a participant who was erased: they are not read back."""

    def is_imported(self, updated_time: int | None, since: int) -> bool:
        """Whether nothing since `since` (ms) has to be read of a conversation that the list says changed then."""
        if self.imported_to is None or self.imported_since is None or updated_time is None:
            return False
        return self.imported_to >= updated_time and self.imported_since <= since


class ListedConversationStore:
    """Reads and writes what was listed. Every method raises StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def known(self, account_id: str, api_ids: Collection[str]) -> Mapping[str, KnownListed]:
        """What is known of these conversations, by their ids in the Conversations API."""
        keys = {api_key(one): one for one in api_ids}

        def query(connection: sqlite3.Connection) -> dict[str, KnownListed]:
            rows = fetch_packed(connection, _KNOWN, (account_id, msgspec.json.encode(sorted(keys)).decode()))
            return {keys[row[0]]: KnownListed(*row[1:]) for row in rows}

        return await self._database.reading(query)

    async def list_all(self, account_id: str, listed: Sequence[Listed], now: int) -> None:
        """Store what the list shows. `now` in ms."""
        await self._database.write(lambda connection: list_all(connection, account_id, listed, now))


def list_all(connection: sqlite3.Connection, account_id: str, listed: Sequence[Listed], now: int) -> None:
    """Store what the list shows, in the given transaction. `now` in ms."""
    rows = [(api_key(one.api_id), one.participant_id, one.updated_time) for one in listed]
    connection.execute(_LIST, (account_id, msgspec.json.encode(rows).decode(), now))


def mark_read(connection: sqlite3.Connection, account_id: str, api_id: str, read_to: int | None, now: int) -> None:
    """The latest messages of a listed conversation were read, when the list said `read_to` (ms). `now` in ms."""
    connection.execute(_READ, (account_id, api_key(api_id), read_to, now))


def mark_imported(
    connection: sqlite3.Connection, account_id: str, api_id: str, imported_to: int | None, since: int
) -> None:
    """All messages since `since` (ms) of a listed conversation were read, when the list said `imported_to` (ms)."""
    connection.execute(_IMPORTED, (account_id, api_key(api_id), imported_to, since))


def api_key(api_id: str) -> int:
    """The key of a conversation: 64 bits of a hash of its id, as SQLite's signed integer."""
    return int.from_bytes(hashlib.blake2b(api_id.encode(), digest_size=8).digest(), "big", signed=True)
