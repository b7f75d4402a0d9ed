"""Refreshes tokens automatically, well before they expire."""

from typing import Final

from inboxd.accounts.managed_account import ManagedAccount
from inboxd.accounts.manager import AccountManager
from inboxd.accounts.metrics import AccountMetrics
from inboxd.domain.retry import FailureAction
from inboxd.meta.account_graph import RefreshedToken
from inboxd.meta.graph_errors import GraphError
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock, iso_utc
from inboxd.runtime.secret import Secret
from inboxd.runtime.worker import Schedule, Wakeup

ROUND_S: Final = 3600.0
STORAGE_REST_S: Final = 5.0
HOST_REST_MS: Final = 600_000
"""Delay before a refresh is tried again when Meta's host did not answer."""
WARN_EVERY_MS: Final = 86_400_000
SCHEDULE: Final = Schedule(storage_event="tokens_wait_for_storage", storage_rest_s=STORAGE_REST_S)


class TokenRefresher:
    """Keeps the token of one account valid ("Refresh access token")."""

    def __init__(
        self, managed: ManagedAccount, accounts: AccountManager, clock: Clock, metrics: AccountMetrics
    ) -> None:
        self.wakeup = Wakeup()
        self.name = f"tokens:{managed.account.id}"
        self._managed = managed
        self._accounts = accounts
        self._clock = clock
        self._metrics = metrics
        self._warned_at = 0
        self._not_before = 0
        self._refreshed: tuple[Secret, RefreshedToken] | None = None
        self._log = logs.get("tokens").bind(account_id=managed.account.id)
        managed.listeners.append(self.wakeup.notify)

    async def poll(self) -> float:
        """Refresh the token when that is due, and warn when it expires soon. Raises StorageError."""
        await self.look()
        return self._rest_s()

    async def look(self) -> None:
        """Check the token once: refresh it when due, report that it has expired, or warn. Raises StorageError."""
        account, now = self._managed.account, self._clock.now_ms()
        if account.callable and account.expired(now):
            reason = f"the token expired at {iso_utc(account.token_expires_at or now)}"
            error = GraphError(reason, FailureAction.NEEDS_LOGIN)
            await self._accounts.verdict(account.id, error)
            return
        due_at = self._due_at()
        if due_at is not None and now >= due_at and self._refreshed is None:
            await self._refresh()
        await self._keep()
        if self._managed.account.expires_soon(now) and now - self._warned_at >= WARN_EVERY_MS:
            self._warned_at = now
            expires_at = iso_utc(self._managed.account.token_expires_at or now)
            self._log.error("token_expires_soon", expires_at=expires_at)

    async def _refresh(self) -> None:
        used = self._managed.graph.token
        try:
            new = await self._managed.graph.refresh_token()
        except GraphError as error:
            self._metrics.token_refreshes.labels("failed").inc()
            self._log.warning("token_refresh_failed", remedy=error.action.value, error=str(error))
            if error.of_host:
                self._not_before = self._clock.now_ms() + HOST_REST_MS
                return
            await self._accounts.update(self._managed, refresh_tried_at=self._clock.now_ms())
            return
        if used is not None:  # `_keep` checks whether `used` is still the token in use
            self._refreshed = (used, new)

    async def _keep(self) -> None:
        """Store a refreshed token and use it. When storing fails, the token is kept for the next try."""
        if self._refreshed is None:
            return
        used, new = self._refreshed
        if self._managed.graph.token is used:
            await self._accounts.refreshed(self._managed, new, used)
            self._metrics.token_refreshes.labels("done").inc()
        self._refreshed = None

    def _rest_s(self) -> float:
        if self._refreshed is not None:
            return STORAGE_REST_S
        due_at = self._due_at()
        if due_at is None:
            return ROUND_S
        return min(max((due_at - self._clock.now_ms()) / 1000, 1.0), ROUND_S)

    def _due_at(self) -> int | None:
        due_at = self._managed.account.refresh_due_at()
        return None if due_at is None else max(due_at, self._not_before)
