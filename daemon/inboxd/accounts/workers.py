"""The workers that each account has: they come and go with it."""

from collections.abc import Callable

from inboxd.accounts.manager import AccountManager, ManagedAccount
from inboxd.accounts.subscription_monitor import SubscriptionMonitor
from inboxd.accounts.token_refresher import TokenRefresher
from inboxd.domain.backfill import RunStatus
from inboxd.events.bus import EventBus
from inboxd.profiles.fetchers import ProfileFetchers
from inboxd.profiles.sync import ProfileSyncs
from inboxd.runs.backfill.store import BackfillStore
from inboxd.runs.backfill.worker import BackfillService, BackfillWorker
from inboxd.runtime.clock import Clock
from inboxd.runtime.metrics import Metrics
from inboxd.runtime.supervisor import Supervisor


class AccountWorkers:
    """The workers that each account has: they come and go with it."""

    def __init__(
        self,
        accounts: AccountManager,
        supervisor: Supervisor,
        clock: Clock,
        metrics: Metrics,
        bus: EventBus,
        backfills: BackfillStore,
        desk: BackfillService,
        *,
        random: Callable[[], float],
        syncs: ProfileSyncs,
        fetchers: ProfileFetchers,
    ) -> None:
        self._accounts = accounts
        self._supervisor = supervisor
        self._clock = clock
        self._metrics = metrics
        self._bus = bus
        self._backfills = backfills
        self._desk = desk
        self._random = random
        self._syncs = syncs
        self._fetchers = fetchers
        self._names: dict[str, list[str]] = {}

    def start(self, served: ManagedAccount) -> None:
        """Start the workers of an account."""
        sync = self._syncs.of(served)
        backfill = BackfillWorker(sync, self._backfills, self._clock, self._bus, self._random)
        self._desk.enter(backfill, sync)
        tokens = TokenRefresher(served, self._accounts, self._clock, self._metrics)
        subscription = SubscriptionMonitor(served, self._accounts, self._clock, self._metrics)
        fetching = self._fetchers.for_account(served)
        for worker, schedule in fetching:
            self._supervisor.start(worker, schedule)
        others = (backfill, tokens, subscription)
        self._names[served.account.id] = [job.worker.name for job in fetching] + [one.name for one in others]
        for one in others:
            self._supervisor.start(one)

    async def stop(self, served: ManagedAccount) -> None:
        """End the workers of an account."""
        self._fetchers.remove(served.account.id)
        self._desk.leave(served.account.id)
        run = await self._backfills.active(served.account.id)
        if run is not None:
            reason = "the account is no longer served"
            await self._backfills.set_status(run.id, RunStatus.FAILED, self._clock.now_ms(), reason)
        for name in self._names.pop(served.account.id):
            await self._supervisor.end(name)
