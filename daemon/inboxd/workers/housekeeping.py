"""Housekeeping: keeps the disk bounded, and looks after a disk that refused."""

import asyncio
from typing import Final

from inboxd import logs
from inboxd.clock import Clock
from inboxd.errors import StorageClosedError, StorageError
from inboxd.store.backfills import Backfills
from inboxd.store.database import Database
from inboxd.store.inbox import Inbox

ROUND_S: Final = 5.0
EXPIRE_EVERY_ROUNDS: Final = 12
STEP: Final = 200
"""Rows removed in one transaction, so that a webhook never waits long for one."""
STEP_REST_S: Final = 0.05
DAY_MS: Final = 86_400_000


class Housekeeping:
    """Removes understood deliveries and finished runs after their time, and probes a disk that refused a write."""

    name = "housekeeping"

    def __init__(
        self,
        database: Database,
        inbox: Inbox,
        backfills: Backfills,
        clock: Clock,
        *,
        keep_deliveries_days: int,
        keep_runs_days: int,
    ) -> None:
        self._database = database
        self._inbox = inbox
        self._backfills = backfills
        self._keep_runs_ms = keep_runs_days * DAY_MS
        self._clock = clock
        self._keep_ms = keep_deliveries_days * DAY_MS
        self._stopped = asyncio.Event()
        self._log = logs.get("housekeeping")

    def stop(self) -> None:
        """End `run`."""
        self._stopped.set()

    async def run(self) -> None:
        """One round every few seconds, until `stop`."""
        rounds = 0
        while not self._stopped.is_set():
            try:
                if self._database.refusal is not None:
                    await self._database.probe()
                    self._log.info("storage_recovered")
                if rounds % EXPIRE_EVERY_ROUNDS == 0:
                    await self.expire()
                    await self.expire_runs()
            except StorageClosedError:  # the writer is gone for good: crash, so that the pool ends the process
                raise
            except StorageError as error:
                self._log.error("storage_refuses", error=str(error))
            rounds += 1
            await self._clock.wait(self._stopped, ROUND_S)

    async def expire(self) -> int:
        """Remove deliveries that were understood longer ago than they are kept; returns how many."""
        removed = 0
        while not self._stopped.is_set():
            step = await self._inbox.expire(self._clock.now_ms() - self._keep_ms, STEP)
            removed += step
            if step < STEP:
                break
            await self._clock.sleep(STEP_REST_S)
        if removed:
            self._log.info("deliveries_expired", count=removed)
        return removed

    async def expire_runs(self) -> None:
        """Remove backfill runs that finished longer ago than they are kept."""
        while not self._stopped.is_set():
            if not await self._backfills.expire(self._clock.now_ms() - self._keep_runs_ms, STEP):
                return
            await self._clock.sleep(STEP_REST_S)
