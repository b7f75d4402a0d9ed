"""`/metrics`, for Prometheus."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from aiohttp import web

from inboxd.http.operations import Operation
from inboxd.runtime.metrics import Metrics
from inboxd.runtime.supervisor import Supervisor
from inboxd.storage import backup

Collect = Callable[[], Awaitable[None]]
"""Sets the gauges of one feature."""


class MetricsApi:
    """`/metrics`: counters as they stand, and gauges that are read when somebody asks."""

    def __init__(
        self,
        metrics: Metrics,
        collectors: Sequence[Collect],
        supervisor: Supervisor,
        *,
        database_path: Path,
        backup_folder: Path,
    ) -> None:
        self._metrics = metrics
        self._collectors = collectors
        self._supervisor = supervisor
        self._database_path = database_path
        self._backup_folder = backup_folder

    def operations(self) -> Sequence[Operation]:
        """What can be done."""
        return [Operation("GET", "/metrics", self.metrics, "system", {200: "text/plain"})]

    async def metrics(self, request: web.Request) -> web.Response:
        """The metrics in Prometheus's text format, or in that of OpenMetrics where it is asked for."""
        for collect in self._collectors:
            await collect()
        self._metrics.workers_parked.set(len(self._supervisor.parked))
        await asyncio.to_thread(self._observe_disk)
        text, content_type = self._metrics.rendered(request.headers.get("Accept", ""))
        return web.Response(body=text, headers={"Content-Type": content_type})

    def _observe_disk(self) -> None:
        for kind, suffix in (("database", ""), ("wal", "-wal")):
            path = self._database_path.with_name(self._database_path.name + suffix)
            size = path.stat().st_size if path.exists() else 0
            self._metrics.database_bytes.labels(kind).set(size)
        self._metrics.disk_free_bytes.set(shutil.disk_usage(self._database_path.parent).free)
        made_at = backup.latest_at(self._backup_folder)
        self._metrics.last_backup.set(0 if made_at is None else made_at / 1000)
