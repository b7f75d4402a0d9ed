"""What is measured of traffic, the disk and backups."""

import asyncio
import shutil
from pathlib import Path

from prometheus_client import CollectorRegistry, Gauge

from inboxd.domain.traffic import TrafficCause
from inboxd.storage import backup


class TrafficMetrics:
    """The instruments of the traffic monitor."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.findings = Gauge(
            "inboxd_traffic_findings",
            "Accounts whose traffic is unusual, by what is unusual about it.",
            ["cause"],
            registry=registry,
        )
        for cause in TrafficCause:
            self.findings.labels(cause.value)
        self.last_event = Gauge(
            "inboxd_last_event_timestamp_seconds",
            "When an event last arrived for an account that is served.",
            ["account"],
            registry=registry,
        )


class StorageMetrics:
    """The instruments of the database's files, their disk and their backups."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._database_bytes = Gauge(
            "inboxd_database_size_bytes", "Size of the database's files.", ["file"], registry=registry
        )
        self._disk_free_bytes = Gauge("inboxd_disk_free_bytes", "Room on the disk of the database.", registry=registry)
        self._last_backup = Gauge(
            "inboxd_last_backup_timestamp_seconds", "When the latest backup was made.", registry=registry
        )

    async def collect(self, database_path: Path, backup_folder: Path) -> None:
        """Set the gauges. Raises OSError."""
        await asyncio.to_thread(self._collect, database_path, backup_folder)

    def _collect(self, database_path: Path, backup_folder: Path) -> None:
        for kind, suffix in (("database", ""), ("wal", "-wal")):
            path = database_path.with_name(database_path.name + suffix)
            self._database_bytes.labels(kind).set(path.stat().st_size if path.exists() else 0)
        self._disk_free_bytes.set(shutil.disk_usage(database_path.parent).free)
        made_at = backup.latest_at(backup_folder)
        self._last_backup.set(0 if made_at is None else made_at / 1000)
