"""How many events go into one transaction, so that it takes about as long as it may."""

from typing import Final

_SHARE: Final = 0.2
"""Weight of the latest transaction in the average."""


class BatchSize:
    """Follows what an event costs. A transaction should take `target_s`, and has `smallest` to `largest` events."""

    def __init__(self, target_s: float, *, smallest: int, largest: int) -> None:
        self._target_s = target_s
        self._smallest = smallest
        self._largest = largest
        self._event_s = target_s / max(smallest, largest // 8)

    @property
    def events(self) -> int:
        """How many events the next transaction may have."""
        return int(min(max(self._target_s / self._event_s, self._smallest), self._largest))

    def took(self, events: int, seconds: float) -> None:
        """A transaction of so many events took so long. Small ones tell little: most of their time is fixed cost."""
        if events >= self._smallest:
            self._event_s += (max(seconds / events, 1e-6) - self._event_s) * _SHARE
