"""The workers that each account has: they come and go with it."""

from inboxd.accounts import subscription_monitor, token_refresher
from inboxd.accounts.manager import AccountManager, ManagedAccount
from inboxd.accounts.subscription_monitor import SubscriptionMonitor
from inboxd.accounts.token_refresher import TokenRefresher
from inboxd.feature import Job
from inboxd.profiles.fetchers import ProfileFetchers
from inboxd.runs.backfill.account_workers import BackfillWorkers
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
        *,
        fetchers: ProfileFetchers,
        backfills: BackfillWorkers,
    ) -> None:
        self._accounts = accounts
        self._supervisor = supervisor
        self._clock = clock
        self._metrics = metrics
        self._fetchers = fetchers
        self._backfills = backfills
        self._names: dict[str, list[str]] = {}

    def start(self, served: ManagedAccount) -> None:
        """Start the workers of an account."""
        tokens = TokenRefresher(served, self._accounts, self._clock, self._metrics)
        subscription = SubscriptionMonitor(served, self._accounts, self._clock, self._metrics)
        jobs = [
            *self._fetchers.for_account(served),
            *self._backfills.for_account(served),
            Job(tokens, token_refresher.SCHEDULE),
            Job(subscription, subscription_monitor.SCHEDULE),
        ]
        for worker, schedule in jobs:
            self._supervisor.start(worker, schedule)
        self._names[served.account.id] = [job.worker.name for job in jobs]

    async def stop(self, served: ManagedAccount) -> None:
        """End the workers of an account."""
        self._fetchers.remove(served.account.id)
        await self._backfills.account_removed(served.account.id)
        for name in self._names.pop(served.account.id):
            await self._supervisor.end(name)
