"""Everything that is kept of one person: all of it told, or all of it erased."""

import sqlite3
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from inboxd.domain.conversation import ConversationKey
from inboxd.store import mentions
from inboxd.store.database import Database

_CONVERSATION: Final = "SELECT id FROM conversations WHERE account_id = ? AND participant_id = ?"
_MESSAGES: Final = "DELETE FROM messages WHERE id IN (SELECT id FROM messages WHERE conversation_id = ?1 LIMIT ?2)"
_REST: Final = (
    ("conversations", "DELETE FROM conversations WHERE account_id = ? AND participant_id = ?"),
    ("profiles", "DELETE FROM participants WHERE account_id = ? AND participant_id = ?"),
    ("events", "DELETE FROM events WHERE account_id = ? AND participant_id = ?"),
    (
        "backfill_attempts",
        """
        DELETE FROM backfill_attempts
        WHERE run_id IN (SELECT id FROM backfill_runs WHERE account_id = ?) AND participant_id = ?
        """,
    ),
)
_INDEXES: Final = ("message_search", "people_search")
_DONE: Final = 2
"""FTS5's documentation of `merge`: fewer changed rows than this mean that nothing was left to merge."""
_EXPORTED: Final = {
    "conversation": "SELECT * FROM v1_conversations WHERE client_account_id = ? AND participant_platform_id = ?",
    "participant": "SELECT * FROM v1_participants WHERE client_account_id = ? AND participant_platform_id = ?",
}
_EXPORTED_MESSAGES: Final = """
SELECT m.* FROM v1_messages AS m
WHERE m.conversation_id IN (
    SELECT CAST(id AS TEXT) FROM conversations WHERE account_id = ? AND participant_id = ?
) ORDER BY m.sent_at, m.id LIMIT ? OFFSET ?
"""
_EVENT: Final = """
SELECT kind, strftime('%Y-%m-%dT%H:%M:%fZ', happened_at / 1000.0, 'unixepoch') AS happened_at,
       CAST(payload AS TEXT) AS payload
FROM events
"""
_EXPORTED_EVENTS: Final = f"{_EVENT} WHERE account_id = ? AND participant_id = ? ORDER BY id"
_EXPORTED_EVENT: Final = f"{_EVENT} WHERE id = ?"
_JSON_COLUMNS: Final = frozenset({"metadata", "attachments", "reactions", "previous_usernames", "payload"})

Fields = dict[str, Any]


class People:
    """One person's data, by account and participant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def part(self, name: str, key: ConversationKey) -> Fields | None:
        """The `conversation` or the `participant`, with the fields of the documented views."""
        return next(iter(await self._fields(_EXPORTED[name], key)), None)

    async def messages(self, key: ConversationKey, *, limit: int, offset: int) -> list[Fields]:
        """Messages, the oldest first, with the fields of the documented view."""
        return await self._fields(_EXPORTED_MESSAGES, (*key, limit, offset))

    async def events(self, key: ConversationKey) -> list[Fields]:
        """Events that are no messages: the person's own, and those filed under nobody that mention them."""
        found = await self._fields(_EXPORTED_EVENTS, key)
        for number in await mentions.events(self._database, [key.participant_id]):
            found += await self._fields(_EXPORTED_EVENT, (number,))
        return found

    async def erase_mentioning_events(self, key: ConversationKey) -> int:
        """Erase kept events filed under nobody that mention the person; how many."""
        numbers = await mentions.events(self._database, [key.participant_id])
        await mentions.erase_events(self._database, numbers)
        return len(numbers)

    async def erase_step(self, key: ConversationKey, step: int) -> dict[str, int]:
        """Erase up to `step` messages, or everything else when none is left; how many rows of what.

        An empty answer means that nothing is left.
        """

        def transaction(connection: sqlite3.Connection) -> dict[str, int]:
            found = connection.execute(_CONVERSATION, key).fetchone()
            removed = connection.execute(_MESSAGES, (found[0], step)).rowcount if found is not None else 0
            if removed:
                return {"messages": removed}
            counts = {name: connection.execute(sql, key).rowcount for name, sql in _REST}
            return {name: count for name, count in counts.items() if count}

        return await self._database.write(transaction)

    async def merge_index(self, index: str, pages: int, *, first: bool) -> bool:
        """One step of rewriting a search index without the words that were erased; whether there is more to do."""

        def transaction(connection: sqlite3.Connection) -> bool:
            before = connection.total_changes
            rank = -pages if first else pages
            connection.execute(f"INSERT INTO {index} ({index}, rank) VALUES ('merge', ?)", (rank,))  # noqa: S608 - ours
            return connection.total_changes - before >= _DONE

        return await self._database.write(transaction)

    @property
    def indexes(self) -> Sequence[str]:
        """The search indexes."""
        return _INDEXES

    async def _fields(self, sql: str, parameters: Sequence[object]) -> list[Fields]:
        def query(connection: sqlite3.Connection) -> list[Fields]:
            cursor = connection.execute(sql, parameters)
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

        rows = await self._database.reading(query)
        return [{name: _decoded(name, value) for name, value in row.items()} for row in rows]


def _decoded(name: str, value: object) -> object:
    if name in _JSON_COLUMNS and isinstance(value, str):
        return msgspec.json.decode(value)
    return value
