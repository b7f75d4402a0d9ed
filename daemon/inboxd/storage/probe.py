"""Finds out when writing works again after the disk refused a write."""

from typing import Final

from inboxd.runtime import logs
from inboxd.runtime.errors import StorageClosedError, StorageError
from inboxd.runtime.worker import Wakeup
from inboxd.storage.database import Database

PROBE_S: Final = 5.0
"""Seconds between two probes."""


class StorageProbe:
    """Writes something every PROBE_S while the disk refuses. Senders back off, so other writes may be rare."""

    name = "storage_probe"

    def __init__(self, database: Database) -> None:
        self.wakeup = Wakeup()
        self._database = database
        self._log = logs.get("housekeeping")
        self._has_refused = False

    async def poll(self) -> float:
        """Probe the disk if it refused the last write; say when it takes writes again. Raises StorageClosedError."""
        if self._database.refusal is not None:
            self._has_refused = True
            try:
                await self._database.probe()
            except StorageClosedError:  # the writer has ended: crash, so that the supervisor sees it
                raise
            except StorageError as error:
                self._log.error("storage_refuses", error=str(error))
                return PROBE_S
        if self._has_refused:  # it may have been another write that succeeded first
            self._has_refused = False
            self._log.info("storage_recovered")
        return PROBE_S
