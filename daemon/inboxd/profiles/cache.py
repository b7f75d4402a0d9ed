"""The profile cache: which profiles are fresh, in an in-process TTL cache over the SQLite rows."""

from collections.abc import Callable
from typing import Final

from cachetools import TTLCache

from inboxd.domain.conversation import ConversationKey
from inboxd.domain.profile import is_fresh
from inboxd.runtime.clock import Clock

MS: Final = 1000


class ProfileCache:
    """When fresh profiles were fetched, by account and participant. Bounded: beyond `size` the oldest entry leaves.

    A participant who is in here and writes needs no fetch and no look into SQLite. The profile itself stays in SQLite:
    whoever shows one reads it there together with what else is shown.

    An entry that was loaded from SQLite keeps the age it has there, so nothing is called fresh for longer than
    `ttl_s` after it was fetched, however often the daemon restarts. `on_lookup` is told whether a look found something.
    """

    def __init__(
        self, clock: Clock, *, ttl_s: int, size: int, on_lookup: Callable[[bool], None] = lambda _found: None
    ) -> None:
        self._clock = clock
        self._on_lookup = on_lookup
        self.ttl_ms: Final = ttl_s * MS
        self._fetched_at: TTLCache[ConversationKey, int] = TTLCache(size, ttl_s, timer=clock.monotonic)

    def __len__(self) -> int:
        return len(self._fetched_at)

    def get(self, key: ConversationKey) -> int | None:
        """When the profile was fetched (ms), if that is in memory and the profile is fresh."""
        fetched_at = self._fetched_at.get(key)
        if fetched_at is not None and not is_fresh(fetched_at, self._clock.now_ms(), self.ttl_ms):
            fetched_at = None
        self._on_lookup(fetched_at is not None)
        return fetched_at

    def put(self, key: ConversationKey, fetched_at: int) -> None:
        """Remember that a profile was fetched at `fetched_at` (ms)."""
        self._fetched_at[key] = fetched_at

    def discard(self, key: ConversationKey) -> None:
        """Forget a participant."""
        self._fetched_at.pop(key, None)

    def discard_account(self, account_id: str) -> None:
        """Forget every participant of an account."""
        for key in [key for key in self._fetched_at if key.account_id == account_id]:
            self._fetched_at.pop(key, None)
