"""Checks one account on a schedule, and sooner when something may have been missed."""

import sqlite3
from collections.abc import Callable
from typing import Final, NamedTuple, get_args

import msgspec

from inboxd.accounts.managed_account import ManagedAccount
from inboxd.accounts.subscription import with_messages
from inboxd.domain.clock_trust import UNSET_BEFORE
from inboxd.domain.event import NewEvent
from inboxd.domain.reconciliation import (
    CLOSEST_MS,
    LONGEST_PAUSE_MS,
    MINUTE_MS,
    SOON_MS,
    Cause,
    Gap,
    check_pause,
    first_mark,
    is_from_wrong_clock,
    retry_pause,
)
from inboxd.domain.retry import FailureAction
from inboxd.events.log import EventLog
from inboxd.meta.graph_errors import GraphError
from inboxd.reconciliation import healing_store, store
from inboxd.reconciliation.check import PRIORITY, MailboxCheck, Services
from inboxd.reconciliation.event_types import HEALED, CauseName, HealedEventData
from inboxd.reconciliation.healing_store import Found
from inboxd.reconciliation.lookups import MessageLookups
from inboxd.reconciliation.store import AccountState, OpenCheck
from inboxd.runtime import logs
from inboxd.runtime.clock import iso_utc
from inboxd.runtime.worker import Schedule, Wakeup
from inboxd.storage.database import Database

SCHEDULE: Final = Schedule(storage_event="reconciliation_waits_for_storage", storage_rest_s=5)
LOOK_S: Final = 60.0
"""How often it is looked whether Meta's host is back, and whether the settings are others."""
HINTS_S: Final = 10.0
"""How often, at most, it is looked whether messages have come that webhooks hinted at."""
SCHEDULED: Final = "schedule"
RESTART: Final = "restart"
OUTAGE: Final = "outage"
SUBSCRIPTION: Final = "subscription"
COMPANIONS: Final = "companions"
_NAMES: Final = get_args(CauseName)


class Plan(NamedTuple):
    """What all accounts have in common, read anew at each look."""

    every_ms: Callable[[], int]
    """Time between two checks; 0: none."""
    share: Callable[[], float]
    """Reconciliation's share of the hour's calls."""


