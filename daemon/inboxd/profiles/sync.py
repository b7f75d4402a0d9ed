"""Asking Meta about one person, and storing what came of it: the road of live enrichment and of backfill."""

import asyncio
import sqlite3
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgspec

from inboxd.accounts.manager import ManagedAccount
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
from inboxd.events.bus import EventBus
from inboxd.meta.graph_errors import GraphError
from inboxd.profiles import store as profiles
from inboxd.profiles.cache import ProfileCache
from inboxd.profiles.metrics import ProfileMetrics
from inboxd.runtime import logs
from inboxd.runtime.backoff import Backoff
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import InboxdError
from inboxd.storage.database import Database

DOUBT_REST_MS: Final = 3_600_000
"""How long somebody is let alone of whom Meta said the ambiguous while it said so of everybody."""
ACCOUNT_WIDE: Final = frozenset(
    {FailureAction.NEEDS_LOGIN, FailureAction.LACKS_PERMISSION, FailureAction.WAIT_FOR_BUDGET}
)
"""Nothing is wrong with the person: they stay in the queue until the account may ask again."""
_STATES: Final = {FailureAction.WAIT_FOR_PERSON: ProfileState.NO_CONSENT, FailureAction.GONE: ProfileState.UNAVAILABLE}

MOST_UNHEARD: Final = 1000
SILENCE: Final = Backoff(cap_s=60)
"""Between calls of an account that has no answers while the same host answers other accounts."""

Also = Callable[[sqlite3.Connection], None]
"""What else to store in the transaction that stores the profile."""


class Blame(NamedTuple):
    """What a failure means for the person."""

    state: ProfileState
    next_attempt_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncServices:
    """What the profile syncs of all accounts share."""

    database: Database
    cache: ProfileCache
    clock: Clock
    metrics: ProfileMetrics
    bus: EventBus
    random: Callable[[], float]
    """A number from 0 to 1, for jitter."""
    on_picture: Callable[[], None]
    """Called when the picture of a fetched profile is due."""
    on_profile: Callable[[sqlite3.Connection, ConversationKey, int], None]
    """Called in the transaction that stores a fetched profile, with the time of the fetch (ms)."""


