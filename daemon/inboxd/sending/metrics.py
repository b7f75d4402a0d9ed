"""What sending tells Prometheus."""

from collections.abc import Sequence
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from inboxd.domain.outbound import OutboundKind
from inboxd.sending.delivery_store import Backlog

OUTCOMES: Final = ("sent", "refused", "waits", "unknown")
RESOLUTIONS: Final = ("sent", "again", "failed", "unresolved")


class SendingMetrics:
    """The instruments of the outbox."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.attempts = Counter(
            "inboxd_sends", "Calls of the Send API, by what they came to.", ["kind", "outcome"], registry=registry
        )
        self.resolved = Counter(
            "inboxd_sends_resolved", "Sends whose answer was not seen, by what was found out.", ["outcome"],
            registry=registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "inboxd_send_seconds",
            "From accepting a message to Meta's answer, of messages that Meta took at once.",
            buckets=(0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600),
            registry=registry,
        )
        names = ["account"]
        self._waiting = Gauge("inboxd_outbound_waiting", "Messages that are not sent yet.", names, registry=registry)
        self._oldest = Gauge(
            "inboxd_outbound_oldest_seconds",
            "Age of the oldest message that is not sent.",
            names,
            registry=registry,
        )
        self._unknown = Gauge(
            "inboxd_outbound_unknown", "Messages of which it is not known whether they were sent.", names,
            registry=registry,
        )  # fmt: skip
        self._unresolved = Gauge(
            "inboxd_outbound_unresolved", "Messages of which a person has to find out whether they were sent.", names,
            registry=registry,
        )  # fmt: skip
        for kind in OutboundKind:
            for outcome in OUTCOMES:
                self.attempts.labels(kind.value, outcome)
        for outcome in RESOLUTIONS:
            self.resolved.labels(outcome)

    def show(self, backlogs: Sequence[Backlog], now: int) -> None:
        """Bring the gauges up to date at `now` (ms)."""
        for shown in (self._waiting, self._oldest, self._unknown, self._unresolved):
            shown.clear()
        for one in backlogs:
            self._waiting.labels(one.account_id).set(one.waiting)
            self._oldest.labels(one.account_id).set(max(0, now - one.oldest_at) / 1000)
            self._unknown.labels(one.account_id).set(one.unknown)
            self._unresolved.labels(one.account_id).set(one.unresolved)
