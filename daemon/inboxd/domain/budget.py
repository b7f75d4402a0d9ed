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
    RECONCILIATION = 1
    """Looks for messages that no webhook brought. It has a share of the hour of its own."""
    HISTORY = 2
    """Imports the messages from before the account was connected."""
    BACKFILL = 3


LIVE_SHARE: Final = 5
"""One call in this many is reserved for live work: nothing else uses it."""
RECONCILIATION_SHARE: Final = 0.20
"""The part of the hour that reconciliation may use, and that history and backfill leave to it."""


class Shares(NamedTuple):
    """How the calls of one hour are divided. Live calls may use all of them.

    Live calls can also use what reconciliation has not used, because they wait for nothing. Everything else leaves
    `live` calls to them, and history and backfill also leave `kept` calls to reconciliation.
    """

    allowance: int
    """All calls of one hour."""
    live: int
    """Calls that only live work may use."""
    reconciliation: int
    """The most calls that reconciliation may make."""
    kept: int
    """Calls that history and backfill leave to reconciliation."""

    @property
    def background(self) -> int:
        """The most calls that history and backfill may make together."""
        return self.allowance - self.live - self.kept


def divided(allowance: int, reconciliation_share: float = RECONCILIATION_SHARE) -> Shares:
    """The shares of `allowance` calls. Each kind of work gets at least one call of an hour that has more than one.

    `reconciliation_share` is a fraction from 0 to 1. 0 keeps nothing for reconciliation; a single call is still
    allowed. Raises ValueError for other values.
    """
    if not 0 <= reconciliation_share <= 1:
        msg = f"the share of reconciliation must be between 0 and 1, and is {reconciliation_share}"
        raise ValueError(msg)
    live = min(-(-allowance // LIVE_SHARE), allowance - 1)
    most = allowance - live
    share = min(int(allowance * reconciliation_share), most)
    return Shares(allowance, live, max(share, 1), min(share, most - 1))


class Stop(NamedTuple):
    """A stop of calls, as it is stored for a restart. `remaining_s` in seconds."""

    remaining_s: float
    strikes: int
    """How often calls were stopped since the last success."""
    reason: str
    code: int | None = None
    """Meta's code of the error that caused it, if one did."""
    subcode: int | None = None


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
