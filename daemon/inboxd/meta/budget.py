"""Limits the Graph API calls of an account, and decides which call is made next.

Every call goes through `Budget.call`. A call is recorded durably before it is made. It counts until one hour after it
*ended*, because Meta counted it at some moment between its start and its end. All times are of the monotonic clock, so
a jump of the wall clock neither resets the budget nor blocks it.
"""

import asyncio
import bisect
import itertools
import math
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Final, NamedTuple, Protocol

from aiolimiter import AsyncLimiter

from inboxd.domain.budget import APP_SCOPE, RECONCILIATION_SHARE, BudgetReport, Priority, Stop, divided
from inboxd.domain.call_window import CallWindow
from inboxd.domain.retry import FailureAction
from inboxd.meta.graph_errors import GraphError
from inboxd.meta.throttle import Circuit, PacedThrottle, Throttle
from inboxd.runtime.clock import Clock, iso_utc

HOUR_S: Final = 3600.0
PATIENCE_S: Final = 10.0
"""How long an interactive call waits at most, because a person waits for it."""


class CallLog(Protocol):
    """The data that must survive a restart. `at` is in seconds of the monotonic clock."""

    async def calls(self, account_id: str) -> list[float]:
        """When the account's calls of the last hour were made, earliest first."""

    async def record(self, account_id: str, at: float) -> None:
        """Record durably that a call is about to be made. Raises StorageError."""

    async def stops(self) -> dict[str, Stop]:
        """The stored stops, by scope."""

    async def save_stop(self, scope: str, stop: Stop | None) -> None:
        """Store the stop of a scope, or delete it when `stop` is None. Raises StorageError."""


class AppBudget:
    """Shared by all accounts: the app's throttle, and the event that wakes waiting calls after a change."""

    def __init__(self, clock: Clock) -> None:
        self.app = Throttle(clock)
        self._bell = asyncio.Event()
        self.clock = clock

    async def load(self, call_log: CallLog) -> None:
        """Restore the app's stop from before a restart."""
        stop = (await call_log.stops()).get(APP_SCOPE)
        if stop is not None:
            self.app.restore(stop)

    def notify(self) -> None:
        """Wake all waiting calls, so that they check again."""
        self._bell.set()
        self._bell.clear()

    async def wait(self, seconds: float) -> None:
        """Wait for `notify`, at most `seconds`."""
        await self.clock.wait(self._bell, None if math.isinf(seconds) else seconds)


def _always() -> None:
    """The default of `ready`: the call can always be made."""


class _Ticket(NamedTuple):
    """A place in the queue. `number` is unique, so tickets are ordered only by priority and arrival."""

    priority: Priority
    number: int
    throttle: Throttle | None
    throttles: tuple[Throttle, ...]
    """All throttles that may delay this call."""

    @property
    def interactive(self) -> bool:
        """Whether a person waits for the answer."""
        return self.priority is Priority.INTERACTIVE

    @property
    def held_back(self) -> bool:
        """Whether its own throttle delays it. Calls behind it in the queue do not wait for that."""
        return self.throttle is not None and self.throttle.wait_s() > 0


