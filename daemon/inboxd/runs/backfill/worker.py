"""Backfill fetches the profiles that an account's conversations lack: the latest activity first, one at a time."""

from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final

from inboxd.domain.backfill import BackfillRun
from inboxd.domain.budget import Priority
from inboxd.domain.paging import Place
from inboxd.domain.profile import ProfileState
from inboxd.domain.retry import PROFILE_FETCH, FailureAction, decide
from inboxd.domain.run import ConversationOutcome, RunStatus
from inboxd.meta.graph_errors import GraphError
from inboxd.profiles.sync import ACCOUNT_WIDE, ProfileSync
from inboxd.runs import store
from inboxd.runs.backfill.store import TOP, BackfillStore, Candidate
from inboxd.runs.store import Attempt
from inboxd.runs.worker import InterruptedRun, RunWorker
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock
from inboxd.runtime.worker import Schedule

BUSY_REST_S: Final = 0.2
"""Pause before trying again to claim a participant whose profile the live fetcher is fetching."""
SCHEDULE: Final = Schedule(storage_event="backfill_waits_for_storage", storage_rest_s=1)


class BackfillWorker(RunWorker[BackfillRun]):
    """Carries out the backfill runs of one account."""

    def __init__(self, sync: ProfileSync, backfills: BackfillStore, clock: Clock, random: Callable[[], float]) -> None:
        super().__init__(sync.managed, backfills, clock)
        self._sync = sync
        self._backfills = backfills
        self._random = random
        self._log = logs.get("backfill").bind(account_id=self.account_id)

    async def _walk(self, run: BackfillRun) -> None:
        """Walk the conversations of a run, batch by batch."""
        after: Place | None = None
        while (current := await self._still_running(run.id)) is not None:
            limit = current.batch_size
            if current.max_conversations is not None:
                limit = min(limit, current.max_conversations - current.processed)
            batch = await self._backfills.candidates(current, after, limit) if limit > 0 else []
            if batch:
                after = await self._walk_batch(current, batch)
            elif after is None or limit <= 0:
                await self._change(current, RunStatus.COMPLETED)
                return
            else:
                after = None  # from the top again: a message may have moved a conversation up meanwhile

    async def _walk_batch(self, run: BackfillRun, batch: list[Candidate]) -> Place:
        """Work on one batch and store its counts. Returns the place of the last conversation that was done."""
        began = self._clock.now_ms()
        counts: Counter[ConversationOutcome] = Counter()
        place = TOP
        for candidate in batch:
            try:
                outcome = await self._get_profile(run, candidate)
            except InterruptedRun:
                break
            place = Place(candidate.last_message_at, candidate.conversation_id)
            if outcome is not None:
                counts[outcome] += 1
                await self._tell_progress(run.id)
            if await self._still_running(run.id) is None:
                break
        if counts:
            await self._backfills.add_batch(run.id, began, self._clock.now_ms(), dict(counts))
        return place

    async def _get_profile(self, run: BackfillRun, candidate: Candidate) -> ConversationOutcome | None:
        """Get one profile. None: no outcome yet; the conversation comes again after the others.

        Raises InterruptedRun.
        """
        reason = self._skip_reason(candidate)
        if reason is not None:
            return await self._record(run, candidate, ConversationOutcome.SKIPPED, reason)
        while not await self._sync.claim(candidate.participant_id):
            await self._wait(self._clock.sleep(BUSY_REST_S))
        try:
            if await self._backfills.has_profile(run, candidate.participant_id):  # the live fetcher was faster
                return await self._record(run, candidate, ConversationOutcome.SUCCESS, None)
            return await self._fetch(run, candidate)
        finally:
            await self._sync.release(candidate.participant_id)

    def _skip_reason(self, candidate: Candidate) -> str | None:
        """Why a fetch would fail, if that is known already. None: it may succeed."""
        if candidate.state is ProfileState.NO_CONSENT:
            return candidate.reason or "the person has not written yet"
        later = candidate.next_attempt_at is not None and candidate.next_attempt_at > self._clock.now_ms()
        if candidate.state is ProfileState.UNAVAILABLE and (later or candidate.next_attempt_at is None):
            return candidate.reason or "there is no profile"
        return None

    async def _fetch(self, run: BackfillRun, candidate: Candidate) -> ConversationOutcome | None:
        """Fetch a profile: up to three attempts with back-off.

        A failure of the account or of Meta's host counts as no attempt; the fetch waits until it has passed.
        """
        who, attempt, silences = candidate.participant_id, 1, 0
        success = Attempt(
            candidate.conversation_id, who, ConversationOutcome.SUCCESS, None, None, attempt, self._clock.now_ms()
        )
        while True:
            # In the transaction that stores the profile: after a crash there are both, or neither.
            also = partial(store.record, run_id=run.id, attempt=success._replace(attempts=attempt))
            error = await self._wait(self._sync.fetch(who, Priority.BACKFILL, also=also, on_turn=self._begin_call))
            if error is None:
                return ConversationOutcome.SUCCESS
            if error.of_host:  # no attempt: the next call waits until the host is back
                silences += 1
                await self._wait(self._sync.rest(silences))
                continue
            silences = 0
            if error.action in ACCOUNT_WIDE:
                if error.row.ambiguous:
                    return None  # others must be asked about first: they tell whether it is the account's failure
                await self._until_callable()
                continue
            decision = decide(error.action, attempt, PROFILE_FETCH, self._random)
            if decision.exhausted:
                return await self._give_up(run, candidate, attempt, error)
            await self._wait(self._clock.sleep(decision.delay_s or 0.0))
            attempt += 1

    async def _give_up(
        self, run: BackfillRun, candidate: Candidate, attempt: int, error: GraphError
    ) -> ConversationOutcome:
        """Store that a participant was asked about without success, for this run and for live fetches."""
        outcome = (
            ConversationOutcome.SKIPPED if error.action is FailureAction.WAIT_FOR_PERSON else ConversationOutcome.ERROR
        )
        now = self._clock.now_ms()
        tried = Attempt(
            candidate.conversation_id, candidate.participant_id, outcome, error.code, str(error), attempt, now
        )  # fmt: skip
        also = partial(store.record, run_id=run.id, attempt=tried)
        await self._sync.record_failure(candidate.participant_id, attempt, error, also)
        return outcome

    async def _record(
        self, run: BackfillRun, candidate: Candidate, outcome: ConversationOutcome, reason: str | None
    ) -> ConversationOutcome:
        """Store the outcome of a conversation whose participant was not asked about."""
        now = self._clock.now_ms()
        tried = Attempt(candidate.conversation_id, candidate.participant_id, outcome, None, reason, 0, now)
        await self._backfills.record(run.id, tried)
        return outcome

    def _tell_state(self, run: BackfillRun, status: RunStatus) -> None:
        has_errors = status.finished and run.error_count > 0
        log = self._log.warning if has_errors else self._log.info
        log(
            "backfill_state",
            run_id=run.id,
            state=status.value,
            total=run.total,
            errors=run.error_count,
            skipped=run.skipped_count,
        )
