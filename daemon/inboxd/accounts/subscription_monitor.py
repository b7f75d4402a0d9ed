"""Checks subscriptions every hour: Meta unsubscribes an account silently after an hour of failed deliveries."""

from typing import Final

from inboxd.accounts.check import ensure_subscribed
from inboxd.accounts.managed_account import ManagedAccount
from inboxd.accounts.manager import AccountManager
from inboxd.accounts.metrics import AccountMetrics
from inboxd.accounts.subscription import lacks_comments, read_fields, subscribe_comments
from inboxd.domain.budget import Priority
from inboxd.domain.retry import FailureAction
from inboxd.meta.graph_errors import GraphError
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock
from inboxd.runtime.worker import Schedule, Wakeup

EVERY_MS: Final = 3_600_000
RETRY_MS: Final = 600_000
"""Delay before the next check after a temporary error."""
SCHEDULE: Final = Schedule(storage_event="subscription_waits_for_storage", storage_rest_s=5, log_part="subscriptions")


class SubscriptionMonitor:
    """Keeps one account subscribed to its webhooks ("Enable subscriptions")."""

    def __init__(
        self, managed: ManagedAccount, accounts: AccountManager, clock: Clock, metrics: AccountMetrics
    ) -> None:
        self.wakeup = Wakeup()
        self.name = f"subscription:{managed.account.id}"
        self._managed = managed
        self._accounts = accounts
        self._clock = clock
        self._metrics = metrics
        self._not_before = 0
        self._wanted_comments = False
        """Whether comments were wanted at the last look."""
        self._lost_since: int | None = None
        """When it was last known to be subscribed (ms); None while it is."""
        self._log = logs.get("subscriptions").bind(account_id=managed.account.id)
        managed.listeners.append(self.wakeup.notify)

    async def poll(self) -> float:
        """Check when it is due: every hour while calls for the account are possible. Raises StorageError."""
        if self._rest_s() <= 0:
            await self.look()
        return max(self._rest_s(), 1.0)

    async def look(self) -> None:
        """Check the subscription once, and subscribe again if it was lost. Raises StorageError."""
        async with self._managed.subscribing:
            await self._look()

    async def _look(self) -> None:
        self._not_before = self._clock.now_ms() + EVERY_MS
        self._wanted_comments = self._managed.account.wants_comments
        before = self._managed.account.subscribed_fields
        try:
            fields = await read_fields(self._managed, Priority.LIVE)
            if "messages" in fields:
                await self._accounts.update(
                    self._managed, subscribed_fields=fields, subscription_checked_at=self._clock.now_ms()
                )
                self._tell_resubscribed()
                await self._add_comments()
                return
            if "messages" in (before or ()):
                self._lost_since = self._managed.account.subscription_checked_at or self._clock.now_ms()
                self._metrics.subscriptions_lost.inc()
                self._log.error("subscription_lost", fields=list(before or ()))
            fields = await ensure_subscribed(self._accounts, self._managed, self._clock)
        except GraphError as error:
            if error.action is FailureAction.RETRY_LATER and not error.row.ambiguous:
                self._not_before = self._clock.now_ms() + RETRY_MS
            self._log.warning("subscription_unknown", remedy=error.action.value, error=str(error))
            return
        if "messages" in fields:
            self._log.info("subscribed", fields=list(fields))
            self._tell_resubscribed()
            self._wanted_comments = False  # comments are added by the next look
        else:
            self._log.error("subscription_refused", fields=list(fields))

    async def _add_comments(self) -> None:
        """Subscribe to comments too where they are wanted. Raises GraphError, but not for a refusal; StorageError."""
        if lacks_comments(self._managed.account, self._clock.now_ms()):
            fields = await subscribe_comments(self._accounts, self._managed, self._clock, Priority.LIVE)
            self._log.info("subscribed", fields=list(fields))

    def _tell_resubscribed(self) -> None:
        since, self._lost_since = self._lost_since, None
        if since is not None:
            for tell in self._managed.on_resubscribed:
                tell(since, self._clock.now_ms())

    def _rest_s(self) -> float:
        account = self._managed.account
        if not account.callable:
            return EVERY_MS / 1000
        if not account.wants_comments:
            self._wanted_comments = False  # when they are wanted again, it is looked at once
        elif not self._wanted_comments:
            return 0.0
        due_at = max((account.subscription_checked_at or 0) + EVERY_MS, self._not_before)
        return (due_at - self._clock.now_ms()) / 1000
