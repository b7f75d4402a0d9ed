"""The first page: is it healthy, and what needs a person?"""

import asyncio
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from aiohttp import web

from inboxd.accounts.manager import AccountManager
from inboxd.dashboard import attention
from inboxd.domain.traffic import TrafficFinding
from inboxd.http.rendering import page
from inboxd.maintenance.health import DaemonHealth
from inboxd.receiving.arrivals import MINUTES
from inboxd.receiving.store import Inbox
from inboxd.runtime.clock import Clock
from inboxd.storage import backup
from inboxd.storage.database import Database

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


class Overview:
    """`/`."""

    def __init__(
        self,
        database: Database,
        inbox: Inbox,
        accounts: AccountManager,
        clock: Clock,
        *,
        backup_folder: Path,
        health: DaemonHealth,
        unusual: Callable[[], Sequence[TrafficFinding]],
    ) -> None:
        self._database = database
        self._inbox = inbox
        self._accounts = accounts
        self._clock = clock
        self._backup_folder = backup_folder
        self._health = health
        self._unusual = unusual

    def add_routes(self, app: web.Application) -> None:
        """Put the page on the admin application."""
        app.router.add_get("/", self.show, allow_head=False)

    async def show(self, request: web.Request) -> web.Response:
        """The page."""
        now = self._clock.now_ms()
        waiting, oldest_s = await self._inbox.backlog()
        _, failed = await self._inbox.page(state="failed", limit=1, offset=0)
        usage = await asyncio.to_thread(shutil.disk_usage, self._database.path.absolute().parent)
        last_backup_at = await asyncio.to_thread(backup.latest_at, self._backup_folder)
        served = sorted(self._accounts.served.values(), key=lambda one: one.account.id)
        needs = attention.needs(
            [one.account for one in served],
            now=now,
            problems=self._health.problems,
            degraded=self._health.degraded,
            failed_deliveries=failed,
            disk_free_share=usage.free / usage.total,
            last_backup_at=last_backup_at,
            unusual=self._unusual(),
        )
        counts = self._inbox.arrivals.by_minute(now)
        context = {
            "healthy": not self._health.problems,
            "needs": needs,
            "waiting": waiting,
            "oldest_s": oldest_s,
            "failed": failed,
            "bars": bars(counts),
            "peak": max(counts),
            "hour": sum(counts),
            "latest": counts[-2],
            "accounts": [(one.account, one.graph.budget.report()) for one in served],
            "last_backup_at": last_backup_at,
            "free": usage.free,
        }
        return page(request, "overview.html", context)


def bars(counts: list[int]) -> list[Bar]:
    """The chart of a list of counts, the latest at the right."""
    peak = max(1, *counts)
    heights = [count * _HEIGHT / peak for count in counts]
    return [
        Bar(index * (_BAR + _GAP), round(_HEIGHT - height, 1), round(height, 1), counts[index], MINUTES - 1 - index)
        for index, height in enumerate(heights)
    ]
