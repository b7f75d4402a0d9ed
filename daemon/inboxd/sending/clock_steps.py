"""Notices that the time of day was set back: what is due at a time of day would wait for that time to come again."""

from typing import Final

from inboxd.runtime.clock import Clock

SET_BACK_MS: Final = 1000
"""Less than this is no step."""


class ClockSteps:
    """Compares the time of day with the clock that only goes forward."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead_ms = self._ahead()

    def went_back(self) -> bool:
        """Whether the time of day was set back since this was last asked."""
        before, self._ahead_ms = self._ahead_ms, self._ahead()
        return before - self._ahead_ms > SET_BACK_MS

    def _ahead(self) -> float:
        return self._clock.now_ms() - self._clock.monotonic() * 1000
