"""Counts how many deliveries arrived in each of the latest minutes."""

from collections import deque
from typing import Final

MINUTES: Final = 60
MINUTE_MS: Final = 60_000


class Arrivals:
    """Counts per minute, for the latest hour."""

    def __init__(self) -> None:
        self._counts: deque[tuple[int, int]] = deque(maxlen=MINUTES)

    def add(self, at: int, count: int) -> None:
        """Count `count` deliveries that arrived at `at` (ms)."""
        minute = at // MINUTE_MS
        if self._counts and self._counts[-1][0] >= minute:
            latest, before = self._counts[-1]
            self._counts[-1] = (latest, before + count)
        else:
            self._counts.append((minute, count))

    def by_minute(self, now: int) -> list[int]:
        """The counts of the latest MINUTES minutes up to `now` (ms), the oldest first."""
        known = dict(self._counts)
        last = now // MINUTE_MS
        return [known.get(minute, 0) for minute in range(last - MINUTES + 1, last + 1)]
