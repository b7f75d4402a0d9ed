"""Enrich: fetch the profiles that are due, within the account's budget, one account to a worker."""

import asyncio
import sqlite3
from collections.abc import Callable, Collection
from typing import Final

from inboxd import logs
from inboxd.clock import Clock
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.profile import Profile, ProfileState
from inboxd.domain.retry import GONE_REST_S, PROFILE_FETCH, Remedy, decide, never_answers
from inboxd.errors import StorageClosedError, StorageError
from inboxd.meta.graph_errors import GraphError
from inboxd.metrics import Metrics
from inboxd.store import conversations, profiles
from inboxd.store.database import Database
from inboxd.store.profile_cache import ProfileCache
from inboxd.store.profiles import DueFetch, FetchedProfile, Profiles
from inboxd.workers.accounts import Served

STORAGE_REST_S: Final = 1.0
DOUBT_REST_MS: Final = 3_600_000
"""How long somebody is let alone of whom Meta said the ambiguous while it said so of everybody."""
_ACCOUNT_WIDE: Final = frozenset({Remedy.NEEDS_LOGIN, Remedy.LACKS_PERMISSION, Remedy.WAIT_FOR_BUDGET})
_STATES: Final = {Remedy.WAIT_FOR_PERSON: ProfileState.NO_CONSENT, Remedy.GONE: ProfileState.UNAVAILABLE}


class ProfileFetcher:
    """Fetches the due profiles of one account.

    The queue is the participants table, so that nothing is lost with the process; and since this worker is the only
    one that fetches for its account, no participant is ever fetched twice at a time. `on_picture` is called when a
    picture has become due.
    """

    def __init__(
        self,
        served: Served,
        *,
        database: Database,
        cache: ProfileCache,
        clock: Clock,
        metrics: Metrics,
        random: Callable[[], float],
        concurrency: int,
        on_picture: Callable[[], None],
    ) -> None:
        self.name = f"profiles:{served.account.id}"
        self._served = served
        self._account_id = served.account.id
        self._database = database
        self._profiles = Profiles(database)
        self._cache = cache
        self._clock = clock
        self._metrics = metrics
        self._random = random
        self._concurrency = concurrency
        self._on_picture = on_picture
        self._wake = asyncio.Event()
        self._stopping = False
        self._asking: set[str] = set()
        # A look that began before a fetch was stored must not end after it: it would find the same person due again.
        self._looking = asyncio.Lock()
        self._wrote_meanwhile: set[str] = set()
        self._log = logs.get("profiles").bind(account=self._account_id)
        served.listeners.append(self._wake.set)

    def wrote(self, keys: Collection[ConversationKey]) -> None:
        """These people have written, so there may be something due."""
        self._wrote_meanwhile.update(self._asking.intersection(key.participant_id for key in keys))
        self._wake.set()

    def stop(self) -> None:
        """End `run` after the fetches in hand."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Fetch what is due, when it is due, until `stop`."""
        async with asyncio.TaskGroup() as lanes:
            for number in range(self._concurrency):
                lanes.create_task(self._lane(), name=f"{self.name}:{number}")

    async def _lane(self) -> None:
        while not self._stopping:
            self._wake.clear()
            try:
                due = await self._next_due()
                if due is not None:
                    await self._fetch(due)
                else:
                    await self._clock.wait(self._wake, await self._idle_s())
            except StorageClosedError:
                raise
            except StorageError as error:
                self._log.warning("profiles_wait_for_storage", error=str(error))
                await self._clock.sleep(STORAGE_REST_S)

    async def _next_due(self) -> DueFetch | None:
        """Somebody who is due and whom nobody is asking about yet; they are ours to ask about then."""
        if not self._served.account.callable:
            return None
        async with self._looking:
            found = await self._profiles.due(self._account_id, self._clock.now_ms(), len(self._asking) + 1)
            due = next((one for one in found if one.participant_id not in self._asking), None)
            if due is not None:
                self._asking.add(due.participant_id)
                self._wake.set()  # there may be another one, for another lane
        return due

    async def _idle_s(self) -> float | None:
        if not self._served.account.callable:
            return None
        now = self._clock.now_ms()
        next_at = await self._profiles.next_due_at(self._account_id, now)
        return None if next_at is None else (next_at - now) / 1000

    async def _fetch(self, due: DueFetch) -> None:
        key = ConversationKey(self._account_id, due.participant_id)
        try:
            profile = await self._served.graph.user_profile(key.participant_id)
        except GraphError as error:
            await self._failed(key, due.attempts + 1, error)
        else:
            await self._complete(key, profile)
        finally:
            async with self._looking:
                self._asking.discard(key.participant_id)
            self._wrote_meanwhile.discard(key.participant_id)
            self._wake.set()

    async def _complete(self, key: ConversationKey, profile: Profile) -> None:
        now = self._clock.now_ms()

        def transaction(connection: sqlite3.Connection) -> None:
            conversation = conversations.get_by_key(connection, key)
            if conversation is not None:
                conversations.touch(connection, conversation.with_profile(profile, at=now))
            profiles.complete(connection, key, profile, now)

        await self._database.write(transaction)
        self._cache.put(key, FetchedProfile(now, profile))
        self._metrics.profile_fetches.labels("complete").inc()
        self._log.info("profile_complete", participant=key.participant_id)
        if profile.profile_pic is not None:
            self._on_picture()

    async def _failed(self, key: ConversationKey, attempt: int, error: GraphError) -> None:
        self._metrics.profile_fetches.labels(error.remedy.value).inc()
        if error.remedy not in _ACCOUNT_WIDE:
            await self._blame(key, attempt, error)
        elif error.row.ambiguous:
            # Somebody else must be asked next: the next answer decides whether the trouble is over.
            await self._put_off(key, attempt - 1, error, self._clock.now_ms() + DOUBT_REST_MS)
        # Otherwise nothing is wrong with the person: they stay in the queue until the account may ask again.

    async def _blame(self, key: ConversationKey, attempt: int, error: GraphError) -> None:
        """The failure is about this person: note it, and when to try again."""
        now = self._clock.now_ms()
        decision = decide(error.remedy, attempt, PROFILE_FETCH, self._random)
        state = _STATES.get(error.remedy, ProfileState.FAILED if decision.exhausted else ProfileState.PENDING)
        delay_s = decision.delay_s
        if error.code is not None and never_answers(attempt, PROFILE_FETCH):
            state, delay_s = ProfileState.UNAVAILABLE, GONE_REST_S
        next_attempt_at = None if delay_s is None else now + int(delay_s * 1000)
        if error.remedy is Remedy.WAIT_FOR_PERSON and key.participant_id in self._wrote_meanwhile:
            next_attempt_at = now  # they gave consent while we were being told that they had not
        await self._put_off(key, attempt, error, next_attempt_at, state=state)
        self._log.warning(
            "profile_failed",
            participant=key.participant_id,
            state=state.value,
            attempt=attempt,
            error=str(error),
            retry_in_s=None if delay_s is None else round(delay_s, 1),
        )

    async def _put_off(
        self,
        key: ConversationKey,
        attempts: int,
        error: GraphError,
        next_attempt_at: int | None,
        *,
        state: ProfileState = ProfileState.PENDING,
    ) -> None:
        reason, now = str(error), self._clock.now_ms()

        def transaction(connection: sqlite3.Connection) -> None:
            profiles.fail(
                connection,
                key,
                state=state,
                reason=reason,
                attempts=attempts,
                next_attempt_at=next_attempt_at,
                now=now,
            )

        await self._database.write(transaction)
