"""Fetching one participant's profile from Meta and storing the result, for live fetches and for backfill."""

import asyncio
import sqlite3
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

import msgspec

from inboxd.accounts.managed_account import ManagedAccount
from inboxd.domain.budget import Priority
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.profile import Profile, ProfileState, validated_username
from inboxd.domain.retry import (
    GONE_REST_S,
    PROFILE_FETCH,
    WITHOUT_CODE,
    FailureAction,
    decide,
    never_answers,
    reopened_at,
)
from inboxd.events.log import EventLog
from inboxd.meta.graph_errors import GraphError
from inboxd.profiles import store as profiles
from inboxd.profiles.cache import ProfileCache
from inboxd.profiles.event_recording import record_failed, record_fetched
from inboxd.profiles.metrics import ProfileMetrics
from inboxd.runtime import logs
from inboxd.runtime.backoff import Backoff
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import InboxdError
from inboxd.storage.database import Database

AMBIGUOUS_REST_MS: Final = 3_600_000
"""Delay before retrying a participant after an ambiguous error during an account-wide failure."""
ACCOUNT_WIDE: Final = frozenset(
    {FailureAction.NEEDS_LOGIN, FailureAction.LACKS_PERMISSION, FailureAction.WAIT_FOR_BUDGET}
)
"""Failures of the account, not of the participant: the fetch stays due until the account may make calls again."""
_STATES: Final = {FailureAction.WAIT_FOR_PERSON: ProfileState.NO_CONSENT, FailureAction.GONE: ProfileState.UNAVAILABLE}

MAX_UNANSWERED: Final = 1000
"""Participants whose last call had no answer, as far as they are remembered."""
HOST_BACKOFF: Final = Backoff(cap_s=60)
"""Rest between calls of an account that gets no answers while the same host answers other accounts."""

