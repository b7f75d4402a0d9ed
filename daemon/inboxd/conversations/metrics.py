"""What is counted while deliveries are processed."""

from prometheus_client import CollectorRegistry, Counter


class ConversationMetrics:
    """The instruments of this feature. Label values are bounded: they come from our code, never from outside."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.deliveries = Counter(
            "inboxd_deliveries_settled", "Deliveries by how their processing ended.", ["result"], registry=registry
        )
        for result in ("done", "postponed", "failed"):
            self.deliveries.labels(result)
        self.events = Counter(
            "inboxd_webhook_events", "Webhook events processed, by kind.", ["kind"], registry=registry
        )
