"""What is counted of history imports."""

from collections.abc import Collection

from prometheus_client import CollectorRegistry, Gauge

from inboxd.runs.history.store import HistoryStore


class HistoryMetrics:
    """The instruments of this feature."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._conversations = Gauge(
            "inboxd_history_conversations",
            "Conversations of the history import under way, by what became of them; those found so far under total.",
            ["account", "outcome"],
            registry=registry,
        )
        self._messages = Gauge(
            "inboxd_history_messages",
            "Messages of the history import under way: added, known already, or listed without details.",
            ["account", "outcome"],
            registry=registry,
        )

    async def collect(self, imports: HistoryStore, account_ids: Collection[str]) -> None:
        """Set the gauges from the imports of these accounts that are not finished. Raises StorageError."""
        self._conversations.clear()
        self._messages.clear()
        for account_id in tuple(account_ids):  # accounts come and go meanwhile
            run = await imports.active(account_id)
            if run is not None:
                self._conversations.labels(account_id, "total").set(run.total)
                self._conversations.labels(account_id, "success").set(run.success_count)
                self._conversations.labels(account_id, "error").set(run.error_count)
                self._conversations.labels(account_id, "skipped").set(run.skipped_count)
                self._messages.labels(account_id, "added").set(run.added_count)
                self._messages.labels(account_id, "known").set(run.known_count)
                self._messages.labels(account_id, "unavailable").set(run.unavailable_count)