class ProfileSync:
    """Fetches and stores the profiles of one account. A participant is fetched by one caller at a time."""

    def __init__(self, served: ManagedAccount, services: SyncServices) -> None:
        self.served = served
        self.account_id = served.account.id
        self.asking = served.asking
        """Participants whose profile somebody is fetching."""
        # A look that began before a fetch was stored must not end after it: it would find the same person due again.
        self.looking = asyncio.Lock()
        self._database = services.database
        self._cache = services.cache
        self._clock = services.clock
        self._metrics = services.metrics
        self._bus = services.bus
        self._random = services.random
        self._on_picture = services.on_picture
        self._on_profile = services.on_profile
        self._wrote_meanwhile: set[str] = set()
        self._unheard: dict[str, int] = {}
        self._log = logs.get("profiles").bind(account_id=self.account_id)

    def wrote(self, keys: Collection[ConversationKey]) -> None:
        """These people have written: whoever is being refused for lack of consent has given it."""
        self._wrote_meanwhile.update(self.asking.intersection(key.participant_id for key in keys))

    async def claim(self, participant_id: str) -> bool:
        """Whether we are to ask about this person: nobody else is doing so."""
        async with self.looking:
            if participant_id in self.asking:
                return False
            self.asking.add(participant_id)
            return True

    async def release(self, participant_id: str) -> None:
        """We are done with this person."""
        async with self.looking:
            self.asking.discard(participant_id)
        self._wrote_meanwhile.discard(participant_id)

    @property
    def unheard(self) -> Collection[str]:
        """About whom the host did not answer, the one of longest ago first: others should be asked first."""
        return self._unheard.keys()

    async def fetch(
        self,
        participant_id: str,
        priority: Priority,
        *,
        also: Also | None = None,
        on_turn: Callable[[], None] | None = None,
    ) -> GraphError | None:
        """Fetch and store the profile of somebody who was claimed; the error when that failed.

        `also` is stored with the profile; `on_turn` is called when waiting is over and the call is made. Raises
        StorageError.
        """
        key = ConversationKey(self.account_id, participant_id)
        try:
            if self._unheard.get(participant_id) == self.served.graph.answers:
                await self._hear_the_host(priority)
            profile = await self.served.graph.user_profile(participant_id, priority, on_turn=on_turn)
            self._unheard.pop(participant_id, None)
            await self._complete(key, profile, also)
        except GraphError as error:
            error = self._judged(participant_id, error)
            self._metrics.profile_fetches.labels(error.action.value).inc()
            return error
        except InboxdError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, it is about this one person
            self._log.exception("profile_broken", participant_id=participant_id)
            return GraphError(f"an error of ours: {type(error).__name__}", FailureAction.UNKNOWN)
        return None

    async def rest(self, silences: int) -> None:
        """Wait after so many calls in a row without an answer, unless the circuit makes everybody wait anyway."""
        if not self.served.graph.circuit.strikes:
            await self._clock.sleep(SILENCE.delay_s(silences, self._random))

    async def _hear_the_host(self, priority: Priority) -> None:
        """Ask about the account, since nothing was answered after the call about somebody that was not.

        What comes of the next call about them tells then whether the trouble is theirs. Raises GraphError.
        """
        try:
            await self.served.graph.owner(priority)
        except GraphError as error:
            if error.of_host or error.action in ACCOUNT_WIDE:
                raise

    def _judged(self, participant_id: str, error: GraphError) -> GraphError:
        """The same error, or what it means when the host answers others and not about this person."""
        heard = self._unheard.pop(participant_id, None)
        if not error.of_host:
            return error
        answers = self.served.graph.answers
        self._unheard[participant_id] = answers
        if len(self._unheard) > MOST_UNHEARD:
            del self._unheard[next(iter(self._unheard))]
        if heard is None or heard == answers:
            return error
        return GraphError(f"{error}, although others are answered about", FailureAction.RETRY_LATER)

    async def record_failure(
        self, participant_id: str, attempt: int, error: GraphError, also: Also | None = None
    ) -> Blame:
        """The failure is about this person: note it, and when to try again."""
        now = self._clock.now_ms()
        decision = decide(error.action, attempt, WITHOUT_CODE if error.code is None else PROFILE_FETCH, self._random)
        state = _STATES.get(error.action, ProfileState.FAILED if decision.exhausted else ProfileState.PENDING)
        delay_s = decision.delay_s
        if error.code is not None and not error.row.ambiguous and never_answers(attempt, PROFILE_FETCH):
            state, delay_s = ProfileState.UNAVAILABLE, GONE_REST_S
        next_attempt_at = None if delay_s is None else now + int(delay_s * 1000)
        if participant_id in self._wrote_meanwhile:
            if state is ProfileState.NO_CONSENT:
                next_attempt_at = now  # they gave consent while we were being told that they had not
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
        told = {"accountId": self.account_id, "participantId": participant_id, "profileState": state.value}
        self._bus.publish("profile.failed", {**told, "reason": str(error)})
        return Blame(state, next_attempt_at)

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
        """Store a failure, and when to try again (None: not by ourselves)."""
        key, reason, now = ConversationKey(self.account_id, participant_id), str(error), self._clock.now_ms()

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
            if also is not None:
                also(connection)

        await self._database.write(transaction)

    async def _complete(self, key: ConversationKey, profile: Profile, also: Also | None) -> None:
        """Store a fetched profile. Raises InvalidProfileError for a blank username, and StorageError."""
        now = self._clock.now_ms()
        profile = msgspec.structs.replace(profile, username=validated_username(profile.username))

        def transaction(connection: sqlite3.Connection) -> bool:
            known = profiles.complete(connection, key, profile, now)
            if known:
                self._on_profile(connection, key, now)
            if also is not None:
                also(connection)
            return known

        if not await self._database.write(transaction):
            return  # forgotten while Meta was being asked: what it said is not kept, nor told to anybody
        self._cache.put(key, now)
        self._metrics.profile_fetches.labels("complete").inc()
        self._log.info("profile_complete", participant_id=key.participant_id, username=profile.username)
        told = {"accountId": key.account_id, "participantId": key.participant_id, "username": profile.username}
        self._bus.publish("profile.completed", {**told})
        if profile.profile_pic is not None:
            self._on_picture()


class ProfileSyncs:
    """The profile sync of each account: live fetches and backfill share one."""

    def __init__(self, services: SyncServices) -> None:
        self._services = services
        self._by_account: dict[str, ProfileSync] = {}

    def of(self, served: ManagedAccount) -> ProfileSync:
        """The sync of an account; made when it is first asked for."""
        known = self._by_account.get(served.account.id)
        if known is None or known.served is not served:  # removed and added again
            known = self._by_account[served.account.id] = ProfileSync(served, self._services)
        return known

    def remove(self, account_id: str) -> None:
        """The account is no longer served."""
        self._by_account.pop(account_id, None)
