"""The backfill worker of each account: it comes and goes with the account."""

from collections.abc import Callable, Sequence

from inboxd.accounts.manager import ManagedAccount
from inboxd.domain.run import RunStatus
from inboxd.feature import Job
from inboxd.profiles.sync import ProfileSync
from inboxd.runs.backfill.service import BackfillService
from inboxd.runs.backfill.store import BackfillStore
from inboxd.runs.backfill.worker import SCHEDULE, BackfillWorker
from inboxd.runtime.clock import Clock


class BackfillWorkers:
    """Makes the backfill worker of each account, and fails the run of an account that is no longer served."""

    def __init__(
        self,
        service: BackfillService,
        backfills: BackfillStore,
        *,
        sync_of: Callable[[ManagedAccount], ProfileSync],
        clock: Clock,
        random: Callable[[], float],
    ) -> None:
        self._service = service
        self._backfills = backfills
        self._sync_of = sync_of
        self._clock = clock
        self._random = random

    def for_account(self, managed: ManagedAccount) -> Sequence[Job]:
        """The worker that carries out the runs of an account that begins to be served."""
        worker = BackfillWorker(self._sync_of(managed), self._backfills, self._clock, self._random)
        self._service.add(managed, worker.wakeup)
        return [Job(worker, SCHEDULE)]

    async def account_removed(self, account_id: str) -> None:
        """The account is no longer served: its run that is not finished has failed. Raises StorageError."""
        self._service.remove(account_id)
        run = await self._backfills.active(account_id)
        if run is not None:
            reason = "the account is no longer served"
            await self._backfills.set_status(run.id, RunStatus.FAILED, self._clock.now_ms(), reason)
