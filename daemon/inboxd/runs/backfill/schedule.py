"""Backfill by itself: at the moments of a cron expression, once however many were missed."""

import asyncio
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from typing import Final

from cronsim import CronSim

from inboxd.runs.backfill.store import BackfillStore, RunActiveError
from inboxd.runs.backfill.worker import BackfillService
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import StorageClosedError, StorageError

NAME: Final = "backfill"
ROUND_S: Final = 60.0


def next_after(expression: str, at: int) -> int:
    """The first moment (ms) of a cron expression, in UTC, after `at` (ms)."""
    moment = next(CronSim(expression, datetime.fromtimestamp(at / 1000, UTC)))
    return int(moment.timestamp() * 1000)


class BackfillSchedule:
    """Starts runs on schedule, for every account that misses profiles and is not in `skip`."""

    name = "backfill-schedule"

    def __init__(
        self,
        desk: BackfillService,
        backfills: BackfillStore,
        accounts: Callable[[], Collection[str]],
        clock: Clock,
        random: Callable[[], float],
        *,
        expression: str,
        jitter_s: float,
        batch_size: int,
        skip: Collection[str],
    ) -> None:
        self._desk = desk
        self._backfills = backfills
        self._accounts = accounts
        self._clock = clock
        self._expression = expression
        self._jitter_ms = int(jitter_s * 1000 * random())
        self._batch_size = batch_size
        self._skip = skip
        self._left: set[str] = set()
        """Accounts of the round in hand that have no run yet."""
        self._round_at = 0
        self._stopped = asyncio.Event()
        self._log = logs.get("backfill")

    def stop(self) -> None:
        """End `run`."""
        self._stopped.set()

    async def run(self) -> None:
        """Look every minute whether it is time, until `stop`."""
        while not self._stopped.is_set():
            try:
                await self.look()
            except StorageClosedError:
                raise
            except StorageError as error:
                self._log.warning("schedule_waits_for_storage", error=str(error))
            await self._clock.wait(self._stopped, ROUND_S)

    async def look(self) -> None:
        """Start what is due. The first look of all begins to count; moments missed since then count as one.

        An account whose run cannot be stored now is tried again at the next look, until the next moment comes; the
        others get theirs meanwhile. Raises StorageError, after all were tried.
        """
        now = self._clock.now_ms()
        begun_at = await self._backfills.begun_at(NAME)
        if begun_at is None or begun_at > now:  # never, or a clock that went back
            await self._backfills.set_begun(NAME, now)
            return
        if now < next_after(self._expression, begun_at) + self._jitter_ms:
            return
        if not self._left or now >= next_after(self._expression, self._round_at) + self._jitter_ms:
            self._left, self._round_at = set(self._accounts()) - set(self._skip), now
        refused: StorageError | None = None
        for account_id in sorted(self._left & set(self._accounts())):
            try:
                await self._start(account_id)
            except StorageClosedError:
                raise
            except StorageError as error:
                refused = error
            else:
                self._left.discard(account_id)
        if refused is not None:
            raise refused
        await self._backfills.set_begun(NAME, now)
        self._left.clear()

    async def _start(self, account_id: str) -> None:
        if not await self._backfills.missing(account_id, 0):
            return
        try:
            run = await self._desk.start(account_id, origin="schedule", batch_size=self._batch_size)
        except RunActiveError:
            return
        self._log.info("backfill_scheduled", account_id=account_id, run_id=run.id, total=run.total)
