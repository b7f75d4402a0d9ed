"""When recurring work was last begun. The moments outlive the process."""

from typing import Final

from inboxd.storage.database import Database

_AT: Final = "SELECT begun_at FROM schedules WHERE name = ?"
_SET: Final = "INSERT OR REPLACE INTO schedules (name, begun_at) VALUES (?, ?)"


class MomentStore:
    """One moment for each name."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def at(self, name: str) -> int | None:
        """The moment stored under `name` (ms, UTC). None: never set. Raises StorageError."""
        rows = await self._database.read(_AT, (name,))
        return rows[0][0] if rows else None

    async def set(self, name: str, at: int) -> None:
        """Store the moment `at` (ms, UTC) under `name`. Raises StorageError."""
        await self._database.execute(_SET, (name, at))
