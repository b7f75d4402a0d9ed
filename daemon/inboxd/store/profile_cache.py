"""The profile cache: an in-process TTL cache over the SQLite rows."""

from collections.abc import Iterable
from typing import Final

from cachetools import TTLCache

from inboxd.clock import Clock
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.profile import Profile, is_fresh
from inboxd.store.profiles import FetchedProfile, Profiles

MS: Final = 1000


class ProfileCache:
    """Fresh profiles by (account, participant). Bounded: beyond `size` the oldest entry leaves.

    An entry that was loaded from SQLite keeps the age it has there, so nothing is called fresh for longer than
    `ttl_s` after it was fetched, however often the daemon restarts.
    """

    def __init__(self, profiles: Profiles, clock: Clock, *, ttl_s: int, size: int) -> None:
        self._profiles = profiles
        self._clock = clock
        self.ttl_ms: Final = ttl_s * MS
        self._entries: TTLCache[ConversationKey, FetchedProfile] = TTLCache(size, ttl_s, timer=clock.monotonic)
        self.hits = 0
        self.misses = 0

    def __len__(self) -> int:
        return len(self._entries)

    def put(self, key: ConversationKey, profile: Profile, fetched_at: int) -> None:
        """Remember a profile fetched at `fetched_at` (ms)."""
        self._entries[key] = FetchedProfile(fetched_at, profile)

    def discard(self, key: ConversationKey) -> None:
        """Forget a profile."""
        self._entries.pop(key, None)

    async def fresh(self, keys: Iterable[ConversationKey]) -> dict[ConversationKey, Profile]:
        """Those of `keys` that have a fresh profile: from memory, else from SQLite in one query."""
        now = self._clock.now_ms()
        found: dict[ConversationKey, Profile] = {}
        missing: list[ConversationKey] = []
        for key in keys:
            entry = self._entries.get(key)
            if entry is not None and is_fresh(entry.fetched_at, now, self.ttl_ms):
                found[key] = entry.profile
            else:
                missing.append(key)
        self.hits += len(found)
        self.misses += len(missing)
        if missing:
            for key, entry in (await self._profiles.fresh(missing, now - self.ttl_ms)).items():
                self._entries[key] = entry
                found[key] = entry.profile
        return found
