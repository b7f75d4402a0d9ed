"""What is counted of backfill."""

from collections.abc import Collection

from prometheus_client import CollectorRegistry, Gauge

from inboxd.runs.backfill.store import BackfillStore


class BackfillMetrics:
    """The instruments of this feature."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._conversations = Gauge(
            "inboxd_backfill_conversations",
            "Conversations of the backfill run under way, by what became of them; all of them under total.",
            ["account", "outcome"],
            registry=registry,
        )

    async def collect(self, backfills: BackfillStore, account_ids: Collection[str]) -> None:
        """Set the gauge from the runs of these accounts that are not finished. Raises StorageError."""
        self._conversations.clear()
        for account_id in tuple(account_ids):  # accounts come and go meanwhile
            run = await backfills.active(account_id)
            if run is not None:
                self._conversations.labels(account_id, "total").set(run.total)
                self._conversations.labels(account_id, "success").set(run.success_count)
                self._conversations.labels(account_id, "error").set(run.error_count)
                self._conversations.labels(account_id, "skipped").set(run.skipped_count)
