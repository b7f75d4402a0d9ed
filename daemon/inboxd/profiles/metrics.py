"""What is counted of profiles and avatars."""

from prometheus_client import CollectorRegistry, Counter


class ProfileMetrics:
    """The instruments of this feature. Label values are bounded: they come from our code, never from outside."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.profile_fetches = Counter(
            "inboxd_profile_fetches", "Profile fetches by outcome.", ["outcome"], registry=registry
        )
        self.avatars = Counter("inboxd_avatars", "Pictures by what came of them.", ["outcome"], registry=registry)
        for outcome in ("stored", "gone", "refused", "failed"):
            self.avatars.labels(outcome)
        lookups = Counter(
            "inboxd_profile_cache_lookups", "Looks into the profile cache.", ["result"], registry=registry
        )
        self._cache_hits = lookups.labels("hit")
        self._cache_misses = lookups.labels("miss")

    def observe_lookup(self, found: bool) -> None:  # noqa: FBT001 - a callback
        """Record one look into the profile cache."""
        (self._cache_hits if found else self._cache_misses).inc()
