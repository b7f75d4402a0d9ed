"""The backfill worker of each account."""

from collections.abc import Callable

from inboxd.accounts.manager import ManagedAccount
from inboxd.domain.backfill import BackfillRun
from inboxd.profiles.sync import ProfileSync
from inboxd.runs.account_workers import RunWorkers
from inboxd.runs.backfill.service import BackfillService
from inboxd.runs.backfill.store import BackfillStore
from inboxd.runs.backfill.worker import SCHEDULE, BackfillWorker
from inboxd.runtime.clock import Clock


class BackfillWorkers(RunWorkers[BackfillRun]):
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
        super().__init__(
            service, backfills, clock, SCHEDULE, lambda one: BackfillWorker(sync_of(one), backfills, clock, random)
        )
