"""The worker that removes the oldest events when the log is too large. Old events expire as all old rows do."""

from collections.abc import Callable
from typing import Final

from inboxd.events import store
from inboxd.runtime import logs
from inboxd.runtime.worker import Schedule, Wakeup
from inboxd.storage.database import Database

STEP: Final = 500
"""Events that one transaction removes at most."""
PAUSE_S: Final = 0.05
"""Rest between two steps, so that webhooks go first."""
LOOK_S: Final = 60.0
MB: Final = 1_000_000
SCHEDULE: Final = Schedule(storage_event="events_wait_for_storage", storage_rest_s=60)


class EventPruner:
    """Keeps the log small. `max_size_mb` is asked before each step; 0 means no limit."""

    name = "events"

    def __init__(self, database: Database, *, max_size_mb: Callable[[], int]) -> None:
        self.wakeup = Wakeup()
        self._database = database
        self._max_size_mb = max_size_mb
        self._log = logs.get("events")
        self._removed = 0

    async def poll(self) -> float:
        """Remove some events, if there are too many. Raises StorageError."""
        max_bytes = self._max_size_mb() * MB
        if max_bytes:
            removed = await self._database.write(
                lambda connection: store.trim(connection, max_bytes=max_bytes, step=STEP)
            )
            self._removed += removed
            if removed:
                return PAUSE_S
        if self._removed:
            self._log.info("events_pruned", events=self._removed)
            self._removed = 0
        return LOOK_S
