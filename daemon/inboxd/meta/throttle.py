"""Throttles: they slow down and stop Graph calls.

There is one for each account (when Meta throttles the account), one for the app (when Meta throttles all accounts), and
one for each host (when it does not answer). All work in the same way. A call waits for all that apply to it.
"""

import math
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from inboxd.domain.budget import Stop
from inboxd.domain.call_window import CallWindow
from inboxd.runtime.clock import Clock

SLOW_FROM: Final = 70.0
STOP_FROM: Final = 95.0
"""Percent of Meta's allowance. Calls become slower and slower from SLOW_FROM on, and stop at STOP_FROM."""
USAGE_HOLDS_S: Final = 3600.0
"""A usage percentage is forgotten after this time, because Meta's windows are one hour."""
FIRST_STOP_S: Final = 60.0
LONGEST_STOP_S: Final = 3600.0
FAILURES_TO_OPEN: Final = 5
FIRST_REST_S: Final = 5.0
YIELD_S: Final = 1.0
LONGEST_REST_S: Final = 30.0
"""With the probe and the first call after it, all accounts make calls again within a minute of the host's return."""

Codes = tuple[int | None, int | None]
"""Meta's code and subcode of an error."""
NO_CODES: Final[Codes] = (None, None)


class Throttle:
    """Stops calls for some time, then lets through one at a time until one succeeds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = -math.inf
        self._under_way = 0
        self._percent = 0.0
        self._percent_at = -math.inf
        self.strikes = 0
        """The number of stops since the last success."""
        self.reason: str | None = None
        self._codes = NO_CODES
        """Meta's code and subcode of the error that caused the stop."""

    def trip(self, seconds: float, reason: str, codes: Codes = NO_CODES) -> None:
        """Stop for `seconds`, because of an error with these codes. A longer stop that has already begun stays."""
        self._until = max(self._until, self._clock.monotonic() + seconds)
        self.strikes += 1
        self.reason = reason
        self._codes = codes

    def trip_longer(
        self,
        reason: str,
        codes: Codes = NO_CODES,
        *,
        first_s: float = FIRST_STOP_S,
        longest_s: float | None = None,
    ) -> None:
        """Stop when no length is given: twice as long each time, until a success. `codes` as for `trip`.

        The longest stop is one hour or 24 times `first_s`, whichever is longer, unless `longest_s` is given.
        """
        longest_s = max(LONGEST_STOP_S, first_s * 24) if longest_s is None else longest_s
        self.trip(min(first_s * 2.0 ** min(self.strikes, 16), longest_s), reason, codes)

    def reset(self) -> None:
        """End the stop: its cause is over."""
        self._until = -math.inf
        self.strikes = 0
        self.reason = None
        self._codes = NO_CODES

    def note_usage(self, percent: float) -> None:
        """Note the percentage of its allowance that Meta reports as used."""
        self._percent, self._percent_at = percent, self._clock.monotonic()

    @property
    def slowness(self) -> float:
        """How many times longer than usual the pause between two calls should be; 1 when usage is low."""
        if not self._usage_holds_s():
            return 1.0
        pressed = (min(self._percent, STOP_FROM - 0.5) - SLOW_FROM) / (STOP_FROM - SLOW_FROM)
        return 1.0 if pressed <= 0 else 1.0 / (1.0 - pressed)

    def slowed_s(self) -> float:
        """Seconds until calls are no longer slowed, if Meta says nothing new; 0 when they are not."""
        return self._usage_holds_s() if self.slowness > 1 else 0.0

    def _usage_holds_s(self) -> float:
        return max(0.0, self._percent_at + USAGE_HOLDS_S - self._clock.monotonic())

    def wait_s(self) -> float:
        """Seconds until a call may be made; infinite while another call tests whether the cause is over."""
        remaining = self.stopped_s()
        if remaining > 0:
            return remaining
        return math.inf if self.strikes and self._under_way else 0.0

    def stopped_s(self) -> float:
        """Seconds until the stop ends; 0 when there is none."""
        return max(0.0, self._until - self._clock.monotonic())

    def stop(self) -> Stop | None:
        """The stop to store, or None. An expired stop is included until a call has succeeded."""
        return None if self.reason is None else Stop(self.stopped_s(), self.strikes, self.reason, *self._codes)

    def restore(self, stop: Stop) -> None:
        """Restore a stop from before a restart."""
        self._until = self._clock.monotonic() + stop.remaining_s
        self.strikes, self.reason, self._codes = stop.strikes, stop.reason, (stop.code, stop.subcode)

    def enter(self) -> None:
        """A call begins."""
        self._under_way += 1

    def leave(self) -> None:
        """A call ended."""
        self._under_way -= 1


class PacedThrottle(Throttle):
    """A throttle that also keeps a pace: at most `calls` in any `window_s`, wherever in a call Meta counts it."""

    def __init__(self, clock: Clock, *, calls: int, window_s: float) -> None:
        super().__init__(clock)
        self._calls = calls
        self._window = CallWindow(window_s)

    def fill(self) -> None:
        """Take it that all `calls` ended just now: what the process before this one did last is not known."""
        self._window.restore([self._clock.monotonic()] * self._calls)

    def wait_s(self) -> float:
        """Seconds until a call may be made; infinite when that depends on a call that is under way."""
        return max(super().wait_s(), self._window.room_in_s(self._calls, self._clock.monotonic()))

    def enter(self) -> None:
        """A call begins."""
        super().enter()
        self._window.begin()

    def leave(self) -> None:
        """A call ended."""
        super().leave()
        self._window.end(self._clock.monotonic())


class Circuit(Throttle):
    """The circuit breaker of a host: several failures in a row stop calls to it, for longer each time.

    `probe` calls the host without using any account's budget, and raises when the host does not answer.
    """

    def __init__(self, clock: Clock, probe: Callable[[], Awaitable[None]] | None = None) -> None:
        super().__init__(clock)
        self._probe = probe
        self._failures = 0
        self._failing_since = 0
        self._latest: str | None = None
        self._waiting: Counter[str] = Counter()

    def failed(self, reason: str) -> None:
        """Note that the host did not answer, or not in Meta's format."""
        if not self._failures:
            self._failing_since = self._clock.now_ms()
        self._failures += 1
        if self._failures >= FAILURES_TO_OPEN and self.stopped_s() == 0:
            self.trip_longer(reason, first_s=FIRST_REST_S, longest_s=LONGEST_REST_S)

    def answered(self) -> None:
        """Note that Meta answered, also with an error."""
        self._failures = 0
        if self.strikes:
            self.reset()

    @property
    def open_since(self) -> int | None:
        """When the first of the failures that opened the circuit happened (ms); None while it is closed."""
        return self._failing_since if self.strikes else None

    def waits(self, account_id: str, more: int) -> None:
        """Add `more` to the number of calls of an account that wait for any reason."""
        self._waiting[account_id] += more
        if self._waiting[account_id] <= 0:
            del self._waiting[account_id]

    def goes(self, account_id: str) -> None:
        """Note that a call of this account is sent to the host."""
        self._latest = account_id

    def yield_s(self, account_id: str) -> float:
        """Seconds for which this account lets others test whether the host is back; 0 when it need not wait.

        The account whose test failed last waits. If only its own calls fail, the others can go on in this way.
        """
        if not self.strikes or self._latest != account_id or self._waiting.keys() <= {account_id}:
            return 0.0
        return max(0.0, self._until + YIELD_S - self._clock.monotonic())

    async def find_out(self) -> None:
        """Probe the host if the circuit is open. Raises what the probe raises."""
        if self.strikes and self._probe is not None:
            await self._probe()
