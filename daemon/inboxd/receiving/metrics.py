"""What is counted of deliveries, from their arrival until they are processed."""

from prometheus_client import CollectorRegistry, Counter, Gauge

from inboxd.receiving.store import Inbox


class ReceivingMetrics:
    """The instruments of this feature. Label values are bounded: they come from our code, never from outside."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.deliveries = Counter(
            "inboxd_deliveries", "Webhook POSTs by what came of them.", ["result"], registry=registry
        )
        for result in ("stored", "unsigned", "too_large", "no_room", "busy", "refused"):
            self.deliveries.labels(result)
        self.stored = self.deliveries.labels("stored")
        self.stalled = Gauge(
            "inboxd_processing_stalled", "1 while deliveries wait and none is processed.", registry=registry
        )
        self._backlog = Gauge("inboxd_backlog", "Deliveries that wait to be processed.", registry=registry)
        self._backlog_age = Gauge(
            "inboxd_backlog_age_seconds", "Age of the oldest delivery that waits.", registry=registry
        )
        self._set_aside = Gauge("inboxd_deliveries_set_aside", "Deliveries that failed for good.", registry=registry)

    async def collect(self, inbox: Inbox) -> None:
        """Set the gauges that are read when somebody asks for `/metrics`. Raises StorageError."""
        count, age_s = await inbox.backlog()
        self._backlog.set(count)
        self._backlog_age.set(age_s)
        _, failed = await inbox.page(state="failed", limit=1, offset=0)
        self._set_aside.set(failed)
