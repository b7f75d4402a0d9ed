"""Full-text search over messages and names (SQLite FTS5)."""

import sqlite3
from typing import Final

from inboxd.storage.database import Database

MATCHES: Final = 2000
"""A search of conversations uses at most this many messages, the latest, and this many names."""
_PROGRESS: Final = "SELECT indexed_to, (SELECT max(id) FROM messages) FROM search_progress"
_CHANGED: Final = "SELECT json_group_array(message_id) FROM (SELECT message_id FROM search_changed LIMIT ?)"
_UNINDEX: Final = "DELETE FROM message_search WHERE rowid IN (SELECT value FROM json_each(?))"
_INDEX_AGAIN: Final = """
INSERT INTO message_search (rowid, text)
SELECT m.id, coalesce(m.read_text, m.edited_text, m.text)
FROM json_each(?) AS k CROSS JOIN messages AS m ON m.id = k.value
WHERE coalesce(m.read_text, m.edited_text, m.text) IS NOT NULL AND m.deleted_at IS NULL
  AND m.id <= (SELECT indexed_to FROM search_progress)
"""
_FORGET_CHANGED: Final = "DELETE FROM search_changed WHERE message_id IN (SELECT value FROM json_each(?))"
_INDEX: Final = """
INSERT INTO message_search (rowid, text)
SELECT id, coalesce(read_text, edited_text, text) FROM messages
WHERE id > ?1 AND id <= ?2 AND coalesce(read_text, edited_text, text) IS NOT NULL AND deleted_at IS NULL
"""
_SET_PROGRESS: Final = "UPDATE search_progress SET indexed_to = ?"
_CHANGED_IDS: Final = """
SELECT message_id FROM search_changed WHERE message_id <= (SELECT indexed_to FROM search_progress WHERE only = 1)
ORDER BY message_id LIMIT ?
"""
_NEW_IDS: Final = """
SELECT id FROM messages WHERE id > (SELECT indexed_to FROM search_progress WHERE only = 1) ORDER BY id LIMIT ?
"""
_MOVE_PAST: Final = """
UPDATE search_progress SET indexed_to = ?1
WHERE indexed_to < ?1 AND EXISTS (SELECT 1 FROM messages WHERE id = ?1)
"""
MESSAGE_IDS: Final = """
SELECT s.rowid FROM message_search AS s
JOIN messages AS m ON m.id = s.rowid
JOIN conversations AS c ON c.id = m.conversation_id
WHERE message_search MATCH ?1 AND s.rowid < ?2 AND (?3 IS NULL OR c.account_id = ?3) AND m.timeline_at IS NOT NULL
ORDER BY s.rowid DESC LIMIT ?4
"""
CONVERSATION_IDS: Final = f"""
SELECT conversation_id FROM messages WHERE id IN (
    SELECT rowid FROM message_search WHERE message_search MATCH ? ORDER BY rowid DESC LIMIT {MATCHES}
)
UNION
SELECT * FROM (SELECT rowid FROM people_search WHERE people_search MATCH ? LIMIT {MATCHES})
"""  # noqa: S608 - a number


def phrase(text: str) -> str:
    """An FTS5 query from what a person typed. All words must occur. A word that ends in * is a prefix.

    A text without any word matches nothing.
    """
    printable = "".join(character if character.isprintable() else " " for character in text)
    words = [_word(word) for word in printable.split() if any(map(str.isalnum, word))]
    return " ".join(words) or '""'


def _word(word: str) -> str:
    quoted = '"' + word.replace('"', '""').rstrip("*") + '"'
    return quoted + "*" if word.endswith("*") else quoted


class SearchIndexStore:
    """Brings the index of messages up to date, in steps."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def advance(self, step: int) -> bool:
        """Index at most `step` messages. Returns whether there may be more. Raises StorageError."""

        def transaction(connection: sqlite3.Connection) -> bool:
            ((changed,),) = connection.execute(_CHANGED, (step,)).fetchall()
            if changed != "[]":
                connection.execute(_UNINDEX, (changed,))
                connection.execute(_INDEX_AGAIN, (changed,))
                connection.execute(_FORGET_CHANGED, (changed,))
            ((indexed_to, newest),) = connection.execute(_PROGRESS).fetchall()
            if newest is None or indexed_to >= newest:
                return bool(changed != "[]")
            end = min(newest, indexed_to + step)
            connection.execute(_INDEX, (indexed_to, end))
            connection.execute(_SET_PROGRESS, (end,))
            return True

        return await self._database.write(transaction)

    async def next_ids(self, limit: int) -> list[int]:
        """The messages that `advance` would index next, in the order in which to `add` them. Raises StorageError.

        At most `limit` that have changed and as many new ones.
        """
        changed = await self._database.read(_CHANGED_IDS, (limit,))
        new = await self._database.read(_NEW_IDS, (limit,))
        return [message_id for (message_id,) in [*changed, *new]]

    async def add(self, message_id: int) -> None:
        """Index one of `next_ids`. All ids before it must be indexed or skipped. Raises StorageError."""

        def transaction(connection: sqlite3.Connection) -> None:
            _pass(connection, message_id)
            connection.execute(_INDEX_AGAIN, (f"[{message_id}]",))

        await self._database.write(transaction)

    async def skip(self, message_id: int) -> None:
        """Leave one of `next_ids` out of the index until its message changes. Raises StorageError."""
        await self._database.write(lambda connection: _pass(connection, message_id))

    async def behind(self) -> bool:
        """Whether any message is waiting to be indexed. Raises StorageError."""
        ((waits,),) = await self._database.read(
            "SELECT EXISTS (SELECT 1 FROM search_changed) OR (SELECT indexed_to FROM search_progress) "
            "< coalesce((SELECT max(id) FROM messages), 0)"
        )
        return bool(waits)


def _pass(connection: sqlite3.Connection, message_id: int) -> None:
    """Move the progress past the message, and remove its previous text from the index."""
    ids = f"[{message_id}]"
    connection.execute(_MOVE_PAST, (message_id,))
    connection.execute(_UNINDEX, (ids,))
    connection.execute(_FORGET_CHANGED, (ids,))