Also = Callable[[sqlite3.Connection], None]
"""Stores something else in the transaction that stores the profile or the failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncServices:
    """What the profile syncs of all accounts share."""

    database: Database
    cache: ProfileCache
    clock: Clock
    metrics: ProfileMetrics
    event_log: EventLog
    random: Callable[[], float]
    """A number from 0 to 1, for jitter."""
    on_picture: Callable[[], None]
    """Called when the picture of a fetched profile is due."""
    on_profile: Callable[[sqlite3.Connection, ConversationKey, int], None]
    """Called in the transaction that stores a fetched profile, with the time of the fetch (ms)."""


class ProfileSync:
    """Fetches and stores the profiles of one account. A participant is fetched by one caller at a time."""

    def __init__(self, managed: ManagedAccount, services: SyncServices) -> None:
        self.managed = managed
        self.account_id = managed.account.id
        self.asking = managed.asking
        """Participants whose profile somebody is fetching."""
        # A query for what is due must not begin before a fetch is stored and end after it: it would find it still due.
        self.due_lock = asyncio.Lock()
        self._database = services.database
        self._cache = services.cache
        self._clock = services.clock
        self._metrics = services.metrics
        self._event_log = services.event_log
        self._random = services.random
        self._on_picture = services.on_picture
        self._on_profile = services.on_profile
        self._wrote_meanwhile: set[str] = set()
        self._unanswered: dict[str, int] = {}
        self._log = logs.get("profiles").bind(account_id=self.account_id)

    def wrote(self, keys: Collection[ConversationKey]) -> None:
        """These participants have written. That gives consent, also to a fetch that is under way."""
        self._wrote_meanwhile.update(self.asking.intersection(key.participant_id for key in keys))

    async def claim(self, participant_id: str) -> bool:
        """Reserve a participant for the caller, who calls `release` later. False when somebody else has them."""
        async with self.due_lock:
            if participant_id in self.asking:
                return False
            self.asking.add(participant_id)
            return True

    async def release(self, participant_id: str) -> None:
        """The caller of `claim` has finished with this participant."""
        async with self.due_lock:
            self.asking.discard(participant_id)
        self._wrote_meanwhile.discard(participant_id)

    @property
    def unanswered(self) -> Collection[str]:
        """Participants whose last call had no answer, the oldest first. Others should be fetched before them."""
        return self._unanswered.keys()

    async def fetch(
        self,
        participant_id: str,
        priority: Priority,
        *,
        also: Also | None = None,
        on_turn: Callable[[], None] | None = None,
    ) -> GraphError | None:
        """Fetch and store the profile of a participant whom the caller has claimed. Returns the error when that failed.

        `also` runs in the transaction that stores the profile. `on_turn` is called when waiting for the budget is over
        and the call is made. Raises StorageError.
        """
        key = ConversationKey(self.account_id, participant_id)
        try:
            if self._unanswered.get(participant_id) == self.managed.graph.answers:
                await self._probe_host(priority)
            profile = await self.managed.graph.user_profile(participant_id, priority, on_turn=on_turn)
            self._unanswered.pop(participant_id, None)
            await self._complete(key, profile, also)
        except GraphError as error:
            error = self._classified(participant_id, error)
            self._metrics.profile_fetches.labels(error.action.value).inc()
            return error
        except InboxdError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this participant alone
            self._log.exception("profile_broken", participant_id=participant_id)
            return GraphError(f"an error of ours: {type(error).__name__}", FailureAction.UNKNOWN)
        return None

    async def rest(self, silences: int) -> None:
        """Wait after so many calls in a row without an answer, unless the open circuit makes all calls wait anyway."""
        if not self.managed.graph.circuit.strikes:
            await self._clock.sleep(HOST_BACKOFF.delay_s(silences, self._random))

    async def _probe_host(self, priority: Priority) -> None:
        """Fetch the account itself, when the host has answered nothing since a call for a participant failed.

        If the host answers this and fails again for the participant, the participant is the cause. Raises GraphError
        when the host does not answer, or when no call may be made.
        """
        try:
            await self.managed.graph.owner(priority)
        except GraphError as error:
            if error.of_host or error.action in ACCOUNT_WIDE:
                raise

    def _classified(self, participant_id: str, error: GraphError) -> GraphError:
        """The same error; or RETRY_LATER when the host failed twice for this participant and answered in between."""
        before = self._unanswered.pop(participant_id, None)
        if not error.of_host:
            return error
        answers = self.managed.graph.answers
        self._unanswered[participant_id] = answers
        if len(self._unanswered) > MAX_UNANSWERED:
            del self._unanswered[next(iter(self._unanswered))]
        if before is None or before == answers:
            return error
        return GraphError(f"{error}, although others are answered about", FailureAction.RETRY_LATER)

    async def record_failure(
        self, participant_id: str, attempt: int, error: GraphError, also: Also | None = None
    ) -> None:
        """Store a failure that concerns the participant, and when to retry.

        Raises StorageError.
        """
        now = self._clock.now_ms()
        decision = decide(error.action, attempt, WITHOUT_CODE if error.code is None else PROFILE_FETCH, self._random)
        state = _STATES.get(error.action, ProfileState.FAILED if decision.exhausted else ProfileState.PENDING)
        delay_s = decision.delay_s
        if error.code is not None and not error.row.ambiguous and never_answers(attempt, PROFILE_FETCH):
            state, delay_s = ProfileState.UNAVAILABLE, GONE_REST_S
        next_attempt_at = None if delay_s is None else now + int(delay_s * 1000)
        if participant_id in self._wrote_meanwhile:
            if state is ProfileState.NO_CONSENT:
                next_attempt_at = now  # they wrote, and so gave consent, during the call
            elif state is ProfileState.UNAVAILABLE:
                next_attempt_at = reopened_at(attempt, now, now, gone=True)
        await self.postpone(participant_id, attempt, error, next_attempt_at, state=state, also=also)
        self._log.warning(
            "profile_failed",
            participant_id=participant_id,
            state=state.value,
            attempt=attempt,
            error=str(error),
            retry_in_s=None if next_attempt_at is None else round((next_attempt_at - now) / 1000, 1),
        )

    async def postpone(
        self,
        participant_id: str,
        attempts: int,
        error: GraphError,
        next_attempt_at: int | None,
        *,
        state: ProfileState = ProfileState.PENDING,
        also: Also | None = None,
    ) -> None:
        """Store a failure, and when to retry (ms; None: not without a message or a backfill). Raises StorageError."""
        key, reason, now = ConversationKey(self.account_id, participant_id), str(error), self._clock.now_ms()

        def transaction(connection: sqlite3.Connection) -> None:
            before = profiles.one(connection, key)
            profiles.fail(
                connection,
                key,
                state=state,
                reason=reason,
                attempts=attempts,
                next_attempt_at=next_attempt_at,
                now=now,
            )
            after = profiles.one(connection, key)
            if after is not None:
                record_failed(connection, self._event_log, before, after, now)
            if also is not None:
                also(connection)

        await self._database.write(transaction)

    async def _complete(self, key: ConversationKey, profile: Profile, also: Also | None) -> None:
        """Store a fetched profile. Raises InvalidProfileError for a blank username, and StorageError."""
        now = self._clock.now_ms()
        profile = msgspec.structs.replace(profile, username=validated_username(profile.username))

        def transaction(connection: sqlite3.Connection) -> bool:
            before = profiles.one(connection, key)
            known = profiles.complete(connection, key, profile, now)
            after = profiles.one(connection, key)
            if after is not None:
                self._on_profile(connection, key, now)
                record_fetched(connection, self._event_log, before, after, now)
            if also is not None:
                also(connection)
            return known

        if not await self._database.write(transaction):
            return  # the participant was erased during the call: nothing is kept or told
        self._cache.put(key, now)
        self._metrics.profile_fetches.labels("complete").inc()
        self._log.info("profile_complete", participant_id=key.participant_id, username=profile.username)
        if profile.profile_pic is not None:
            self._on_picture()


class ProfileSyncs:
    """The profile sync of each account: live fetches and backfill share one."""

    def __init__(self, services: SyncServices) -> None:
        self._services = services
        self._by_account: dict[str, ProfileSync] = {}

    def of(self, managed: ManagedAccount) -> ProfileSync:
        """The sync of an account; made when it is first asked for."""
        known = self._by_account.get(managed.account.id)
        if known is None or known.managed is not managed:  # removed and added again
            known = self._by_account[managed.account.id] = ProfileSync(managed, self._services)
        return known

    def remove(self, account_id: str) -> None:
        """The account is no longer served."""
        self._by_account.pop(account_id, None)
