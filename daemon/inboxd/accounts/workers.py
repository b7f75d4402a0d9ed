"""The workers of each account. They start when the account is added, and end when it is removed."""

from collections.abc import Awaitable, Callable, Sequence

from inboxd.accounts import subscription_monitor, token_refresher
from inboxd.accounts.managed_account import ManagedAccount
from inboxd.accounts.manager import AccountManager
from inboxd.accounts.metrics import AccountMetrics
from inboxd.accounts.subscription_monitor import SubscriptionMonitor
from inboxd.accounts.token_refresher import TokenRefresher
from inboxd.feature import Job
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import InboxdError
from inboxd.runtime.supervisor import Supervisor


class AccountWorkers:
    """Starts and ends the workers of each account. Each feature with such workers gives one factory in `factories`."""

    def __init__(
        self,
        supervisor: Supervisor,
        factories: Sequence[Callable[[str], Sequence[Job]]],
        on_removed: Sequence[Callable[[str], Awaitable[None]]],
    ) -> None:
        self._supervisor = supervisor
        self._factories = factories
        self._on_removed = on_removed
        self._names: dict[str, list[str]] = {}

    def start(self, managed: ManagedAccount) -> None:
        """Start the workers of an account that is now served."""
        jobs = [job for factory in self._factories for job in factory(managed.account.id)]
        self._names[managed.account.id] = [job.worker.name for job in jobs]
        for worker, schedule in jobs:
            self._supervisor.start(worker, schedule)

    async def stop(self, managed: ManagedAccount) -> None:
        """Call each of `on_removed`, in order, for an account that is no longer served. Then end its workers.

        Raises what a feature raised first, such as StorageError, once all of this is done.
        """
        errors = []
        for removed in self._on_removed:
            try:
                await removed(managed.account.id)
            except InboxdError as error:
                errors.append(error)
        for name in self._names.pop(managed.account.id):
            await self._supervisor.end(name)
        if errors:
            raise errors[0]


def workers_of(
    managed: ManagedAccount, *, accounts: AccountManager, clock: Clock, metrics: AccountMetrics
) -> Sequence[Job]:
    """The workers that keep an account's token valid and its subscription active."""
    return [
        Job(TokenRefresher(managed, accounts, clock, metrics), token_refresher.SCHEDULE),
        Job(SubscriptionMonitor(managed, accounts, clock, metrics), subscription_monitor.SCHEDULE),
    ]
