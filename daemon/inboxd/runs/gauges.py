"""What is counted of the runs of every kind."""

from collections.abc import Collection
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Gauge

from inboxd.domain.run import Run
from inboxd.runs.store import RunStore

R = TypeVar("R", bound=Run)


class RunGauges(Generic[R]):
    """The instruments of one kind of run."""

    def __init__(self, registry: CollectorRegistry, name: str, text: str) -> None:
        self._conversations = Gauge(name, text, ["account", "outcome"], registry=registry)

    async def collect(self, runs: RunStore[R], account_ids: Collection[str]) -> None:
        """Set the gauges from the runs of these accounts that are not finished. Raises StorageError."""
        self._clear()
        for account_id in tuple(account_ids):  # accounts come and go meanwhile
            run = await runs.active(account_id)
            if run is not None:
                self._show(account_id, run)

    def _clear(self) -> None:
        self._conversations.clear()

    def _show(self, account_id: str, run: R) -> None:
        self._conversations.labels(account_id, "total").set(run.total)
        self._conversations.labels(account_id, "success").set(run.success_count)
        self._conversations.labels(account_id, "error").set(run.error_count)
        self._conversations.labels(account_id, "skipped").set(run.skipped_count)
