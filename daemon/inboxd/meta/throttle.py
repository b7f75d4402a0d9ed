"""Throttles: what slows Graph calls down and stops them.

One stands before every call of an account (Meta throttles it), one before every call of the app (Meta throttles all
accounts), one before every call to a host (it does not answer). They work alike; a call waits for all of them.
"""

import math
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from inboxd.domain.budget import Stop
from inboxd.runtime.clock import Clock

SLOW_FROM: Final = 70.0
STOP_FROM: Final = 95.0
"""Percent of Meta's own allowance between which calls become slower and slower, and from which there are none."""
USAGE_HOLDS_S: Final = 3600.0
"""What Meta said of usage is forgotten after this: its windows are an hour."""
FIRST_STOP_S: Final = 60.0
LONGEST_STOP_S: Final = 3600.0
FAILURES_TO_OPEN: Final = 5
FIRST_REST_S: Final = 5.0
YIELD_S: Final = 1.0
LONGEST_REST_S: Final = 30.0
"""With the probe and the first call after it, everybody is asked again within a minute of the host's return."""


class Throttle:
    """Stops calls for a while, then lets one at a time through until one succeeds."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until = -math.inf
        self._under_way = 0
        self._percent = 0.0
        self._percent_at = -math.inf
        self.strikes = 0
        """How often it was pulled since the last success."""
        self.reason: str | None = None

    def trip(self, seconds: float, reason: str) -> None:
        """Stop for `seconds`; a longer stop that is already on stays."""
        self._until = max(self._until, self._clock.monotonic() + seconds)
        self.strikes += 1
        self.reason = reason

    def trip_longer(self, reason: str, *, first_s: float = FIRST_STOP_S, longest_s: float | None = None) -> None:
        """Stop, twice as long each time until a success, for whoever does not say how long.

        The longest is an hour or, for what starts long, 24 times its first.
        """
        longest_s = max(LONGEST_STOP_S, first_s * 24) if longest_s is None else longest_s
        self.trip(min(first_s * 2.0 ** min(self.strikes, 16), longest_s), reason)

    def reset(self) -> None:
        """Whatever it stopped for is over."""
        self._until = -math.inf
        self.strikes = 0
        self.reason = None

    def note_usage(self, percent: float) -> None:
        """Meta says that so much of its allowance is used up."""
        self._percent, self._percent_at = percent, self._clock.monotonic()

    @property
    def slowness(self) -> float:
        """How many times longer than usual the pause between two calls should be; 1 when nothing presses."""
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
        """Seconds until a call may go; infinite while another one is finding out."""
        remaining = self.stopped_s()
        if remaining > 0:
            return remaining
        return math.inf if self.strikes and self._under_way else 0.0

    def stopped_s(self) -> float:
        """Seconds until the stop ends; 0 when there is none."""
        return max(0.0, self._until - self._clock.monotonic())

    def stop(self) -> Stop | None:
        """The stop to remember, if there is one; also when it has run out but no call has succeeded since."""
        return None if self.reason is None else Stop(self.stopped_s(), self.strikes, self.reason)

    def restore(self, stop: Stop) -> None:
        """Take up a stop from before a restart."""
        self._until = self._clock.monotonic() + stop.remaining_s
        self.strikes, self.reason = stop.strikes, stop.reason

    def enter(self) -> None:
        """A call begins."""
        self._under_way += 1

    def leave(self) -> None:
        """A call ended."""
        self._under_way -= 1


class Circuit(Throttle):
    """The circuit breaker of a host: several failures in a row stop it, for longer each time.

    `probe` asks the host anything, at nobody's expense, and raises when it does not answer.
    """

    def __init__(self, clock: Clock, probe: Callable[[], Awaitable[None]] | None = None) -> None:
        super().__init__(clock)
        self._probe = probe
        self._failures = 0
        self._failing_since = 0
        self._latest: str | None = None
        self._waiting: Counter[str] = Counter()

    def failed(self, reason: str) -> None:
        """The host did not answer, or not as Meta does."""
        if not self._failures:
            self._failing_since = self._clock.now_ms()
        self._failures += 1
        if self._failures >= FAILURES_TO_OPEN and self.stopped_s() == 0:
            self.trip_longer(reason, first_s=FIRST_REST_S, longest_s=LONGEST_REST_S)

    def answered(self) -> None:
        """Meta answered, be it with an error."""
        self._failures = 0
        if self.strikes:
            self.reset()

    @property
    def open_since(self) -> int | None:
        """When the first of the failures was that opened it (ms); None while calls go through."""
        return self._failing_since if self.strikes else None

    def waits(self, account_id: str, more: int) -> None:
        """So many more calls of an account wait, for whatever."""
        self._waiting[account_id] += more
        if self._waiting[account_id] <= 0:
            del self._waiting[account_id]

    def goes(self, account_id: str) -> None:
        """A call of this account goes to the host."""
        self._latest = account_id

    def yield_s(self, account_id: str) -> float:
        """Seconds for which this account lets others find out whether the host is back; 0 when it need not.

        It was the latest that found out in vain. Should the trouble be its own, the others go on so.
        """
        if not self.strikes or self._latest != account_id or self._waiting.keys() <= {account_id}:
            return 0.0
        return max(0.0, self._until + YIELD_S - self._clock.monotonic())

    async def find_out(self) -> None:
        """Whether the host answers again, unless it is known to. Raises what the probe raises."""
        if self.strikes and self._probe is not None:
            await self._probe()
