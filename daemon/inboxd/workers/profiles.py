"""Enrich: fetch the profiles that are due, within the account's budget, one account to a worker."""

import asyncio
import sqlite3
from collections.abc import Callable, Collection
from typing import Final

from inboxd import logs
from inboxd.clock import Clock
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.profile import Profile, ProfileState
from inboxd.domain.retry import PROFILE_FETCH, Remedy, decide
from inboxd.errors import StorageError
from inboxd.meta.budget import Budget
from inboxd.meta.graph import GraphClient
from inboxd.meta.graph_errors import GraphError
from inboxd.metrics import Metrics
from inboxd.secret import Secret
from inboxd.store import conversations, profiles
from inboxd.store.database import Database
from inboxd.store.profile_cache import ProfileCache
from inboxd.store.profiles import DueFetch, FetchedProfile, Profiles

BATCH: Final = 16
"""Fetches looked up at once."""
STORAGE_REST_S: Final = 1.0
_ACCOUNT_WIDE: Final = frozenset({Remedy.NEEDS_LOGIN, Remedy.LACKS_PERMISSION, Remedy.WAIT_FOR_BUDGET})
_STATES: Final = {Remedy.WAIT_FOR_PERSON: ProfileState.NO_CONSENT, Remedy.GONE: ProfileState.UNAVAILABLE}


class ProfileFetcher:
    """Fetches the due profiles of one account.

    The queue is the participants table, so that nothing is lost with the process; and since this worker is the only
    one that fetches for its account, no participant is ever fetched twice at a time.
    """

    def __init__(
        self,
        account_id: str,
        token: Secret,
        *,
        graph: GraphClient,
        budget: Budget,
        database: Database,
        cache: ProfileCache,
        clock: Clock,
        metrics: Metrics,
        random: Callable[[], float],
        concurrency: int,
    ) -> None:
        self.name = f"profiles:{account_id}"
        self._account_id = account_id
        self._token = token
        self._graph = graph
        self._budget = budget
        self._database = database
        self._profiles = Profiles(database)
        self._cache = cache
        self._clock = clock
        self._metrics = metrics
        self._random = random
        self._slots = asyncio.Semaphore(concurrency)
        self._wake = asyncio.Event()
        self._stopping = False
        self._paused_until = 0
        self._asking: set[ConversationKey] = set()
        self._wrote_meanwhile: set[ConversationKey] = set()
        self._log = logs.get("profiles").bind(account=account_id)

    def wrote(self, keys: Collection[ConversationKey]) -> None:
        """These people have written, so there may be something due."""
        self._wrote_meanwhile |= self._asking.intersection(keys)
        self._wake.set()

    def stop(self) -> None:
        """End `run` after the fetches in hand."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Fetch what is due, when it is due, until `stop`."""
        while not self._stopping:
            self._wake.clear()
            try:
                due = await self._due()
                async with asyncio.TaskGroup() as fetches:
                    for one in due:
                        fetches.create_task(self._fetch(one), name=f"fetch:{one.participant_id}")
                if not due:
                    await self._clock.wait(self._wake, await self._idle_s())
            except* StorageError as errors:
                self._log.warning("profiles_wait_for_storage", error=str(errors.exceptions[0]))
                await self._clock.sleep(STORAGE_REST_S)

    async def _due(self) -> list[DueFetch]:
        now = self._clock.now_ms()
        return [] if now < self._paused_until else await self._profiles.due(self._account_id, now, BATCH)

    async def _idle_s(self) -> float | None:
        next_at = await self._profiles.next_due_at(self._account_id)
        if next_at is None:
            return None
        return max(0.0, (max(next_at, self._paused_until) - self._clock.now_ms()) / 1000)

    async def _fetch(self, due: DueFetch) -> None:
        key = ConversationKey(self._account_id, due.participant_id)
        async with self._slots:
            if self._stopping or self._clock.now_ms() < self._paused_until:
                return
            await self._budget.acquire()
            self._asking.add(key)
            try:
                profile = await self._graph.user_profile(key.participant_id, self._token.reveal())
            except GraphError as error:
                await self._failed(key, due.attempts + 1, error)
            else:
                await self._complete(key, profile)
            finally:
                self._asking.discard(key)
                self._wrote_meanwhile.discard(key)

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

    async def _failed(self, key: ConversationKey, attempt: int, error: GraphError) -> None:
        now = self._clock.now_ms()
        decision = decide(error.remedy, attempt, PROFILE_FETCH, self._random)
        next_attempt_at = None if decision.delay_s is None else now + int(decision.delay_s * 1000)
        self._metrics.profile_fetches.labels(error.remedy.value).inc()
        if error.remedy in _ACCOUNT_WIDE:
            # Nothing is wrong with the person: everyone stays in the queue until the account may ask again.
            self._paused_until = next_attempt_at or now
            self._log.error("account_paused", remedy=error.remedy.value, error=str(error), seconds=decision.delay_s)
            return
        state = _STATES.get(error.remedy, ProfileState.FAILED if decision.exhausted else ProfileState.PENDING)

        if error.remedy is Remedy.WAIT_FOR_PERSON and key in self._wrote_meanwhile:
            next_attempt_at = now  # they gave consent while we were being told that they had not

        def transaction(connection: sqlite3.Connection) -> None:
            profiles.fail(
                connection,
                key,
                state=state,
                reason=str(error),
                attempts=attempt if not decision.exhausted else 0,
                next_attempt_at=next_attempt_at,
                now=now,
            )

        await self._database.write(transaction)
        self._log.warning(
            "profile_failed",
            participant=key.participant_id,
            state=state.value,
            attempt=attempt,
            error=str(error),
            retry_in_s=decision.delay_s,
        )
