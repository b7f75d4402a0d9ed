"""Checks that waiting deliveries are processed: deliveries that arrive and are not processed are the worst failure."""

import sqlite3
from typing import Final, NamedTuple

from inboxd.receiving.metrics import ReceivingMetrics
from inboxd.receiving.store import oldest_due
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock, iso_utc
from inboxd.runtime.errors import StorageClosedError, StorageError
from inboxd.runtime.worker import Schedule, Wakeup
from inboxd.storage.database import Database

ROUND_S: Final = 10.0
STALLED_AFTER_S: Final = 60.0
"""The largest delivery takes seconds. If the same one is the oldest for this long, nothing is being processed."""
SCHEDULE: Final = Schedule()
"""`look` itself handles a disk that refuses."""


class Stall(NamedTuple):
    """Says that nothing is being processed."""

    delivery_id: int
    """The oldest delivery that is due."""
    since: int
    """Since when it has been the oldest (ms)."""


class ProcessingMonitor:
    """Checks every ROUND_S whether the oldest delivery that is due is still the same one.

    It reads on the writer's connection: a reader that is stuck on an old snapshot might see no work at all.
    """

    name = "processing-monitor"

    def __init__(self, database: Database, clock: Clock, metrics: ReceivingMetrics) -> None:
        self.wakeup = Wakeup()
        self._database = database
        self._clock = clock
        self._metrics = metrics
        self._oldest: int | None = None
        self._oldest_since = (0.0, 0)
        self.stall: Stall | None = None
        """The current stall; None while there is none."""
        self._log = logs.get("processing")

    async def poll(self) -> float:
        """Look once. Returns the seconds until the next look. Raises StorageClosedError."""
        await self.look()
        return ROUND_S

    async def look(self) -> None:
        """Compare the oldest delivery that is due with that of the last look. Raises StorageClosedError."""
        now = self._clock.now_ms()

        def oldest(connection: sqlite3.Connection) -> int | None:
            return oldest_due(connection, now)

        try:
            found = await self._database.write(oldest)
        except StorageClosedError:
            raise
        except StorageError:
            found = None  # the disk refuses: this is reported elsewhere, and is no stall
        if found is None or found != self._oldest:
            self._oldest, self._oldest_since = found, (self._clock.monotonic(), now)
        began, since = self._oldest_since
        stalled = found is not None and self._clock.monotonic() - began >= STALLED_AFTER_S
        self._tell(Stall(found, since) if stalled and found is not None else None)

    def problems(self) -> list[str]:
        """The problems found, as text."""
        if self.stall is None:
            return []
        return [f"deliveries wait and none is processed since {iso_utc(self.stall.since)}"]

    def _tell(self, stall: Stall | None) -> None:
        before, self.stall = self.stall, stall
        self._metrics.stalled.set(stall is not None)
        if stall is not None and before is None:
            self._log.error("processing_stalled", delivery_id=stall.delivery_id, seconds=round(STALLED_AFTER_S))
        if stall is None and before is not None:
            self._log.info("processing_resumed", delivery_id=before.delivery_id)
