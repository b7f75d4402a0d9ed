"""Whether the daemon can do its job, for readiness, the overview and `systemctl status`."""

from collections.abc import Callable, Sequence

from inboxd.runtime.clock import iso_utc
from inboxd.runtime.supervisor import Supervisor
from inboxd.storage.database import Database


class DaemonHealth:
    """What is wrong with the daemon itself. Each of `features` says what is wrong with one feature."""

    def __init__(
        self, database: Database, supervisor: Supervisor, features: Sequence[Callable[[], Sequence[str]]]
    ) -> None:
        self._database = database
        self._supervisor = supervisor
        self._features = features

    @property
    def problems(self) -> list[str]:
        """Why webhooks cannot be stored, or are not processed; empty while all is well."""
        found = []
        if self._database.refusal is not None:
            found.append(f"webhooks cannot be stored: {self._database.refusal}")
        if self._supervisor.gave_up:
            found.append("processing crashed too often: the daemon is about to start afresh")
        return found + [problem for problems in self._features for problem in problems()]

    @property
    def degraded(self) -> list[str]:
        """What does not work, while webhooks are stored and processed all the same."""
        return [
            f"the worker {one.name} crashes again and again since {iso_utc(one.since)}: {one.reason}"
            for one in self._supervisor.parked
        ]
