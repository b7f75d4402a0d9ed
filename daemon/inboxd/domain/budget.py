"""What a budget is about: who goes first, what a stop is, and how it all stands."""

from enum import IntEnum
from typing import Final, NamedTuple

APP_SCOPE: Final = "app"
"""The scope of a stop that holds for all accounts; every other scope is an account's id."""


class Priority(IntEnum):
    """Who goes first when several calls wait."""

    INTERACTIVE = -1
    """A person waits for the answer, in front of a terminal or a browser. It does not wait long: it fails instead."""
    LIVE = 0
    """Somebody has just written, or the account itself needs looking after."""
    BACKFILL = 1


class Stop(NamedTuple):
    """A stop of calls, as it is kept over a restart."""

    remaining_s: float
    strikes: int
    """How often calls were stopped since the last success."""
    reason: str


def times_slower(slowness: float) -> str:
    """A slow-down in words: `1.7 times slower`, `25 times slower`."""
    return f"{slowness:.{1 if slowness < 10 else 0}f} times slower"


class BudgetReport(NamedTuple):
    """How an account's budget stands. Times are milliseconds since the epoch, UTC."""

    allowance: int
    used: int
    waiting: int
    resets_at: int | None
    """When the earliest counted call leaves the hour; None when none is counted."""
    paused_until: int | None
    reason: str | None
    slowness: float
    """How many times longer than usual the pause between two calls is, because of Meta's usage headers."""
    slowed_until: int | None = None
    """Until when that holds if Meta says nothing new; None when nothing is slowed."""
    free_at: int | None = None
    """When the hour has room for a live call again; None when it has."""
    unreachable_since: int | None = None
    """Since when Meta's host has not answered; None while it does."""

    @property
    def remaining(self) -> int:
        """Calls that may still be made within the hour."""
        return max(0, self.allowance - self.used)
