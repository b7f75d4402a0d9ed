"""How many events fit into a transaction of a given length."""

from typing import Final

_SHARE: Final = 0.2
"""Weight of the latest transaction in the average."""
_FIRST_GUESS_S: Final = 100e-6
_DEAREST_S: Final = 1e-3
"""No event is taken to cost more: one stall must not make every later transaction a small one."""


class BatchSize:
    """Follows what an event costs the writer. A transaction has `smallest` to `largest` events."""

    def __init__(self, *, smallest: int, largest: int) -> None:
        self._smallest = smallest
        self._largest = largest
        self._event_s = _FIRST_GUESS_S

    def fitting(self, seconds: float) -> int:
        """How many events a transaction that takes so long has."""
        return int(min(max(seconds / self._event_s, self._smallest), self._largest))

    def took(self, events: int, seconds: float) -> None:
        """A transaction of so many events took so long. Of few events most is fixed cost: larger ones correct it."""
        if events:
            self._event_s += (min(max(seconds / events, 1e-6), _DEAREST_S) - self._event_s) * _SHARE
