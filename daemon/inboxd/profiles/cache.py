"""The profile cache: an in-process TTL cache over the SQLite rows."""

from collections.abc import Callable
from typing import Final

from cachetools import TTLCache

from inboxd.domain.conversation import ConversationKey
from inboxd.domain.profile import Profile, is_fresh
from inboxd.profiles.store import FetchedProfile
from inboxd.runtime.clock import Clock

MS: Final = 1000


class ProfileCache:
    """Fresh profiles by (account, participant). Bounded: beyond `size` the oldest entry leaves.

    An entry that was loaded from SQLite keeps the age it has there, so nothing is called fresh for longer than
    `ttl_s` after it was fetched, however often the daemon restarts. `on_lookup` is told whether a look found something.
    """

    def __init__(
        self, clock: Clock, *, ttl_s: int, size: int, on_lookup: Callable[[bool], None] = lambda _found: None
    ) -> None:
        self._clock = clock
        self._on_lookup = on_lookup
        self.ttl_ms: Final = ttl_s * MS
        self._entries: TTLCache[ConversationKey, FetchedProfile] = TTLCache(size, ttl_s, timer=clock.monotonic)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: ConversationKey) -> Profile | None:
        """The profile, if it is in memory and fresh."""
        entry = self._entries.get(key)
        found = entry is not None and is_fresh(entry.fetched_at, self._clock.now_ms(), self.ttl_ms)
        self._on_lookup(found)
        return entry.profile if found and entry is not None else None

    def put(self, key: ConversationKey, fetched: FetchedProfile) -> None:
        """Remember a profile."""
        self._entries[key] = fetched

    def discard(self, key: ConversationKey) -> None:
        """Forget a profile."""
        self._entries.pop(key, None)

    def discard_account(self, account_id: str) -> None:
        """Forget every profile of an account."""
        for key in [key for key in self._entries if key.account_id == account_id]:
            self._entries.pop(key, None)
