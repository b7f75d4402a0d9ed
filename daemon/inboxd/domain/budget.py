"""What a budget is about: who goes first, and what a stop is."""

from enum import IntEnum
from typing import Final, NamedTuple

APP_SCOPE: Final = "app"
"""The scope of a stop that holds for all accounts; every other scope is an account's id."""


class Priority(IntEnum):
    """Who goes first when several calls wait."""

    LIVE = 0
    """Somebody has just written, or the account itself needs looking after."""
    BACKFILL = 1


class Stop(NamedTuple):
    """A stop of calls, as it is kept over a restart."""

    remaining_s: float
    strikes: int
    """How often calls were stopped since the last success."""
    reason: str
