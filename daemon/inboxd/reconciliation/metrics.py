"""The metrics of reconciliation."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge

from inboxd.domain.completeness import Completeness
from inboxd.domain.reconciliation import Cause


class ReconciliationMetrics:
    """The metrics of this feature. Label values are fixed words and the ids of served accounts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.checks = Counter(
            "inboxd_reconciliation_checks", "Comparisons with the Conversations API.", ["outcome"], registry=registry
        )
        for outcome in ("done", "postponed"):
            self.checks.labels(outcome)
        self.missed = Counter(
            "inboxd_messages_missed", "Messages that no webhook had brought.", ["cause"], registry=registry
        )
        for cause in Cause:
            self.missed.labels(cause.value)
        self.healed = Counter("inboxd_messages_healed", "Missed messages that were added.", registry=registry)
        self.failed = Counter(
            "inboxd_reconciliation_conversations_failed", "Conversations that could not be read.", registry=registry
        )
        self.existing = Gauge(
            "inboxd_completeness_messages", "Messages of the last 24 hours.", ["account"], registry=registry
        )
        self.delivered_share = Gauge(
            "inboxd_completeness_delivered_share",
            "Share of the messages of the last 24 hours that webhooks brought.",
            ["account"],
            registry=registry,
        )
        self.missing = Gauge(
            "inboxd_completeness_missing", "Messages of the last 24 hours still missing.", ["account"],
            registry=registry,
        )  # fmt: skip
        self.conversations_due = Gauge(
            "inboxd_reconciliation_conversations_due",
            "Conversations that changed and are not read yet.",
            ["account"],
            registry=registry,
        )
        self.undelivered = Gauge(
            "inboxd_undelivered_seconds",
            "Time since the first message that no webhook brought, after the last webhook.",
            ["account"],
            registry=registry,
        )
        self.checked_at = Gauge(
            "inboxd_reconciliation_last_check_timestamp_seconds",
            "When the account was last compared with the Conversations API.",
            ["account"],
            registry=registry,
        )

    def collect(self, accounts: Mapping[str, Completeness], now: int, *, compared: bool) -> None:
        """Set the gauges, for each request of `/metrics`. `now` is in ms. `compared`: accounts are compared at all."""
        gauges = (self.existing, self.delivered_share, self.missing, self.conversations_due, self.undelivered)
        for one in (*gauges, self.checked_at):
            one.clear()  # of accounts that are no longer served
        for account_id, found in accounts.items():
            day = found.windows[0]
            self.existing.labels(account_id).set(day.existing)
            self.delivered_share.labels(account_id).set(day.delivered_share)
            self.missing.labels(account_id).set(day.missing)
            self.conversations_due.labels(account_id).set(found.waiting)
            self.undelivered.labels(account_id).set(found.undelivered_ms(now) / 1000)
            if compared and found.checked_at is not None:
                self.checked_at.labels(account_id).set(found.checked_at / 1000)
