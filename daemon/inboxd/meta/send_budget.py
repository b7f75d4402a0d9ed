"""Limits the sends of one account. They are apart from its other calls, which Meta counts apart.

A send does not wait for the hour or the pace of profiles, history and reconciliation, and uses nothing of them. It does
wait while a throttle stops calls: of the host, of the app, of the account, or of sends alone. Nothing waits in here:
a message stays in the outbox until `wait_s` is 0, where it can be seen and canceled.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, NamedTuple

from inboxd.domain.budget import Stop
from inboxd.domain.call_window import CallWindow
from inboxd.meta.account_graph import AccountGraph
from inboxd.meta.budget import HOUR_S
from inboxd.meta.send_errors import SendFailure, send_row
from inboxd.meta.throttle import Throttle

_RESTRICTIONS: Final = frozenset({SendFailure.STOPPED, SendFailure.RESTRICTED})


class SendLimits(NamedTuple):
    """How much an account may send."""

    per_second: float
    per_hour: int
    private_replies_per_hour: int
    """Meta's limit is 750 for each account ("Rate limits"). It is not known where its hours begin."""


class SendReport(NamedTuple):
    """The state of the limits. Times are milliseconds since the epoch, UTC."""

    allowance: int
    used: int
    waits_until: int | None
    """Until when sends wait, as far as is known. None when they do not wait."""
    reason: str | None
    """Why they wait, as a sentence without its final dot."""


class Slot:
    """One send that is counted. `counts` is set to False while no call has been made, and when none was."""

    counts = True


class SendBudget:
    """The limits of one account's sends."""

    def __init__(self, graph: AccountGraph, limits: SendLimits) -> None:
        self.throttle = graph.sends_throttle
        """Stops sends alone."""
        self._graph = graph
        self._clock = graph.budget.clock
        self._hour, self._private = CallWindow(HOUR_S), CallWindow(HOUR_S)
        self.limit(limits)

    def limit(self, limits: SendLimits) -> None:
        """Use these from now on. What was sent already counts against the hours."""
        self.limits = limits
        self._at_once = max(1, int(limits.per_second))
        self._short = CallWindow(self._at_once / limits.per_second)

    def restore(self, ago_s: Iterable[tuple[float, bool]]) -> None:
        """Restore the sends of the last hour: how long ago each ended, and whether it was a private reply."""
        now = self._clock.monotonic()
        ended = sorted((now - min(max(ago, 0.0), HOUR_S), private) for ago, private in ago_s)
        self._hour.restore([at for at, _ in ended])
        self._private.restore([at for at, private in ended if private])

    def wait_s(self, *, private: bool = False) -> float:
        """Seconds until a send may be made; infinite when that depends on a call that is under way."""
        throttled = max(throttle.wait_s() for throttle in self._throttles())
        return max(throttled, self._pace_s(), *(self._room_s(window, most) for window, most in self._windows(private)))

    @contextmanager
    def slot(self, *, private: bool = False) -> Iterator[Slot]:
        """Count one send, from before its intent is stored until it has ended. Take it when `wait_s` is 0.

        A send counts also when it failed: Meta may have counted it.
        """
        slot = Slot()
        windows = [self._short, *(window for window, _ in self._windows(private))]
        throttles = self._throttles()
        for window in windows:
            window.begin()
        for throttle in throttles:
            throttle.enter()
        try:
            yield slot
        finally:
            now = self._clock.monotonic()
            for window in windows:
                window.end(now, counts=slot.counts)
            for throttle in throttles:
                throttle.leave()
            self._graph.budget.notify()

    def report(self) -> SendReport:
        """The state now."""
        now = self._clock.monotonic()
        stops = [(throttle.stopped_s(), throttle.reason) for throttle in self._throttles()]
        hour_s = self._room_s(self._hour, self.limits.per_hour)
        stops.append((hour_s, f"{self.limits.per_hour} sends of this hour are used"))
        longest_s, reason = max(stops, key=lambda stop: stop[0])
        waits = longest_s > 0 and math.isfinite(longest_s)
        return SendReport(
            allowance=self.limits.per_hour,
            used=self._hour.used(now),
            waits_until=self._clock.now_ms() + int(longest_s * 1000) if waits else None,
            reason=reason.rstrip(".") if waits and reason else None,
        )

    def restriction(self) -> Stop | None:
        """The stop by which Meta lets the account send nothing for hours, or until a person did something."""
        stops = [stop for stop in (throttle.stop() for throttle in self._throttles()) if stop is not None]
        found = [stop for stop in stops if stop.remaining_s > 0 and _is_restriction(stop)]
        return max(found, key=lambda stop: stop.remaining_s, default=None)

    def _throttles(self) -> Sequence[Throttle]:
        return (*self._graph.budget.throttles, self.throttle)

    def _windows(self, private: bool) -> list[tuple[CallWindow, int]]:  # noqa: FBT001 - private
        hour = [(self._hour, self.limits.per_hour)]
        return [*hour, (self._private, self.limits.private_replies_per_hour)] if private else hour

    def _pace_s(self) -> float:
        return self._room_s(self._short, self._at_once)

    def _room_s(self, window: CallWindow, most: int) -> float:
        return window.room_in_s(most, self._clock.monotonic())


def _is_restriction(stop: Stop) -> bool:
    return stop.code is not None and send_row(stop.code, stop.subcode).failure in _RESTRICTIONS
