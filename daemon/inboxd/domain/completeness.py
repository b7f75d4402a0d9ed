"""How complete an account's messages are, in numbers and in words. Times are milliseconds since the epoch, UTC."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

import msgspec

WINDOWS_H: Final = (24, 7 * 24, 30 * 24)
"""The hours that completeness is told of."""
FEW: Final = 10
"""Of fewer messages no share is judged."""
STALE_MS: Final = 2 * 3_600_000
"""An account that was not compared for so long is said. Checks are at most an hour apart."""
_WEEK_MS: Final = 7 * 86_400_000


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """The messages of the last `hours`."""

    hours: int
    existing: int
    """Messages that the Conversations API has listed."""
    delivered: int
    """Those that a webhook brought."""
    healed: int
    """Those that a reconciliation added."""
    missing: int
    """Those that the API lists and does not show."""
    median_delay_ms: int | None = None
    """Between sending and adding, of those that a reconciliation added."""
    longest_delay_ms: int | None = None
    missed_since: int | None = None
    """When the first of those that no webhook brought was sent."""

    @property
    def missed(self) -> int:
        """Messages that no webhook brought."""
        return self.healed + self.missing

    @property
    def delivered_share(self) -> float:
        """The share of the messages that webhooks brought; 1 when there are none."""
        return 1.0 if not self.existing else max(0.0, min(1.0, self.delivered / self.existing))

    def is_poor(self, below: float) -> bool:
        """Whether webhooks brought less than the share `below`, of enough messages to say so."""
        return self.existing >= FEW and self.delivered_share < below


class Completeness(msgspec.Struct, frozen=True, kw_only=True):
    """How complete an account is."""

    since: int | None
    """Since when it is compared. None: not yet."""
    checked_at: int | None
    """When it was last compared."""
    next_check_at: int | None
    error: str | None
    """Why the last check could not be finished."""
    waiting: int
    """Conversations that changed and are not read yet."""
    failed: int
    """Those among them that could not be read."""
    undelivered_since: int | None
    """When the first message was sent that no webhook brought, after the last webhook."""
    windows: Sequence[Window]

    def undelivered_ms(self, now: int) -> int:
        """How long webhooks have brought nothing although conversations went on."""
        return 0 if self.undelivered_since is None else max(0, now - self.undelivered_since)

    def is_stale(self, now: int) -> bool:
        """Whether the last comparison is so long ago that the numbers say little."""
        return self.checked_at is not None and now - self.checked_at >= STALE_MS

    def not_compared(self, now: int) -> str:
        """Since when it is not compared with Meta, and why where that is known, if it was compared before."""
        why = f": {self.error}" if self.error else ""
        return f"not compared with Meta since {_day(self.checked_at or now, now)}{why}"


def sentence(found: Completeness, now: int) -> str:
    """Completeness of the last week in one sentence, without its final dot."""
    if found.since is None or found.checked_at is None:
        return f"not compared with Meta yet: {found.error}" if found.error else "not compared with Meta yet"
    text = _of_week(next(one for one in found.windows if one.hours == WINDOWS_H[1]), now)
    return f"{text}; {found.not_compared(now)}" if found.is_stale(now) else text


def _of_week(week: Window, now: int) -> str:
    if not week.missed:
        return f"nothing missed in 7 days, of {week.existing} messages" if week.existing else "nothing missed in 7 days"
    missing = f", {week.missing} still missing" if week.missing else ""
    return f"{week.missed} missed by Meta since {_day(week.missed_since or now, now)}, {week.healed} healed{missing}"


def _day(at: int, now: int) -> str:
    moment = datetime.fromtimestamp(at / 1000, UTC)
    if moment.date() == datetime.fromtimestamp(now / 1000, UTC).date():
        return moment.strftime("%H:%M UTC")
    return moment.strftime("%A" if now - at < _WEEK_MS - 86_400_000 else "%Y-%m-%d")
