"""How far each consumer of the event log has come. The positions outlive the process."""

from typing import Final, NamedTuple

from inboxd.storage.database import Database

_LOAD: Final = """
SELECT cursor, set_aside, skipped, last_success_at, last_error, last_error_at FROM event_consumers WHERE name = ?
"""
_SAVE: Final = """
INSERT OR REPLACE INTO event_consumers (
    name, cursor, set_aside, skipped, last_success_at, last_error, last_error_at
) VALUES (?, ?, ?, ?, ?, ?, ?)
"""


class Position(NamedTuple):
    """How far a consumer has come. Times in ms, UTC."""

    cursor: int
    """Everything up to this event was handed over or set aside."""
    set_aside: int = 0
    """Events that the consumer refuses for good."""
    skipped: int = 0
    """Events that were pruned from the log before they were handed over, at most so many."""
    last_success_at: int | None = None
    last_error: str | None = None
    last_error_at: int | None = None


class ConsumerStore:
    """The position of one consumer."""

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        self._name = name

    async def load(self) -> Position | None:
        """The stored position, or None: it has never had one. Raises StorageError."""
        rows = await self._database.read(_LOAD, (self._name,))
        return Position(*rows[0]) if rows else None

    async def save(self, position: Position) -> None:
        """Store the position. Raises StorageError."""
        await self._database.execute(_SAVE, (self._name, *position))
