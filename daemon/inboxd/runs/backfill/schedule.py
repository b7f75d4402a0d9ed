"""Starts backfill runs at the moments of a cron expression. Missed moments count as one."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

from inboxd.runs.backfill.service import BackfillService
from inboxd.runs.backfill.store import BackfillStore
from inboxd.runs.cron import next_after
from inboxd.runs.moments_store import MomentStore
from inboxd.runs.store import RunActiveError
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import StorageClosedError, StorageError
from inboxd.runtime.worker import Schedule, Wakeup

NAME: Final = "backfill"
ROUND_S: Final = 60.0
"""Between two polls."""
SCHEDULE: Final = Schedule(storage_event="schedule_waits_for_storage", storage_rest_s=ROUND_S, log_part="backfill")


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleOptions:
    """When runs start, and which."""

    expression: str
    """A cron expression, in UTC."""
    jitter_s: float
    """Runs start later than the cron moment by a random part of this."""
    batch_size: int
    skip_accounts: Collection[str] = ()
    """Ids of accounts that get no scheduled run."""


class BackfillSchedule:
    """Starts a run for every account that lacks profiles, when a cron moment has come."""

    name = "backfill-schedule"

    def __init__(
        self,
        service: BackfillService,
        backfills: BackfillStore,
        moments: MomentStore,
        accounts: Callable[[], Collection[str]],
        clock: Clock,
        random: Callable[[], float],
        options: ScheduleOptions,
    ) -> None:
        self.wakeup = Wakeup()
        self._service = service
        self._backfills = backfills
        self._moments = moments
        self._accounts = accounts
        self._clock = clock
        self._options = options
        self._jitter_ms = int(options.jitter_s * 1000 * random())
        self._waiting: set[str] = set()
        """Accounts whose run for the current moment is not stored yet."""
        self._waiting_since = 0
        """When `_waiting` was filled (ms)."""
        self._log = logs.get("backfill")

    async def poll(self) -> float:
        """Start the runs that are due. The first poll of all stores when counting began, and starts none.

        When the run of an account cannot be stored, the other accounts still get theirs, and the account is tried again
        at the next poll, until the next moment comes. Raises StorageError after all accounts were tried.
        """
        now = self._clock.now_ms()
        begun_at = await self._moments.at(NAME)
        if begun_at is None or begun_at > now:  # never, or a clock that went back
            await self._moments.set(NAME, now)
        elif now >= self._next_after(begun_at):
            if not self._waiting or now >= self._next_after(self._waiting_since):
                self._waiting, self._waiting_since = set(self._accounts()) - set(self._options.skip_accounts), now
            await self._start_all()
            await self._moments.set(NAME, now)
            self._waiting.clear()
        return ROUND_S

    def _next_after(self, at: int) -> int:
        return next_after(self._options.expression, at) + self._jitter_ms

    async def _start_all(self) -> None:
        """Start a run for each waiting account that is still served. Raises StorageError after all were tried."""
        refused: StorageError | None = None
        for account_id in sorted(self._waiting & set(self._accounts())):
            try:
                await self._start(account_id)
            except StorageClosedError:
                raise
            except StorageError as error:
                refused = error
            else:
                self._waiting.discard(account_id)
        if refused is not None:
            raise refused

    async def _start(self, account_id: str) -> None:
        if not await self._backfills.missing(account_id, 0):
            return
        try:
            run = await self._service.start(account_id, origin="schedule", batch_size=self._options.batch_size)
        except RunActiveError:
            return
        self._log.info("backfill_scheduled", account_id=account_id, run_id=run.id, total=run.total)
