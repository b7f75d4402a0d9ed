"""What the overview says of completeness."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from inboxd.domain.account import Account
from inboxd.domain.completeness import Completeness, sentence
from inboxd.domain.reconciliation import HOUR_MS
from inboxd.feature import Card, Need, OverviewPart
from inboxd.runtime.clock import Clock, iso_utc

_ACCOUNTS: Final = "/accounts"


class CompletenessOverview:
    """This feature's part of the overview. `accounts` are those that are served, by id."""

    def __init__(
        self,
        completeness: Callable[[str], Awaitable[Completeness]],
        accounts: Callable[[], Mapping[str, Account]],
        clock: Clock,
        *,
        every: Callable[[], int],
        below: Callable[[], float],
        after_hours: Callable[[], int],
    ) -> None:
        self._completeness = completeness
        self._accounts = accounts
        self._clock = clock
        self._every = every
        self._below = below
        self._after_hours = after_hours

    async def read(self) -> OverviewPart:
        """Each account's completeness in one sentence, and which of them somebody should look at."""
        now, rows, needs = self._clock.now_ms(), [], []
        for account_id, account in sorted(self._accounts().items()):
            found, name = await self._completeness(account_id), account.display_name
            rows.append((name, sentence(found, now), found.windows[1].missed > 0))
            needs += completeness_needs(name, found, now, below=self._below(), after_hours=self._after_hours())
            if self._every() and account.callable and found.is_stale(now):  # what else an account needs is said there
                text = f"{name}: {found.not_compared(now)}. What webhooks do not bring is not noticed: inboxd doctor."
                needs.append(Need(text, _ACCOUNTS, position=25))
        return OverviewPart(Card("reconciliation_card.html", {"rows": rows}, position=25), needs)


def completeness_needs(name: str, found: Completeness, now: int, *, below: float, after_hours: int) -> list[Need]:
    """What somebody should look at: no deliveries although conversations went on, or too few."""
    if found.undelivered_since is not None and found.undelivered_ms(now) >= after_hours * HOUR_MS:
        text = (
            f"{name}: Meta has delivered nothing since {iso_utc(found.undelivered_since)} although its conversations "
            "went on. See whether Meta reaches this machine: inboxd doctor."
        )
        return [Need(text, _ACCOUNTS, position=25)]
    day = found.windows[0]
    if day.is_poor(below):
        text = f"{name}: webhooks brought {day.delivered} of the {day.existing} messages of the last 24 hours."
        return [Need(text, _ACCOUNTS, position=25)]
    return []
