"""What the overview says of the machine: its disk, its backups, and what is unusual about the traffic."""

import asyncio
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from inboxd.domain.account import Account
from inboxd.domain.traffic import TrafficFinding
from inboxd.feature import Card, Need, OverviewPart
from inboxd.maintenance.health import DaemonHealth
from inboxd.maintenance.thresholds import BACKUP_MAX_AGE_MS, LITTLE_ROOM
from inboxd.runtime.clock import Clock, iso_utc
from inboxd.storage import backup


class MaintenanceOverview:
    """This feature's part of the overview."""

    def __init__(
        self,
        clock: Clock,
        health: DaemonHealth,
        *,
        database_path: Path,
        backup_folder: Path,
        findings: Callable[[], Sequence[TrafficFinding]],
        accounts: Callable[[], Collection[Account]],
    ) -> None:
        self._clock = clock
        self._health = health
        self._disk = database_path.absolute().parent
        self._backup_folder = backup_folder
        self._findings = findings
        self._accounts = accounts

    async def read(self) -> OverviewPart:
        """The room on the disk and the latest backup; what is wrong with these, the daemon or the traffic.

        Raises OSError.
        """
        usage = await asyncio.to_thread(shutil.disk_usage, self._disk)
        latest_backup_at = await asyncio.to_thread(backup.latest_at, self._backup_folder)
        names = {account.id: account.display_name for account in self._accounts()}
        needs = [
            *health_needs([*self._health.problems, *self._health.degraded]),
            *disk_needs(usage.free / usage.total),
            *(traffic_need(finding, names) for finding in self._findings()),
            *backup_needs(latest_backup_at, self._clock.now_ms()),
        ]
        context = {"free": usage.free, "latest_backup_at": latest_backup_at}
        return OverviewPart(Card("maintenance_card.html", context, position=30), needs)


def health_needs(problems: Sequence[str]) -> list[Need]:
    """One need for each problem of the daemon."""
    return [Need(f"{text[:1].upper()}{text[1:]}.", "/") for text in problems]


def disk_needs(free_share: float) -> list[Need]:
    """Room on the disk, if little of it is free."""
    if free_share >= LITTLE_ROOM:
        return []
    return [Need(f"The disk is nearly full: {free_share:.0%} is free.", "/", position=10)]


def traffic_need(finding: TrafficFinding, names: Mapping[str, str]) -> Need:
    """Something unusual about the traffic. `names` are of the accounts that are served, by id."""
    account_id = finding.account_id
    who = "All accounts" if account_id is None else names.get(account_id, f"Account {account_id}")
    path = "/accounts" if account_id is None or account_id in names else f"/inbox?account={account_id}"
    since = "" if finding.since is None else f", since {iso_utc(finding.since)}"
    text = f"{who}: {finding.detail}{since}. {finding.remedy}"
    return Need(text, path, urgent=finding.cause.is_urgent, position=30)


def backup_needs(latest_at: int | None, now: int) -> list[Need]:
    """A backup, if there is none or the latest (ms) is too old."""
    if latest_at is None:
        return [Need("There is no backup yet: inboxd backup", "/", urgent=False, position=60)]
    if now - latest_at > BACKUP_MAX_AGE_MS:
        return [Need(f"The latest backup is of {iso_utc(latest_at)}.", "/", urgent=False, position=60)]
    return []
