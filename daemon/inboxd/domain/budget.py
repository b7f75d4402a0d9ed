"""The types of the call budget: the priority of calls, a stop of calls, and the report on a budget."""

from enum import IntEnum
from typing import Final, NamedTuple

APP_SCOPE: Final = "app"
"""The scope of a stop that holds for all accounts. Every other scope is an account's id."""


class Priority(IntEnum):
    """The order of calls that wait: the lowest number goes first."""

    INTERACTIVE = -1
    """A person waits for the answer at a terminal or in a browser. Such a call does not wait long: it fails instead."""
    LIVE = 0
    """A participant has just written, or the account itself needs a call."""
    BACKFILL = 1


class Stop(NamedTuple):
    """A stop of calls, as it is stored for a restart. `remaining_s` in seconds."""

    remaining_s: float
    strikes: int
    """How often calls were stopped since the last success."""
    reason: str


def times_slower(slowness: float) -> str:
    """A slow-down in words: `1.7 times slower`, `25 times slower`."""
    return f"{slowness:.{1 if slowness < 10 else 0}f} times slower"


class BudgetReport(NamedTuple):
    """The state of an account's budget. Times are milliseconds since the epoch, UTC."""

    allowance: int
    used: int
    waiting: int
    resets_at: int | None
    """When the earliest counted call is an hour old and no longer counts. None when no call is counted."""
    paused_until: int | None
    reason: str | None
    slowness: float
    """How many times longer than usual the pause between two calls is, because of Meta's usage headers."""
    slowed_until: int | None = None
    """Until when `slowness` holds if Meta sends no new headers. None when calls are not slowed."""
    free_at: int | None = None
    """When a live call is allowed again. None when it is allowed now."""
    unreachable_since: int | None = None
    """Since when Meta's host has not answered. None while it answers."""

    @property
    def remaining(self) -> int:
        """Calls that may still be made in the current hour."""
        return max(0, self.allowance - self.used)
