"""The workers that each account has: they come and go with it."""

from collections.abc import Callable, Collection
from dataclasses import replace

from inboxd.accounts.manager import AccountManager, ManagedAccount
from inboxd.accounts.subscription_monitor import SubscriptionMonitor
from inboxd.accounts.token_refresher import TokenRefresher
from inboxd.domain.backfill import RunStatus
from inboxd.domain.conversation import ConversationKey
from inboxd.events.bus import EventBus
from inboxd.profiles.cache import ProfileCache
from inboxd.profiles.store import ProfileStore
from inboxd.profiles.sync import ProfileSync
from inboxd.profiles.worker import SCHEDULE, ProfileFetcher
from inboxd.runs.backfill.store import BackfillStore
from inboxd.runs.backfill.worker import BackfillService, BackfillWorker
from inboxd.runtime.clock import Clock
from inboxd.runtime.metrics import Metrics
from inboxd.runtime.supervisor import Supervisor
from inboxd.storage.database import Database


class AccountWorkers:
    """The workers that each account has: they come and go with it."""

    def __init__(
        self,
        accounts: AccountManager,
        database: Database,
        cache: ProfileCache,
        supervisor: Supervisor,
        clock: Clock,
        metrics: Metrics,
        bus: EventBus,
        backfills: BackfillStore,
        desk: BackfillService,
        *,
        random: Callable[[], float],
        concurrency: int,
        on_picture: Callable[[], None],
    ) -> None:
        self._accounts = accounts
        self._database = database
        self._cache = cache
        self._supervisor = supervisor
        self._clock = clock
        self._metrics = metrics
        self._bus = bus
        self._backfills = backfills
        self._desk = desk
        self._random = random
        self._concurrency = concurrency
        self._on_picture = on_picture
        self._fetchers: dict[str, ProfileFetcher] = {}
        self._names: dict[str, list[str]] = {}

    def start(self, served: ManagedAccount) -> None:
        """Start the workers of an account."""
        enricher = ProfileSync(
            served,
            database=self._database,
            cache=self._cache,
            clock=self._clock,
            metrics=self._metrics,
            bus=self._bus,
            random=self._random,
            on_picture=self._on_picture,
        )
        fetcher = ProfileFetcher(enricher, ProfileStore(self._database), self._clock)
        backfill = BackfillWorker(enricher, self._backfills, self._clock, self._bus, self._random)
        self._desk.enter(backfill, enricher)
        tokens = TokenRefresher(served, self._accounts, self._clock, self._metrics)
        subscription = SubscriptionMonitor(served, self._accounts, self._clock, self._metrics)
        self._fetchers[served.account.id] = fetcher
        self._supervisor.start(fetcher, replace(SCHEDULE, lanes=self._concurrency))
        others = (backfill, tokens, subscription)
        self._names[served.account.id] = [fetcher.name, *(worker.name for worker in others)]
        for worker in others:
            self._supervisor.start(worker)

    async def stop(self, served: ManagedAccount) -> None:
        """End the workers of an account."""
        del self._fetchers[served.account.id]
        self._desk.leave(served.account.id)
        run = await self._backfills.active(served.account.id)
        if run is not None:
            reason = "the account is no longer served"
            await self._backfills.set_status(run.id, RunStatus.FAILED, self._clock.now_ms(), reason)
        for name in self._names.pop(served.account.id):
            await self._supervisor.end(name)

    def wrote(self, writers: Collection[ConversationKey]) -> None:
        """These people have written: whoever fetches for their account looks again."""
        for account_id in {key.account_id for key in writers}:
            fetcher = self._fetchers.get(account_id)
            if fetcher is not None:
                fetcher.wrote(writers)
