"""Decides what a reconciliation lists, reads and says: pure rules. Times are milliseconds since the epoch, UTC.

A reconciliation compares the Conversations API with what webhooks brought, and adds what they did not bring.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final

import msgspec

from inboxd.domain.clock_trust import is_believable

MINUTE_MS: Final = 60_000
HOUR_MS: Final = 3_600_000
OVERLAP_MS: Final = 5 * MINUTE_MS
"""What changed so shortly before the newest known change is listed again: the API shows new messages with a delay."""
SETTLED_MS: Final = MINUTE_MS
"""A conversation that changed less than this before it was read is read once more: the API may not show all of it."""
FIRST_REACH_MS: Final = 24 * HOUR_MS
"""The first check of an account looks back so far, but not behind the moment since which the account is served."""
LONGEST_PAUSE_MS: Final = HOUR_MS
"""The longest time between two checks of an account on which nothing happens."""
SOON_MS: Final = 5_000
"""Delay of a check after a restart, an outage or a lost subscription: what Meta sends again comes first."""
CLOSEST_MS: Final = MINUTE_MS
"""Checks that something other than the schedule asks for are at least this far apart."""
FIRST_RETRY_MS: Final = MINUTE_MS
LONGEST_RETRY_MS: Final = 6 * HOUR_MS
LONGEST_WAIT_MS: Final = 26 * HOUR_MS
"""What is due later than this is due now. Meta's longest stop that is believed is 25 hours."""
GAP_MARGIN_MS: Final = MINUTE_MS
"""How much earlier and later than a gap a message may have been sent and still be missed because of it."""
UNSERVED_MESSAGES: Final = 5
"""After so many messages in a row that Meta did not deliver, and no reason for it, the account is subscribed again."""
UNSERVED_MS: Final = 30 * MINUTE_MS
"""The same after fewer, if so much time is between the first of them and the last."""
RENEW_AFTER_MS: Final = 24 * HOUR_MS
"""At most once in this time."""
_MOST_DOUBLINGS: Final = 20


class Cause(StrEnum):
    """Why a webhook did not bring a message, as far as can be told."""

    SUBSCRIPTION_LOST = "subscription_lost"
    """The account was not subscribed at that time."""
    DOWN = "down"
    """The daemon did not run at that time."""
    COMPANIONS_ONLY = "companions_only"
    """Only the edit that accompanies the message arrived: the webhook field `messages` is not ticked."""
    NOT_DELIVERED = "not_delivered"
    """Meta did not deliver it, and nothing here explains it."""


class Gap(msgspec.Struct, frozen=True):
    """A time in which webhooks could not arrive, and why."""

    cause: Cause
    since: int
    until: int

    def covers(self, at: int) -> bool:
        """Whether a message of this time may be missing because of the gap."""
        return self.since - GAP_MARGIN_MS <= at <= self.until + GAP_MARGIN_MS


def likely_cause(sent_at: int, gaps: Iterable[Gap], *, accompanied: bool) -> Cause:
    """Why no webhook brought a message. `accompanied`: the edit that accompanies it did arrive."""
    if accompanied:
        return Cause.COMPANIONS_ONLY
    found = {gap.cause for gap in gaps if gap.covers(sent_at)}
    for cause in (Cause.SUBSCRIPTION_LOST, Cause.DOWN):
        if cause in found:
            return cause
    return Cause.NOT_DELIVERED


class Walk(msgspec.Struct, frozen=True):
    """A walk through a list that should have the newest first, down to `floor`.

    The order is promised nowhere, so it is checked on each page. Where it does not hold, only the whole list will do.
    """

    floor: int
    """What is older was looked at before."""
    newest: int | None = None
    oldest: int | None = None
    """The oldest time so far. Later items must not be newer."""
    ordered: bool = True
    pages: int = 0

    def with_page(self, times: Sequence[int | None]) -> "Walk":
        """The walk after one more page, whose items have these times. An item without a time breaks the order."""
        newest, oldest, ordered = self.newest, self.oldest, self.ordered
        for at in times:
            if at is None or (oldest is not None and at > oldest):
                ordered = False
            if at is not None:
                newest = at if newest is None else max(newest, at)
                oldest = at if oldest is None else min(oldest, at)
        return msgspec.structs.replace(self, newest=newest, oldest=oldest, ordered=ordered, pages=self.pages + 1)

    @property
    def reached(self) -> bool:
        """Whether everything newer than `floor` was seen, if the rest of the list is ordered as its beginning."""
        return self.ordered and self.oldest is not None and self.oldest < self.floor


def floor_of(checked_to: int) -> int:
    """Down to which time conversations are listed, when all that changed up to `checked_to` was listed before."""
    return checked_to - OVERLAP_MS


def first_mark(now: int, served_since: int) -> int:
    """Where the first check of an account begins: a whole second, as the API has them.

    What is older is for the history import. A moment of the future is from a clock that was wrong.
    """
    return max(served_since if served_since <= now else 0, now - FIRST_REACH_MS) // 1000 * 1000


def is_from_wrong_clock(at: int, now: int) -> bool:
    """Whether our clock was ahead when it said that something happened, or is due, at `at`. Nothing waits so long."""
    return at > now + LONGEST_WAIT_MS


def is_known_by(updated_time: int | None, now: int) -> bool:
    """Whether a conversation can have changed at this time, if it is `now`. What lies far in the future is no time."""
    return updated_time is not None and is_believable(updated_time, now, None)


def read_to(updated_time: int, read_at: int) -> int:
    """Up to which change a conversation is known, when it was read at `read_at` and had last changed at `updated_time`.

    A time far in the future is none that waiting could reach: it is taken as it is.
    """
    if updated_time > read_at + OVERLAP_MS:
        return updated_time
    return min(updated_time, read_at - SETTLED_MS)


def walk_pause(pages: int, calls_per_hour: int) -> int:
    """How long not to walk a whole list again that is in no order and has so many pages (ms).

    Such walks take at most half of reconciliation's calls.
    """
    return pages * HOUR_MS * 2 // max(1, calls_per_hour)


def check_pause(every_ms: int, quiet_checks: int) -> int:
    """How long until the next check (ms), after so many checks in a row that found nothing new at all."""
    longest = max(every_ms, LONGEST_PAUSE_MS)
    return min(longest, every_ms << min(max(0, quiet_checks - 1), _MOST_DOUBLINGS))


def retry_pause(attempts: int) -> int:
    """How long until what failed so many times in a row is tried again (ms)."""
    return min(LONGEST_RETRY_MS, FIRST_RETRY_MS << min(max(0, attempts - 1), _MOST_DOUBLINGS))
