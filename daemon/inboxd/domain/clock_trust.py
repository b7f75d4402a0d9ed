"""Whether the wall clock may be believed by those who remove what is old, and whether a time that Meta tells may be.

A machine can wake up with a clock that is a year ahead, and all that is kept for half a year would be gone in a minute.
So one look at the clock is not enough. It is compared with what is known: where it stood the last time it was believed
(kept over restarts), how long has passed since by the monotonic clock, and the time of the newest message, which is
Meta's clock and not ours.
"""

from typing import Final, NamedTuple

MAX_JUMP_MS: Final = 86_400_000
"""A clock that is this much later than what is known is doubted."""
CONFIRM_S: Final = 86_400.0
"""A doubted clock is believed after running on for this long, unless messages say otherwise."""
_MAX_DRIFT_MS: Final = 3_600_000
"""A doubted clock that leaves the monotonic one by this was set: the doubt begins anew."""


MAX_AHEAD_MS: Final = 86_400_000
"""A time of Meta's that is this much later than our clock is not believed, unless our clock is behind."""
_MAX_BEHIND_MS: Final = 366 * 86_400_000
"""A clock of ours that is further behind than this was never set; see UNSET_BEFORE."""
UNSET_BEFORE: Final = 1_735_689_600_000
"""The beginning of 2025, before which there was no inboxd: a clock that stands there was not set since the boot."""


def is_believable(told: int, received_at: int, sent_at: int | None) -> bool:
    """Whether something that arrived at `received_at`, by our clock, can have happened at the time `told` (ms).

    A message from the year 2090 would be the first in the inbox for ever. But our clock may be behind, and Meta's is
    right then: it is taken for that when Meta also says of the entry that it was sent later than our clock stands
    (`sent_at`), and agrees with itself. What both say is no more than a year later, unless our clock was never set.
    """
    if told <= received_at + MAX_AHEAD_MS:
        return True
    behind = sent_at is not None and received_at + MAX_AHEAD_MS < sent_at and told <= sent_at + MAX_AHEAD_MS
    return behind and (received_at < UNSET_BEFORE or told <= received_at + _MAX_BEHIND_MS)


class _Doubt(NamedTuple):
    """When a doubt began: by the monotonic clock (s) and the wall clock (ms), and the newest message by then."""

    at: float
    now: int
    heard_at: int | None


class ClockTrust:
    """Judges the wall clock, look by look. `known_at` (ms) is where it stood when it was last believed, if ever."""

    def __init__(self, known_at: int | None) -> None:
        self.known_at = known_at
        self._since: float | None = None
        self._doubt: _Doubt | None = None

    @property
    def doubted(self) -> bool:
        """Whether the last look found it hard to believe."""
        return self._doubt is not None

    def look(self, now: int, monotonic: float, heard_at: int | None) -> bool:
        """Whether `now` (ms) may be believed; `heard_at` is the time of the newest message by Meta's clock (ms)."""
        latest = self._latest(monotonic, heard_at)
        if latest is None or now <= latest + MAX_JUMP_MS or self._confirmed(now, monotonic, heard_at):
            self.known_at, self._since, self._doubt = now, monotonic, None
            return True
        return False

    def _latest(self, monotonic: float, heard_at: int | None) -> int | None:
        """The latest that it can be, as far as is known."""
        known: list[int] = [] if heard_at is None else [heard_at]
        if self.known_at is not None:
            passed_s = 0.0 if self._since is None else max(0.0, monotonic - self._since)
            known.append(self.known_at + int(passed_s * 1000))
        return max(known, default=None)

    def _confirmed(self, now: int, monotonic: float, heard_at: int | None) -> bool:
        """Whether a doubted clock has run on long enough, and nobody contradicts it."""
        doubt = self._doubt
        if doubt is None or abs(now - doubt.now - (monotonic - doubt.at) * 1000) > _MAX_DRIFT_MS:
            self._doubt = _Doubt(monotonic, now, heard_at)
            return False
        if heard_at is not None and heard_at > (doubt.heard_at or 0):
            return False  # messages arrive, and Meta's clock is far behind ours: ours is wrong
        return monotonic - doubt.at >= CONFIRM_S
