"""Counts calls in a rolling window, as a server with an unknown clock counts them.

A call counts from its start until `window_s` after its *end*: the server counted it at some moment in between. So no
window of the server has more calls than were allowed here.
"""

import math
from collections import deque
from collections.abc import Iterable


class CallWindow:
    """The calls of the last `window_s`. All times are seconds of one monotonic clock, and never go back."""

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._ended: deque[float] = deque()
        self._under_way = 0

    def restore(self, ended: Iterable[float]) -> None:
        """Replace the ended calls by these, earliest first."""
        self._ended = deque(ended)

    def begin(self) -> None:
        """A call begins."""
        self._under_way += 1

    def end(self, now: float, *, counts: bool = True) -> None:
        """A call ended. A call that was not made does not count any longer."""
        self._under_way -= 1
        if counts:
            self._ended.append(now)

    @property
    def latest(self) -> float:
        """When the latest call ended; minus infinity when none is known."""
        return self._ended[-1] if self._ended else -math.inf

    def used(self, now: float) -> int:
        """The number of calls that count, with those under way."""
        self._forget(now)
        return len(self._ended) + self._under_way

    def first_free_s(self, now: float) -> float | None:
        """Seconds until the earliest ended call no longer counts; None when there is none."""
        self._forget(now)
        return self._ended[0] + self._window_s - now if self._ended else None

    def room_in_s(self, limit: int, now: float) -> float:
        """Seconds until fewer than `limit` calls count; infinite when that depends on a call that is under way."""
        too_many = self.used(now) - limit + 1
        if too_many <= 0:
            return 0.0
        if too_many > len(self._ended):
            return math.inf
        return self._ended[too_many - 1] + self._window_s - now

    def _forget(self, now: float) -> None:
        # The same arithmetic as above: rounding must not make a call count here and not there.
        while self._ended and self._ended[0] + self._window_s - now <= 0:
            self._ended.popleft()
