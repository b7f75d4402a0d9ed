"""Meta's time, as the `Date` of its latest answer tells it: our own time of day may be wrong by any amount."""

from email.utils import parsedate_to_datetime

from inboxd.runtime.clock import Clock


class MetaClock:
    """Goes on with the monotonic clock from the latest answer. It may be seconds behind Meta's, and is never ahead."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ahead_ms: float | None = None
        """By how much it is ahead of the monotonic clock."""

    def note(self, date: str | None) -> None:
        """Note the `Date` of an answer that just arrived. What is no date is ignored."""
        try:
            told_ms = parsedate_to_datetime(date or "").timestamp() * 1000
        except (ValueError, OverflowError):
            return
        self._ahead_ms = told_ms - self._clock.monotonic() * 1000

    def now_ms(self) -> int | None:
        """Meta's time (ms). None while it has not told it."""
        return None if self._ahead_ms is None else int(self._clock.monotonic() * 1000 + self._ahead_ms)
