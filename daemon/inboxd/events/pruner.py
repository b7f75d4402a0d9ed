"""The worker that removes old events from the log: those that are too old, and those that make the log too large."""

from collections.abc import Callable
from typing import Final

from inboxd.events import store
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock
from inboxd.runtime.worker import Schedule, Wakeup
from inboxd.storage.database import Database

STEP: Final = 500
"""Events that one transaction looks at."""
PAUSE_S: Final = 0.05
"""Rest between two steps, so that webhooks go first."""
LOOK_S: Final = 60.0
MB: Final = 1_000_000
DAY_MS: Final = 86_400_000
SCHEDULE: Final = Schedule(storage_event="events_wait_for_storage", storage_rest_s=60)


class EventPruner:
    """Prunes the log. `keep_days` and `max_size_mb` are asked before each step; 0 means no limit."""

    name = "events"

    def __init__(
        self, database: Database, clock: Clock, *, keep_days: Callable[[], int], max_size_mb: Callable[[], int]
    ) -> None:
        self.wakeup = Wakeup()
        self._database = database
        self._clock = clock
        self._keep_days = keep_days
        self._max_size_mb = max_size_mb
        self._log = logs.get("events")
        self._removed = 0

    async def poll(self) -> float:
        """Remove some events. Raises StorageError."""
        days, size = self._keep_days(), self._max_size_mb()
        before = self._clock.now_ms() - days * DAY_MS if days else 0
        max_bytes = size * MB if size else 2**62
        removed = await self._database.write(
            lambda connection: store.prune(connection, before=before, max_bytes=max_bytes, step=STEP)
        )
        self._removed += removed
        if removed:
            return PAUSE_S
        if self._removed:
            self._log.info("events_pruned", events=self._removed)
            self._removed = 0
        return LOOK_S
