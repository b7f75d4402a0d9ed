"""The worker that removes files whose time is over."""

from typing import Final

from inboxd.runtime import logs
from inboxd.runtime.clock import Clock
from inboxd.runtime.worker import Schedule, Wakeup
from inboxd.sending.uploads.store import UploadStore

EVERY_S: Final = 600.0
SCHEDULE: Final = Schedule(storage_event="uploads_wait_for_storage", storage_rest_s=30)


class UploadSweeper:
    """Removes expired files, and files that no row names: an upload that a crash interrupted."""

    name = "uploads"

    def __init__(self, store: UploadStore, clock: Clock) -> None:
        self.wakeup = Wakeup()
        self._store = store
        self._clock = clock
        self._log = logs.get("uploads")

    async def poll(self) -> float:
        """Remove what is due. Raises StorageError."""
        if expired := await self._store.expire(self._clock.now_ms()):
            self._log.info("uploads_expired", count=expired)
        await self._store.sweep()
        return EVERY_S
