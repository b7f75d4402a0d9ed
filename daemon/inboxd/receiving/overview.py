"""What the overview says of deliveries: how many arrive, wait and were set aside."""

from typing import Final, NamedTuple

from inboxd.feature import Card, Need, OverviewPart
from inboxd.receiving.arrivals import MINUTES
from inboxd.receiving.store import Inbox
from inboxd.runtime.clock import Clock

_BAR: Final = 4
_GAP: Final = 1
_HEIGHT: Final = 60


class Bar(NamedTuple):
    """One minute of the chart, in the units of its picture."""

    x: int
    y: float
    height: float
    deliveries: int
    minutes_ago: int


class ReceivingOverview:
    """This feature's part of the overview."""

    def __init__(self, inbox: Inbox, clock: Clock) -> None:
        self._inbox = inbox
        self._clock = clock

    async def read(self) -> OverviewPart:
        """The deliveries of the last hour, and how many wait or were set aside. Raises StorageError."""
        waiting, oldest_s = await self._inbox.backlog()
        _, failed = await self._inbox.page(state="failed", limit=1, offset=0)
        counts = self._inbox.arrivals.by_minute(self._clock.now_ms())
        context = {
            "waiting": waiting,
            "oldest_s": oldest_s,
            "failed": failed,
            "bars": bars(counts),
            "peak": max(counts),
            "hour": sum(counts),
            "latest": counts[-2],
        }
        return OverviewPart(Card("receiving_card.html", context, position=10), failed_needs(failed))


def failed_needs(failed: int) -> list[Need]:
    """A look at the deliveries that were set aside, if there are any."""
    if not failed:
        return []
    some = "1 delivery" if failed == 1 else f"{failed:,} deliveries"
    return [Need(f"{some} could not be processed.", "/deliveries", position=40)]


def bars(counts: list[int]) -> list[Bar]:
    """The chart of a list of counts, the latest at the right."""
    peak = max(1, *counts)
    heights = [count * _HEIGHT / peak for count in counts]
    return [
        Bar(index * (_BAR + _GAP), round(_HEIGHT - height, 1), round(height, 1), counts[index], MINUTES - 1 - index)
        for index, height in enumerate(heights)
    ]