class ReconciliationWorker:
    """The checks of one account."""

    def __init__(
        self,
        managed: ManagedAccount,
        services: Services,
        database: Database,
        event_log: EventLog,
        plan: Plan,
        check: MailboxCheck,
        lookups: MessageLookups,
    ) -> None:
        self.wakeup = Wakeup()
        self.name = f"reconciliation:{managed.account.id}"
        self._managed = managed
        self._services = services
        self._database = database
        self._event_log = event_log
        self._plan = plan
        self._check = check
        self._lookups = lookups
        self._account_id = managed.account.id
        self._not_before = services.clock.now_ms() + SOON_MS
        """After a start Meta first sends again what it could not deliver."""
        self._sooner: tuple[str, int] | None = (RESTART, self._not_before)
        """Why and when to check before the schedule says so."""
        self._gaps: list[Gap] = []
        self._active = False
        """Whether something arrived since the last check began."""
        self._arrived_at: int | None = None
        """When something arrived, until that is stored (ms)."""
        self._host_is_down = False
        self._callable = True
        self._log = logs.get("reconciliation").bind(account_id=self._account_id)
        managed.listeners.append(self.wakeup.notify)
        managed.on_resubscribed.append(self.subscription_lost)
        services.signals.listeners[self._account_id] = self.arrived

    def arrived(self) -> None:
        """Something of the account arrived: webhooks reach us, and the schedule applies again."""
        self._arrived_at = self._services.clock.now_ms()
        if not self._active:
            self._active = True
            self.wakeup.notify()

    def subscription_lost(self, since: int, until: int) -> None:
        """The account was not subscribed for a time (ms), and is again."""
        self._gaps.append(Gap(Cause.SUBSCRIPTION_LOST, since, until))
        self._check_sooner(SUBSCRIPTION)
        self.wakeup.notify()

    async def poll(self) -> float:
        """Check when it is due. Raises StorageError."""
        await self._keep_gaps()
        await self._keep_arrival()
        every_ms = self._plan.every_ms()
        # Switched off, it keeps no calls from history and backfill.
        self._managed.graph.budget.share_reconciliation(self._plan.share() if every_ms else 0.0)
        callable_before, self._callable = self._callable, self._managed.account.callable
        if not every_ms or not self._callable:
            return LOOK_S
        now = self._services.clock.now_ms()
        if not callable_before:
            self._check_sooner(OUTAGE)
        if now < UNSET_BEFORE:  # the clock was not set since the boot
            return LOOK_S
        self._watch_host()
        await self._heed_hints(now)
        state = await self._services.store.state(self._account_id)
        if state is None or state.since > now:  # a clock that was ahead began it
            state = await self._services.store.begin(
                self._account_id, first_mark(now, self._managed.account.created_at)
            )
        due_at = self._due_at(state, every_ms)
        if now < due_at:
            return min(LOOK_S, self._hint_in_s(now), (due_at - now) / 1000)
        try:
            await self._run(state, every_ms)
        except GraphError as error:
            await self._postpone(state, error, every_ms)
        return 0.01

    async def _run(self, state: AccountState, every_ms: int) -> None:
        check = await self._services.store.open_check(self._account_id)
        now, active, self._active = self._services.clock.now_ms(), self._active, False
        if check is None:
            reason = SCHEDULED if self._sooner is None or now < self._sooner[1] else self._sooner[0]
            check = await self._services.store.start_check(self._account_id, reason, now)
        self._check.begin_log()
        waiting = await self._services.store.waiting(self._account_id)
        changed = False
        if self._check.free_calls > 1 or not waiting.conversations:
            changed = await self._check.list_changes(state, check)
        read = await self._check.read_due(state, check)
        await self._lookups.run(state, check)
        waiting = await self._services.store.waiting(self._account_id)
        quiet = not (changed or read or waiting.conversations or active or self._active)
        await self._finish(state, check, every_ms, quiet=quiet)

    async def _finish(self, state: AccountState, check: OpenCheck, every_ms: int, *, quiet: bool) -> None:
        now = self._services.clock.now_ms()
        quiet_checks = state.quiet_checks + 1 if quiet else 0
        next_at = now + check_pause(every_ms, quiet_checks)

        def transaction(connection: sqlite3.Connection) -> list[Found]:
            healing_store.note_late(connection, self._account_id, now)
            found = healing_store.found_by(connection, check.id)
            if found:
                data = msgspec.json.encode(_event(found, check))
                event = NewEvent(HEALED.name, self._account_id, now, data, subject=f"rc_{check.id}")
                self._event_log.append(connection, [event])
            store.finish(connection, self._account_id, check, now, next_at, quiet_checks)
            return found

        found = await self._database.write(transaction)
        if self._sooner is not None and self._sooner[1] <= check.started_at:
            self._sooner = None
        self._services.metrics.checks.labels("done").inc()
        if found:
            await self._renew_subscription()
            told = _event(found, check)
            self._log.warning(
                "messages_missed",
                count=told.count,
                healed=told.healed_count,
                cause=told.cause,
                since=told.since,
                until=told.until,
                reason=check.reason,
            )

    async def _renew_subscription(self) -> None:
        """Subscribe again when Meta lists the subscription and does not serve it. Raises StorageError."""
        await self._keep_arrival()  # what came during the check counts
        if not await self._services.store.claim_renewal(self._account_id, self._services.clock.now_ms()):
            return
        try:
            fields = await self._managed.graph.subscribed_fields(PRIORITY)
            await self._managed.graph.subscribe(PRIORITY, fields=with_messages(self._managed.account, fields))
        except GraphError as error:
            self._log.warning("subscription_not_renewed", error=str(error))
        else:
            self._log.warning("subscription_renewed", fields=list(fields))

    async def _postpone(self, state: AccountState, error: GraphError, every_ms: int) -> None:
        """The account or Meta's host cannot be asked now: the same check goes on later."""
        now = self._services.clock.now_ms()
        pause_ms = min(retry_pause(state.failures + 1), max(every_ms, MINUTE_MS))
        if error.action is FailureAction.WAIT_FOR_BUDGET:
            pause_ms = max(pause_ms, int(self._managed.graph.budget.wait_s(None, PRIORITY) * 1000))
        elif error.action in {FailureAction.NEEDS_LOGIN, FailureAction.LACKS_PERMISSION}:
            pause_ms = LONGEST_PAUSE_MS
        self._sooner = None
        self._services.metrics.checks.labels("postponed").inc()
        if str(error) != state.error:
            self._log.warning("reconciliation_postponed", error=str(error), retry_in_s=round(pause_ms / 1000))
        await self._services.store.postpone(self._account_id, str(error), now + pause_ms)

    def _due_at(self, state: AccountState, every_ms: int) -> int:
        """When the next check is due (ms)."""
        now, due_at, checked_at = self._services.clock.now_ms(), state.next_check_at, state.checked_at or 0
        if is_from_wrong_clock(self._not_before, now):
            self._not_before, self._sooner = now, None
        if is_from_wrong_clock(max(due_at, checked_at), now):
            return now
        if not state.failures:
            due_at = min(due_at, checked_at + (every_ms if self._active else max(every_ms, LONGEST_PAUSE_MS)))
        if self._sooner is not None:
            due_at = min(due_at, max(self._sooner[1], checked_at + CLOSEST_MS))
        return max(due_at, self._not_before)

    def _check_sooner(self, reason: str) -> None:
        self._sooner = self._sooner or (reason, self._services.clock.now_ms() + SOON_MS)

    def _watch_host(self) -> None:
        """Check soon after Meta's host was down: it may not have sent webhooks either."""
        down = self._managed.graph.circuit.open_since is not None
        if self._host_is_down and not down:
            self._check_sooner(OUTAGE)
        self._host_is_down = down

    async def _heed_hints(self, now: int) -> None:
        """Look whether the messages that webhooks hinted at have arrived."""
        hints = self._services.signals.ripe(self._account_id, now)
        if hints and await self._lookups.unknown(hints):
            self._check_sooner(COMPANIONS)

    def _hint_in_s(self, now: int) -> float:
        at = self._services.signals.next_ripe_at(self._account_id)
        return LOOK_S if at is None else max(HINTS_S, (at + MINUTE_MS - now) / 1000)

    async def _keep_gaps(self) -> None:
        while self._gaps:
            await self._services.store.note_gap(self._account_id, self._gaps[0])
            del self._gaps[0]

    async def _keep_arrival(self) -> None:
        if (at := self._arrived_at) is not None:
            await self._services.store.arrived(self._account_id, at)
            self._arrived_at = None if self._arrived_at == at else self._arrived_at


def _event(found: list[Found], check: OpenCheck) -> HealedEventData:
    causes: dict[CauseName, int] = {name: one.messages for name in _NAMES for one in found if one.cause.value == name}
    return HealedEventData(
        count=sum(causes.values()),
        healed_count=sum(one.messages - one.unreadable for one in found),
        cause=max(causes, key=lambda name: causes[name]),
        causes=causes,
        since=iso_utc(min(one.since for one in found)),
        until=iso_utc(max(one.until for one in found)),
        reason=check.reason,
    )
