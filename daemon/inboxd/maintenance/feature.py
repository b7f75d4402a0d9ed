"""Builds this feature: health, metrics, traffic, and the numbers of the machine."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from inboxd.accounts.manager import AccountManager
from inboxd.feature import Core, Feature, Job, ReloadRule
from inboxd.http.api_docs import DocsPage
from inboxd.http.openapi import OpenApiDocument
from inboxd.maintenance import traffic_monitor
from inboxd.maintenance.api import SystemApi
from inboxd.maintenance.health import DaemonHealth
from inboxd.maintenance.health_api import HealthApi
from inboxd.maintenance.metrics import StorageMetrics, TrafficMetrics
from inboxd.maintenance.metrics_api import MetricsApi
from inboxd.maintenance.overview import MaintenanceOverview
from inboxd.maintenance.status import status_line
from inboxd.maintenance.traffic_api import TrafficApi
from inboxd.maintenance.traffic_monitor import TrafficMonitor
from inboxd.profiles.store import ProfileStore
from inboxd.receiving.feature import Receiving
from inboxd.runtime.loop_monitor import LoopMonitor
from inboxd.runtime.notify import Notifier
from inboxd.runtime.watchdog import Watchdog
from inboxd.storage.probe import StorageProbe


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is configured of this feature."""

    silent_after_hours: int
    backup_folder: Path


class Process(NamedTuple):
    """What the process around the daemon wants to hear of it."""

    notifier: Notifier | None = None
    """Tells systemd that the daemon is alive. None: nobody asks."""
    on_beat: Callable[[], None] = lambda: None
    """Called several times a minute, whatever else happens."""


@dataclass(frozen=True, kw_only=True)
class Maintenance(Feature):
    """This feature, and what the process and the dashboard use."""

    health: DaemonHealth


def build(
    core: Core,
    options: Options,
    process: Process,
    *,
    features: Sequence[Feature],
    accounts: AccountManager,
    receiving: Receiving,
    profiles: ProfileStore,
) -> Maintenance:
    """Build the feature. `features` are those whose health and metrics are shown."""
    database, clock = core.database, core.clock
    health = DaemonHealth(
        database, core.supervisor, [feature.problems for feature in features if feature.problems is not None]
    )
    traffic = TrafficMonitor(
        database.read,
        accounts,
        clock,
        TrafficMetrics(core.metrics.registry),
        silent_after_hours=options.silent_after_hours,
    )
    overview = MaintenanceOverview(
        clock,
        health,
        database_path=database.path,
        backup_folder=options.backup_folder,
        findings=lambda: traffic.findings,
        accounts=lambda: [one.account for one in accounts.served.values()],
    )
    storage = StorageMetrics(core.metrics.registry)
    collectors = [feature.collect for feature in features if feature.collect is not None]
    apis = (
        HealthApi(health),
        SystemApi(profiles, receiving.inbox, clock, core.supervisor, health, lambda: accounts.served),
        OpenApiDocument(),
        TrafficApi(traffic),
        DocsPage(),
        MetricsApi(core.metrics, [*collectors, partial(storage.collect, database.path, options.backup_folder)]),
    )

    watchdogs: list[Job] = []
    if process.notifier is not None:
        probe = partial(database.write, lambda _connection: None)
        describe = partial(status_line, accounts, health)
        stalled = lambda: receiving.monitor.stall is not None  # noqa: E731
        watchdogs.append(Job(Watchdog(process.notifier, probe, describe, stalled=stalled)))

    def account_workers(_account_id: str) -> Sequence[Job]:
        traffic.wakeup.notify()  # an account that is served from now on is unusual no more
        return ()

    def use_silent_after(new: Mapping[str, Any]) -> None:
        traffic.silent_after_hours = new["traffic.silent_after_hours"]

    return Maintenance(
        name="maintenance",
        health=health,
        workers=(
            Job(traffic, traffic_monitor.SCHEDULE),
            Job(StorageProbe(database)),
            Job(LoopMonitor(clock, core.metrics, process.on_beat)),
            *watchdogs,
        ),
        account_workers=account_workers,
        on_processed=traffic.observe,
        operations=[operation for api in apis for operation in api.operations()],
        templates="inboxd.maintenance",
        reload=(
            ReloadRule(("traffic.silent_after_hours",), use_silent_after),
            ReloadRule(("storage.keep_backups",), lambda _new: None),  # the next backup reads the file itself
        ),
        overview=overview.read,
    )
