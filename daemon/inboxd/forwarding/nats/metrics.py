"""What is counted of events on their way to NATS."""

from prometheus_client import CollectorRegistry, Counter, Gauge

RESULTS = ("published", "duplicate", "too_large", "skipped")


class NatsMetrics:
    """The instruments of this feature. They stay at 0 while NATS is not configured."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.events = Counter(
            "inboxd_nats_events", "Events by what became of them on the way to NATS.", ["result"], registry=registry
        )
        for result in RESULTS:
            self.events.labels(result)
        self.connected = Gauge("inboxd_nats_connected", "1 while there is a connection to NATS.", registry=registry)
        self.behind_events = Gauge(
            "inboxd_nats_behind_events", "Events that wait to be published to NATS.", registry=registry
        )
        self.behind_seconds = Gauge(
            "inboxd_nats_behind_seconds",
            "Age of the oldest event that waits to be published to NATS.",
            registry=registry,
        )