class Budget:
    """One account's limits: a pace, a maximum in any window of one hour, and the throttles.

    Reconciliation has a share of the hour, which history and backfill do not use: see `share_reconciliation`.
    After a restart it is not known whose the calls of the last hour were: they count for the hour, and for no share.
    """

    def __init__(
        self,
        account_id: str,
        call_log: CallLog,
        app_budget: AppBudget,
        host: Circuit,
        clock: Clock,
        *,
        calls_per_hour: int,
        calls_per_second: float,
        window_s: float = HOUR_S,
    ) -> None:
        self.account_id = account_id
        self.throttle = Throttle(clock)
        """Stops or slows calls when Meta throttles this account."""
        self._call_log = call_log
        self._app_budget = app_budget
        self._host = host
        self._throttles = (host, app_budget.app, self.throttle)
        self.clock = clock
        self._reconciliation_share = RECONCILIATION_SHARE
        self.limit(calls_per_hour, calls_per_second)
        self._all, self._reconciling, self._others = (CallWindow(window_s) for _ in range(3))
        self._last_at = -math.inf
        self._queue: list[_Ticket] = []
        self._numbers = itertools.count()

    @property
    def throttles(self) -> Sequence[Throttle]:
        """What stops every call of this account: its host, the app, and the account."""
        return self._throttles

    def paced_throttle(self, *, calls: int, window_s: float) -> PacedThrottle:
        """A throttle for one kind of this account's calls, which keeps its pace over a restart too."""
        throttle = PacedThrottle(self.clock, calls=calls, window_s=window_s)
        if self.clock.monotonic() - self._all.latest < window_s:
            throttle.fill()
        return throttle

    def notify(self) -> None:
        """Wake all waiting calls: a throttle may have changed."""
        self._app_budget.notify()

    async def load(self, *, longest_call_s: float) -> None:
        """Restore the calls and the stop from before a restart. Each call is taken to have lasted `longest_call_s`."""
        now = self.clock.monotonic()
        ended = [min(now, at + longest_call_s) for at in await self._call_log.calls(self.account_id)]
        self._all.restore(ended)
        self._others.restore(ended)
        stop = (await self._call_log.stops()).get(self.account_id)
        if stop is not None:
            self.throttle.restore(stop)

    @asynccontextmanager
    async def call(
        self, priority: Priority, throttle: Throttle | None = None, *, ready: Callable[[], object] = _always
    ) -> AsyncIterator[None]:
        """Wait until one more call is allowed, and count it. The caller makes the call inside the `async with` block.

        `throttle` is an additional throttle, only for this kind of call. `ready` raises when the call can no longer be
        made: it is called while waiting, before the call is counted and after. Every attempt counts, also one that
        fails. An interactive call does not wait for the host or for Meta's usage headers, and waits at most PATIENCE_S
        for everything else.

        Raises StorageError when the call cannot be recorded: it is then not made. Raises GraphError when a host that
        was down is still down, or when an interactive call has to wait longer than PATIENCE_S.
        """
        interactive = priority is Priority.INTERACTIVE
        throttles = self._throttles[1:] if interactive else self._throttles
        throttles = throttles if throttle is None else (*throttles, throttle)
        while True:
            await self._turn(_Ticket(priority, next(self._numbers), throttle, throttles), ready)
            with self._under(priority, {*throttles, self._host}) as pay:
                if not interactive:
                    await self._host.find_out()
                ready()
                pay()
                await self._call_log.record(self.account_id, self.clock.monotonic())
                if any(one.stopped_s() for one in throttles):
                    continue  # another call has caused a stop in the meantime
                ready()
                yield
                return

    @contextmanager
    def _under(self, priority: Priority, throttles: Collection[Throttle]) -> Iterator[Callable[[], None]]:
        """Mark a call as under way, from its turn until it has ended. It counts once `pay` was called."""
        paid = False

        def pay() -> None:
            nonlocal paid
            paid = True

        for throttle in throttles:
            throttle.enter()
        try:
            yield pay
        finally:
            for window in self._windows(priority):
                window.end(self.clock.monotonic(), counts=paid)
            for throttle in throttles:
                throttle.leave()
            self._app_budget.notify()

    def limit(self, calls_per_hour: int, calls_per_second: float) -> None:
        """Set the maximum and the pace from now on. Calls already made count against the new maximum."""
        self.calls_per_second = calls_per_second
        self._shares = divided(calls_per_hour, self._reconciliation_share)
        self._interval_s = 1 / calls_per_second
        self._pace = AsyncLimiter(1, self._interval_s)
        self._app_budget.notify()

    def share_reconciliation(self, fraction: float) -> None:
        """Set reconciliation's share of the hour, from 0 to 1, from now on. Raises ValueError for other values."""
        self._shares = divided(self._shares.allowance, fraction)
        self._reconciliation_share = fraction
        self._app_budget.notify()

    def report(self, throttle: Throttle | None = None) -> BudgetReport:
        """The state of the budget now. `throttle` adds the throttle of one kind of call."""
        now = self.clock.monotonic()
        first_free_s = self._all.first_free_s(now)
        throttles = self._throttles if throttle is None else (*self._throttles, throttle)
        longest = max(throttles, key=lambda one: one.stopped_s())
        stopped_s, slowed_s = longest.stopped_s(), self.slowed_s()
        return BudgetReport(
            allowance=self._shares.allowance,
            used=self._all.used(now),
            waiting=len(self._queue),
            resets_at=None if first_free_s is None else self._in_ms(first_free_s),
            paused_until=self._in_ms(stopped_s) if stopped_s else None,
            reason=longest.reason if stopped_s else None,
            slowness=self.slowness,
            slowed_until=self._in_ms(slowed_s) if slowed_s else None,
            free_at=self._free_at(),
            unreachable_since=self._host.open_since,
        )

    def _free_at(self) -> int | None:
        wait_s = self._allowance_s(Priority.LIVE)
        return None if wait_s <= 0 or math.isinf(wait_s) else self._in_ms(wait_s)

    def _in_ms(self, seconds: float) -> int:
        return self.clock.now_ms() + int(seconds * 1000)

    def backfill_free(self) -> int:
        """The number of calls that backfill may make now."""
        return self.free_for(Priority.BACKFILL)

    @property
    def backfill_allowance(self) -> int:
        """The number of calls per hour that backfill may make when there are no other calls."""
        return self.allowance_for(Priority.BACKFILL)

    def allowance_for(self, priority: Priority) -> int:
        """The number of calls per hour that work of this priority may make when there are no other calls."""
        if priority <= Priority.LIVE:
            return self._shares.allowance
        return self._shares.reconciliation if priority is Priority.RECONCILIATION else self._shares.background

    def free_for(self, priority: Priority) -> int:
        """The number of calls that work of this priority may make now."""
        now = self.clock.monotonic()
        return max(0, min(limit - window.used(now) for window, limit in self._limits(priority)))

    def wait_s(self, throttle: Throttle | None = None, priority: Priority = Priority.BACKFILL) -> float:
        """Seconds until work of this priority may call, as far as is known; 0 when it may call now."""
        stops = [one.stopped_s() for one in self._throttles] + ([throttle.stopped_s()] if throttle is not None else [])
        allowance_s = self._allowance_s(priority)
        return max(*stops, 0.0 if math.isinf(allowance_s) else allowance_s)

    async def _turn(self, ticket: _Ticket, ready: Callable[[], object]) -> None:
        """Wait until it is the turn of this ticket and a call may be made. The call is then marked as under way."""
        give_up_at = self.clock.monotonic() + PATIENCE_S if ticket.interactive else math.inf
        bisect.insort(self._queue, ticket)
        self._host.waits(self.account_id, 1)
        try:
            while True:
                ready()
                while (wait_s := self._wait_s(ticket)) > 0:
                    left_s = give_up_at - self.clock.monotonic()
                    if left_s <= 0 or (math.isfinite(wait_s) and wait_s > left_s):
                        raise self._busy(wait_s)
                    await self._app_budget.wait(min(wait_s, left_s))
                    ready()
                await self._pace.acquire()
                if self._wait_s(ticket) <= 0:
                    break
            for window in self._windows(ticket.priority):
                window.begin()
            self._last_at = self.clock.monotonic()
            self._host.goes(self.account_id)
        finally:
            self._queue.remove(ticket)
            self._host.waits(self.account_id, -1)
            self._app_budget.notify()

    def _busy(self, wait_s: float) -> GraphError:
        """The error for an interactive call that cannot be made in time, with the reason."""
        report = self.report()
        until = f"before {iso_utc(self._in_ms(wait_s))}" if math.isfinite(wait_s) else "now"
        why = report.reason or f"{report.used} of {report.allowance} calls of this hour are used"
        return GraphError(f"no call can be made {until}: {why}", FailureAction.WAIT_FOR_BUDGET)

    def _wait_s(self, ticket: _Ticket) -> float:
        ahead = itertools.takewhile(lambda other: other != ticket, self._queue)
        if not all(other.held_back or self._share_is_used(other) for other in ahead):
            return math.inf
        pause_s = self._last_at + self._interval_s * self.slowness - self.clock.monotonic()
        # The usual pace is kept by the limiter.
        slowed_s = pause_s if self.slowness > 1 and not ticket.interactive else 0.0
        yield_s = 0.0 if ticket.interactive else self._host.yield_s(self.account_id)
        return max(
            self._allowance_s(ticket.priority), slowed_s, yield_s, *(throttle.wait_s() for throttle in ticket.throttles)
        )

    def _allowance_s(self, priority: Priority) -> float:
        """Seconds until the hour has room for a call; infinite when that depends on a call that is under way."""
        now = self.clock.monotonic()
        return max(window.room_in_s(limit, now) for window, limit in self._limits(priority))

    def _limits(self, priority: Priority) -> list[tuple[CallWindow, int]]:
        """The windows that must have room for a call, each with its limit. A live call only needs the whole hour's."""
        shares = self._shares
        whole = (self._all, shares.allowance)
        if priority <= Priority.LIVE:
            return [whole]
        without_live = (self._all, shares.allowance - shares.live)
        if priority is Priority.RECONCILIATION:
            return [without_live, (self._reconciling, shares.reconciliation)]
        return [without_live, (self._others, shares.background)]

    def _windows(self, priority: Priority) -> tuple[CallWindow, CallWindow]:
        """Where a call counts."""
        return self._all, self._reconciling if priority is Priority.RECONCILIATION else self._others

    def _share_is_used(self, ticket: _Ticket) -> bool:
        """Whether it waits only for its own share. Calls behind it in the queue do not wait for that."""
        if ticket.priority is not Priority.RECONCILIATION:
            return False
        return self._reconciling.room_in_s(self._shares.reconciliation, self.clock.monotonic()) > 0

    @property
    def slowness(self) -> float:
        """How many times longer than usual the pause between two calls is."""
        return max(throttle.slowness for throttle in self._throttles)

    def slowed_s(self) -> float:
        """Seconds until calls are no longer slowed, if Meta says nothing new."""
        return max(throttle.slowed_s() for throttle in self._throttles)
