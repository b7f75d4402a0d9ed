"""Prometheus instruments of the runtime, and the registry in which each feature has its own (its `metrics.py`)."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder


class Metrics:
    """The registry, and the instruments of what belongs to no feature: connections, commits, workers, the loop.

    Label values are bounded: they come from our code, never from outside.
    """

    def __init__(self, version: str = "") -> None:
        self.registry = CollectorRegistry()
        self.connections_refused = Counter(
            "inboxd_connections_refused", "Connections turned away or cut.", ["reason"], registry=self.registry
        )
        for reason in ("too_many", "too_slow", "made_room"):
            self.connections_refused.labels(reason)
        self.commit_seconds = Histogram(
            "inboxd_commit_seconds",
            "How long a commit took.",
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 1, 5),
            registry=self.registry,
        )
        self.worker_restarts = Counter(
            "inboxd_worker_restarts", "Crashes of background workers.", ["worker"], registry=self.registry
        )
        self.workers_parked = Gauge(
            "inboxd_workers_parked",
            "Workers that crash again and again and are restarted seldom.",
            registry=self.registry,
        )
        self.commit_transactions = Histogram(
            "inboxd_commit_transactions",
            "Transactions that shared a commit.",
            buckets=(1, 2, 5, 10, 20, 50, 100, 200, 500),
            registry=self.registry,
        )
        self.loop_lag = Histogram(
            "inboxd_event_loop_lag_seconds",
            "How late the event loop woke up.",
            buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
            registry=self.registry,
        )
        Gauge("inboxd_build_info", "Always 1.", ["version"], registry=self.registry).labels(version).set(1)
        ProcessCollector(registry=self.registry)

    def observe_commit(self, transactions: int, seconds: float) -> None:
        """Record one commit."""
        self.commit_transactions.observe(transactions)
        self.commit_seconds.observe(seconds)

    def rendered(self, accept: str) -> tuple[bytes, str]:
        """The metrics in the format that an Accept header asks for, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type
