"""What is counted of backfill."""

from prometheus_client import CollectorRegistry

from inboxd.domain.backfill import BackfillRun
from inboxd.runs.gauges import RunGauges


class BackfillMetrics(RunGauges[BackfillRun]):
    """The instruments of this feature."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__(
            registry,
            "inboxd_backfill_conversations",
            "Conversations of the backfill run under way, by what became of them; all of them under total.",
        )
