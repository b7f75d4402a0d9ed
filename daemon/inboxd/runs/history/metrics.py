"""What is counted of history imports."""

from prometheus_client import CollectorRegistry, Gauge

from inboxd.domain.history import HistoryRun
from inboxd.runs.gauges import RunGauges


class HistoryMetrics(RunGauges[HistoryRun]):
    """The instruments of this feature."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(
            registry,
            "inboxd_history_conversations",
            "Conversations of the history import under way, by what became of them; those found so far under total.",
        )
        self._messages = Gauge(
            "inboxd_history_messages",
            "Messages of the history import under way: added, known already, or listed without details.",
            ["account", "outcome"],
            registry=registry,
        )

    def _clear(self) -> None:
        super()._clear()
        self._messages.clear()

    def _show(self, account_id: str, run: HistoryRun) -> None:
        super()._show(account_id, run)
        self._messages.labels(account_id, "added").set(run.added_count)
        self._messages.labels(account_id, "known").set(run.known_count)
        self._messages.labels(account_id, "unavailable").set(run.unavailable_count)
