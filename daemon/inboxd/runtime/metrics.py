"""Prometheus instruments of the runtime, and the registry in which each feature has its own (its `metrics.py`)."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.exposition import choose_encoder


class Metrics:
    """The registry, and the instruments that are not in their feature's `metrics.py` yet.

    Label values are bounded: they come from our code, never from outside.
    """

    def __init__(self, version: str = "") -> None:
        self.registry = CollectorRegistry()
        self.profile_fetches = Counter(
            "inboxd_profile_fetches", "Profile fetches by outcome.", ["outcome"], registry=self.registry
        )
        self.avatars = Counter("inboxd_avatars", "Pictures by what came of them.", ["outcome"], registry=self.registry)
        for outcome in ("stored", "gone", "refused", "failed"):
            self.avatars.labels(outcome)
        self.token_refreshes = Counter(
            "inboxd_token_refreshes", "Token refreshes by outcome.", ["outcome"], registry=self.registry
        )
        for outcome in ("done", "failed"):
            self.token_refreshes.labels(outcome)
        self.subscriptions_lost = Counter(
            "inboxd_subscriptions_lost", "Accounts found without their subscription.", registry=self.registry
        )
        self.token_expiry = Gauge(
            "inboxd_token_expiry_seconds", "Time until a token ends.", ["account"], registry=self.registry
        )
        self.account_callable = Gauge(
            "inboxd_account_callable", "1 while the account may be asked about.", ["account"], registry=self.registry
        )
        self.subscribed = Gauge(
            "inboxd_account_subscribed", "1 while the account is subscribed.", ["account"], registry=self.registry
        )
        self.traffic_findings = Gauge(
            "inboxd_traffic_findings",
            "Accounts whose traffic is unusual, by what is unusual about it.",
            ["cause"],
            registry=self.registry,
        )
        for cause in ("unserved", "silent", "companions_only", "unavailable"):
            self.traffic_findings.labels(cause)
        self.last_event = Gauge(
            "inboxd_last_event_timestamp_seconds",
            "When an event last arrived for an account that is served.",
            ["account"],
            registry=self.registry,
        )
        self.budget_used = Gauge(
            "inboxd_budget_used", "Graph calls of the last hour.", ["account"], registry=self.registry
        )
        self.budget_remaining = Gauge(
            "inboxd_budget_remaining", "Graph calls left in this hour.", ["account"], registry=self.registry
        )
        self.budget_paused = Gauge(
            "inboxd_budget_paused_seconds", "Time until calls may go on.", ["account"], registry=self.registry
        )
        self.graph_unreachable = Gauge(
            "inboxd_graph_unreachable", "1 while Meta's host does not answer.", registry=self.registry
        )
        self.budget_slowed_by = Gauge(
            "inboxd_budget_slowed_by",
            "How many times longer the pause between two calls is, because of Meta's usage headers.",
            ["account"],
            registry=self.registry,
        )
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
        self.cache_lookups = Counter(
            "inboxd_profile_cache_lookups", "Looks into the profile cache.", ["result"], registry=self.registry
        )
        self._cache_hits = self.cache_lookups.labels("hit")
        self._cache_misses = self.cache_lookups.labels("miss")
        self.backfill = Gauge(
            "inboxd_backfill_conversations",
            "Conversations of the backfill run under way, by what became of them; all of them under total.",
            ["account", "outcome"],
            registry=self.registry,
        )
        self.loop_lag = Histogram(
            "inboxd_event_loop_lag_seconds",
            "How late the event loop woke up.",
            buckets=(0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
            registry=self.registry,
        )
        self.database_bytes = Gauge(
            "inboxd_database_size_bytes", "Size of the database's files.", ["file"], registry=self.registry
        )
        self.disk_free_bytes = Gauge(
            "inboxd_disk_free_bytes", "Room on the disk of the database.", registry=self.registry
        )
        self.last_backup = Gauge(
            "inboxd_last_backup_timestamp_seconds", "When the latest backup was made.", registry=self.registry
        )
        Gauge("inboxd_build_info", "Always 1.", ["version"], registry=self.registry).labels(version).set(1)
        ProcessCollector(registry=self.registry)

    def observe_lookup(self, found: bool) -> None:  # noqa: FBT001 - a callback
        """Record one look into the profile cache."""
        (self._cache_hits if found else self._cache_misses).inc()

    def observe_commit(self, transactions: int, seconds: float) -> None:
        """Record one commit."""
        self.commit_transactions.observe(transactions)
        self.commit_seconds.observe(seconds)

    def rendered(self, accept: str) -> tuple[bytes, str]:
        """The metrics in the format that an Accept header asks for, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self.registry), content_type
