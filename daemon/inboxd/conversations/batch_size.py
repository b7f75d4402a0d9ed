"""How many events fit into a transaction of a given length."""

from typing import Final

_SHARE: Final = 0.2
"""The weight of the latest transaction in the average."""
_FIRST_GUESS_S: Final = 100e-6
_DEAREST_S: Final = 1e-3
"""The most that an event is taken to cost: one slow commit must not make all later transactions small."""


class BatchSize:
    """Estimates how long the writer takes for an event. A transaction has `smallest` to `largest` events."""

    def __init__(self, *, smallest: int, largest: int) -> None:
        self._smallest = smallest
        self._largest = largest
        self._event_s = _FIRST_GUESS_S

    def fitting(self, seconds: float) -> int:
        """How many events fit into a transaction of so many seconds."""
        return int(min(max(seconds / self._event_s, self._smallest), self._largest))

    def took(self, events: int, seconds: float) -> None:
        """Note how long a transaction took. With few events most of it is fixed cost; larger ones correct that."""
        if events:
            self._event_s += (min(max(seconds / events, 1e-6), _DEAREST_S) - self._event_s) * _SHARE
