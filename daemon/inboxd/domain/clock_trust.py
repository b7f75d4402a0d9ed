"""Decides whether our wall clock is right before old rows are removed, and whether a time from Meta is believable.

A machine can start with a clock that is a year ahead. Then all rows that are kept for half a year would be removed
within a minute. So reading the clock once is not enough. It is compared with three known facts: its time when it was
last believed (kept over restarts), the time that has passed since then by the monotonic clock, and the time of the
newest message, which is from Meta's clock and not from ours.
"""

from typing import Final, NamedTuple

MAX_JUMP_MS: Final = 86_400_000
"""A clock that is further ahead of the known time than this is doubted."""
CONFIRM_S: Final = 86_400.0
"""A doubted clock is believed after it has run for this long, unless messages contradict it."""
_MAX_DRIFT_MS: Final = 3_600_000
"""A doubted clock that differs from the monotonic clock by more than this was set: the doubt starts again."""


MAX_AHEAD_MS: Final = 86_400_000
"""A time from Meta that is further ahead of our clock than this is not believed, unless our clock is behind."""
_MAX_BEHIND_MS: Final = 366 * 86_400_000
"""Our clock cannot be further behind than this, unless it was never set; see UNSET_BEFORE."""
UNSET_BEFORE: Final = 1_735_689_600_000
"""The beginning of 2025. No inboxd existed before, so a clock with an earlier time was not set since the boot."""


def is_believable(told: int, received_at: int, sent_at: int | None) -> bool:
    """Whether an event that arrived at `received_at` by our clock can have happened at the time `told`. Times in ms.

    A message from the year 2090 would be the first in the inbox for ever. But our clock may be behind, and then Meta's
    is right. This is assumed when Meta's time of the entry (`sent_at`) is also ahead of our clock and agrees with
    `told`. Even then `told` may be at most a year ahead, unless our clock was never set.
    """
    if told <= received_at + MAX_AHEAD_MS:
        return True
    behind = sent_at is not None and received_at + MAX_AHEAD_MS < sent_at and told <= sent_at + MAX_AHEAD_MS
    return behind and (received_at < UNSET_BEFORE or told <= received_at + _MAX_BEHIND_MS)


class _Doubt(NamedTuple):
    """When a doubt began, by the monotonic clock (s) and the wall clock (ms), and the newest message then (ms)."""

    at: float
    now: int
    heard_at: int | None


class ClockTrust:
    """Judges the wall clock at each look. `known_at` (ms) is its time when it was last believed; None: never."""

    def __init__(self, known_at: int | None) -> None:
        self.known_at = known_at
        self._since: float | None = None
        self._doubt: _Doubt | None = None

    @property
    def doubted(self) -> bool:
        """Whether the last look did not believe the clock."""
        return self._doubt is not None

    def look(self, now: int, monotonic: float, heard_at: int | None) -> bool:
        """Whether `now` (ms) is believed. `monotonic` in s; `heard_at` (ms) is Meta's time of the newest message."""
        latest = self._latest(monotonic, heard_at)
        if latest is None or now <= latest + MAX_JUMP_MS or self._confirmed(now, monotonic, heard_at):
            self.known_at, self._since, self._doubt = now, monotonic, None
            return True
        return False

    def _latest(self, monotonic: float, heard_at: int | None) -> int | None:
        """The latest time (ms) that the known facts allow. None when no fact is known."""
        known: list[int] = [] if heard_at is None else [heard_at]
        if self.known_at is not None:
            passed_s = 0.0 if self._since is None else max(0.0, monotonic - self._since)
            known.append(self.known_at + int(passed_s * 1000))
        return max(known, default=None)

    def _confirmed(self, now: int, monotonic: float, heard_at: int | None) -> bool:
        """Whether a doubted clock has run for long enough, and no message contradicts it."""
        doubt = self._doubt
        if doubt is None or abs(now - doubt.now - (monotonic - doubt.at) * 1000) > _MAX_DRIFT_MS:
            self._doubt = _Doubt(monotonic, now, heard_at)
            return False
        if heard_at is not None and heard_at > (doubt.heard_at or 0):
            return False  # messages arrive, and Meta's clock is far behind ours, so ours is wrong
        return monotonic - doubt.at >= CONFIRM_S
