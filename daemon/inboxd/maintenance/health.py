"""Whether the daemon does what it is for, said once for readiness, the dashboard and whoever else asks."""

from inboxd.receiving.processing_monitor import ProcessingMonitor
from inboxd.runtime.clock import iso_utc
from inboxd.runtime.supervisor import Supervisor
from inboxd.storage.database import Database


class DaemonHealth:
    """What is wrong with the daemon itself."""

    def __init__(self, database: Database, supervisor: Supervisor, monitor: ProcessingMonitor) -> None:
        self._database = database
        self._supervisor = supervisor
        self._monitor = monitor

    @property
    def problems(self) -> list[str]:
        """Why webhooks cannot be stored, or are not processed; empty while all is well."""
        found = []
        if self._database.refusal is not None:
            found.append(f"webhooks cannot be stored: {self._database.refusal}")
        if self._supervisor.gave_up:
            found.append("processing crashed too often: the daemon is about to start afresh")
        stall = self._monitor.stall
        if stall is not None:
            found.append(f"deliveries wait and none is processed since {iso_utc(stall.since)}")
        return found

    @property
    def degraded(self) -> list[str]:
        """What does not work, while webhooks are stored and processed all the same."""
        return [
            f"the worker {one.name} crashes again and again since {iso_utc(one.since)}: {one.reason}"
            for one in self._supervisor.parked
        ]
