"""Notes when the daemon is alive, so that after any end it is known how long it did not run."""

from typing import Final

from inboxd.domain.reconciliation import Cause, Gap
from inboxd.reconciliation.store import ReconciliationStore
from inboxd.runtime.clock import Clock
from inboxd.runtime.worker import Schedule, Wakeup

EVERY_S: Final = 60.0
SCHEDULE: Final = Schedule(storage_event="heartbeat_waits_for_storage", storage_rest_s=5)


class Heartbeat:
    """Writes the time once a minute."""

    name = "heartbeat"

    def __init__(self, store: ReconciliationStore, clock: Clock) -> None:
        self.wakeup = Wakeup()
        self._store = store
        self._clock = clock

    async def begin(self) -> None:
        """The daemon starts: note the time in which it did not run. Raises StorageError."""
        last, now = await self._store.last_alive(), self._clock.now_ms()
        if last is not None and last < now:
            await self._store.note_gap("", Gap(Cause.DOWN, last, now))
        await self._store.alive(now, clock_was_ahead=last is not None and last > now)

    async def poll(self) -> float:
        """Note that the daemon is alive. Raises StorageError."""
        await self._store.alive(self._clock.now_ms())
        return EVERY_S
