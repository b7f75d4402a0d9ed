"""The metrics of forwarding."""

from collections.abc import Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from inboxd.forwarding.endpoint import Endpoint, EndpointState
from inboxd.forwarding.progress_store import Standing

OUTCOMES: Final = ("delivered", "failed")


class ForwardingMetrics:
    """The instruments of this feature. Label values are fixed words and the ids of endpoints, which are few."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._attempts = Counter(
            "inboxd_forwarding_attempts",
            "Attempts to push something to an endpoint.",
            ["endpoint", "outcome"],
            registry=registry,
        )
        self._lost = Counter(
            "inboxd_forwarding_lost",
            "Events and deliveries that were no longer kept when they were to be pushed.",
            ["endpoint"],
            registry=registry,
        )
        self._seconds = Histogram(
            "inboxd_forwarding_seconds",
            "How long receivers took to answer.",
            buckets=(0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 15, 60),
            registry=registry,
        )
        self._behind = Gauge(
            "inboxd_forwarding_behind", "Events that an endpoint does not have yet.", ["endpoint"], registry=registry
        )
        self._lag = Gauge(
            "inboxd_forwarding_lag_seconds", "The age of the oldest of them.", ["endpoint"], registry=registry
        )
        self._failures = Gauge(
            "inboxd_forwarding_failures",
            "Events that are tried no more until somebody asks for it.",
            ["endpoint"],
            registry=registry,
        )
        self._disabled = Gauge(
            "inboxd_forwarding_disabled", "1 when inboxd disabled the endpoint.", ["endpoint"], registry=registry
        )

    def attempted(self, endpoint_id: str, *, delivered: bool, latency_ms: int) -> None:
        """Something was pushed, or could not be."""
        self._attempts.labels(endpoint_id, OUTCOMES[not delivered]).inc()
        self._seconds.observe(latency_ms / 1000)

    def lost(self, endpoint_id: str, count: int) -> None:
        """Something was no longer kept."""
        self._lost.labels(endpoint_id).inc(count)

    def started(self, endpoint_id: str) -> None:
        """An endpoint is pushed to: its counters begin at 0, so that the first failure is seen as a rise."""
        for outcome in OUTCOMES:
            self._attempts.labels(endpoint_id, outcome)
        self._lost.labels(endpoint_id)

    def removed(self, endpoint_id: str) -> None:
        """An endpoint is gone."""
        for outcome in OUTCOMES:
            self._attempts.remove(endpoint_id, outcome)
        self._lost.remove(endpoint_id)

    def show(self, standings: Mapping[Endpoint, Standing]) -> None:
        """Set the gauges, for each request of `/metrics`."""
        for shown in (self._behind, self._lag, self._failures, self._disabled):
            shown.clear()  # of endpoints that are gone
        for endpoint, standing in standings.items():
            self._behind.labels(endpoint.id).set(standing.behind_by)
            self._lag.labels(endpoint.id).set(standing.lag_s)
            self._failures.labels(endpoint.id).set(standing.failures)
            by_us = endpoint.state is EndpointState.DISABLED and endpoint.disabled_reason is not None
            self._disabled.labels(endpoint.id).set(by_us)
