"""Backfill: walk the conversations of an account that lack a profile, newest activity first, one at a time."""

import asyncio
import secrets
from collections import Counter
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from inboxd.domain.backfill import STEERING, BackfillRun, ConversationOutcome, RunStatus, Steering, estimated_s
from inboxd.domain.budget import Priority, times_slower
from inboxd.domain.paging import Place
from inboxd.domain.profile import ProfileState
from inboxd.domain.retry import PROFILE_FETCH, FailureAction, decide
from inboxd.events.bus import EventBus
from inboxd.meta.graph_errors import GraphError
from inboxd.profiles.sync import ACCOUNT_WIDE, ProfileSync
from inboxd.runs.backfill import store
from inboxd.runs.backfill.store import Attempt, BackfillStore, Candidate
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock, iso_utc
from inboxd.runtime.errors import StorageClosedError, StorageError

T = TypeVar("T")
STORAGE_REST_S: Final = 1.0
BUSY_REST_S: Final = 0.2
"""Pause before looking again at somebody whom live enrichment is asking about."""


class _Interrupted(Exception):  # noqa: N818 - not an error: somebody wants us to look up
    """The wait was ended because the run was paused or cancelled, or the daemon stops."""


class BackfillWorker:
    """Carries out the runs of one account, one after the other. What is done is in the file at any instant."""

    def __init__(
        self, sync: ProfileSync, backfills: BackfillStore, clock: Clock, bus: EventBus, random: Callable[[], float]
    ) -> None:
        self.name = f"backfill:{sync.account_id}"
        self.account_id = sync.account_id
        self._sync = sync
        self._backfills = backfills
        self._clock = clock
        self._bus = bus
        self._random = random
        self._wake = asyncio.Event()
        self._stopping = False
        self._waiting: asyncio.Task[Any] | None = None
        self._log = logs.get("backfill").bind(account_id=self.account_id)
        sync.served.listeners.append(self._wake.set)

    def look_up(self) -> None:
        """Something about the runs has changed: end any waiting, and see."""
        self._wake.set()
        if self._waiting is not None:
            self._waiting.cancel()

    def stop(self) -> None:
        """End `run` after the call in hand; the run goes on after the next start."""
        self._stopping = True
        self.look_up()

    async def run(self) -> None:
        """Carry out runs as they come, until `stop`."""
        while not self._stopping:
            self._wake.clear()
            try:
                active = await self._backfills.active(self.account_id)
                if active is None or active.status is RunStatus.PAUSED:
                    await self._clock.wait(self._wake, None)
                else:
                    await self._walk(active)
            except StorageClosedError:
                raise
            except StorageError as error:
                self._log.warning("backfill_waits_for_storage", error=str(error))
                await self._clock.sleep(STORAGE_REST_S)

    async def _walk(self, run: BackfillRun) -> None:
        """Work on a run until it ends, is paused, or the daemon stops."""
        if run.status is RunStatus.QUEUED:
            await self._change(run, RunStatus.RUNNING)
        after: Place | None = None
        while (current := await self._still_running(run.id)) is not None:
            limit = current.batch_size
            if current.max_conversations is not None:
                limit = min(limit, current.max_conversations - current.processed)
            batch = await self._backfills.candidates(current, after, limit) if limit > 0 else []
            if batch:
                after = await self._batch(current, batch)
            elif after is None or limit <= 0:
                await self._change(current, RunStatus.COMPLETED)
                return
            else:
                after = None  # from the top again: somebody may have come up from below meanwhile

    async def _batch(self, run: BackfillRun, batch: list[Candidate]) -> Place:
        """Work on one batch; where the walk is after it."""
        began = self._clock.now_ms()
        counts: Counter[ConversationOutcome] = Counter()
        place = None
        for candidate in batch:
            try:
                outcome = await self._one(run, candidate)
            except _Interrupted:
                break
            place = Place(candidate.last_message_at, candidate.conversation_id)
            if outcome is not None:
                counts[outcome] += 1
                await self._tell(run.id)
            if await self._still_running(run.id) is None:
                break
        if counts:
            await self._backfills.add_batch(run.id, began, self._clock.now_ms(), dict(counts))
        return place or Place(2**62, 2**62)

    async def _one(self, run: BackfillRun, candidate: Candidate) -> ConversationOutcome | None:
        """Get one profile; None when that is not decided, because others must be asked first."""
        known = self._hopeless(candidate)
        if known is not None:
            return await self._record(run, candidate, ConversationOutcome.SKIPPED, known)
        while not await self._sync.claim(candidate.participant_id):
            await self._wait(self._clock.sleep(BUSY_REST_S))
        try:
            if await self._backfills.has_profile(run, candidate.participant_id):  # live enrichment was faster
                return await self._record(run, candidate, ConversationOutcome.SUCCESS, None)
            return await self._fetch(run, candidate)
        finally:
            await self._sync.release(candidate.participant_id)

    def _hopeless(self, candidate: Candidate) -> str | None:
        """Why asking cannot help, if that is known already."""
        if candidate.state is ProfileState.NO_CONSENT:
            return candidate.reason or "the person has not written yet"
        later = candidate.next_attempt_at is not None and candidate.next_attempt_at > self._clock.now_ms()
        if candidate.state is ProfileState.UNAVAILABLE and (later or candidate.next_attempt_at is None):
            return candidate.reason or "there is no profile"
        return None

    async def _fetch(self, run: BackfillRun, candidate: Candidate) -> ConversationOutcome | None:
        """Up to three attempts with back-off. What concerns the account or Meta's host is waited for: no attempt."""
        who, attempt, silences = candidate.participant_id, 1, 0
        success = Attempt(
            candidate.conversation_id, who, ConversationOutcome.SUCCESS, None, None, attempt, self._clock.now_ms()
        )
        while True:
            also = partial(store.record, run_id=run.id, attempt=success._replace(attempts=attempt))
            error = await self._wait(self._sync.fetch(who, Priority.BACKFILL, also=also, on_turn=self._begin_call))
            if error is None:
                return ConversationOutcome.SUCCESS
            if error.of_host:  # nobody's fault, and no attempt: the next call waits until the host is back
                silences += 1
                await self._wait(self._sync.rest(silences))
                continue
            silences = 0
            if error.remedy in ACCOUNT_WIDE:
                if error.row.ambiguous:
                    return None
                await self._until_callable()
                continue
            decision = decide(error.remedy, attempt, PROFILE_FETCH, self._random)
            if decision.exhausted:
                return await self._give_up(run, candidate, attempt, error)
            await self._wait(self._clock.sleep(decision.delay_s or 0.0))
            attempt += 1

    async def _give_up(
        self, run: BackfillRun, candidate: Candidate, attempt: int, error: GraphError
    ) -> ConversationOutcome:
        outcome = (
            ConversationOutcome.SKIPPED if error.remedy is FailureAction.WAIT_FOR_PERSON else ConversationOutcome.ERROR
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
        """Note what became of somebody whom nobody was asked about."""
        now = self._clock.now_ms()
        tried = Attempt(candidate.conversation_id, candidate.participant_id, outcome, None, reason, 0, now)
        await self._backfills.record(run.id, tried)
        return outcome

    async def _until_callable(self) -> None:
        """Wait while the account needs a login; the budget waits by itself."""
        while not self._sync.served.account.callable:
            self._wake.clear()
            await self._wait(self._wake.wait())

    async def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work`, which `look_up` may end. Raises _Interrupted then."""
        task: asyncio.Task[T] = asyncio.ensure_future(work)
        self._waiting = task
        try:
            return await task
        except asyncio.CancelledError:
            if task.cancelled() and not _we_are_cancelled():
                raise _Interrupted from None
            task.cancel()
            raise
        finally:
            self._waiting = None

    def _begin_call(self) -> None:
        """Waiting is over and the call is made: it is not cut off any more, or it would be made twice."""
        self._waiting = None

    async def _still_running(self, run_id: str) -> BackfillRun | None:
        run = await self._backfills.get(run_id)
        return run if run is not None and run.status is RunStatus.RUNNING and not self._stopping else None

    async def _change(self, run: BackfillRun, status: RunStatus) -> None:
        # Whoever paused or cancelled it since it was read has the last word.
        if not await self._backfills.set_status(run.id, status, self._clock.now_ms(), only_from=[run.status]):
            return
        await self._tell(run.id)
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

    async def _tell(self, run_id: str) -> None:
        run = await self._backfills.get(run_id)
        if run is not None:
            self._bus.publish("backfill.progressed", {"jobId": run.id, **summary(run)})


def _we_are_cancelled() -> bool:
    current = asyncio.current_task()
    return current is not None and current.cancelling() > 0


def summary(run: BackfillRun) -> dict[str, object]:
    """What listeners are told of a run."""
    return {
        "accountId": run.account_id,
        "status": run.status.value,
        "total": run.total,
        "successCount": run.success_count,
        "errorCount": run.error_count,
        "skippedCount": run.skipped_count,
    }


class Estimate(msgspec.Struct, frozen=True):
    """How a run stands at this moment."""

    status: RunStatus
    reason: str | None
    eta_s: float | None


class BackfillService:
    """Starting runs and steering them: what the API, the schedule and the command have in common."""

    def __init__(self, backfills: BackfillStore, clock: Clock) -> None:
        self._backfills = backfills
        self._clock = clock
        self._workers: dict[str, tuple[BackfillWorker, ProfileSync]] = {}

    def enter(self, worker: BackfillWorker, sync: ProfileSync) -> None:
        """An account's worker begins to work."""
        self._workers[worker.account_id] = (worker, sync)

    def leave(self, account_id: str) -> None:
        """An account is no longer served."""
        self._workers.pop(account_id, None)

    def serves(self, account_id: str) -> bool:
        """Whether runs of this account can be carried out."""
        return account_id in self._workers

    async def start(
        self,
        account_id: str,
        *,
        origin: str,
        batch_size: int,
        max_conversations: int | None = None,
        refresh_before: int = 0,
        dry_run: bool = False,
        key: str | None = None,
        request_hash: bytes | None = None,
    ) -> BackfillRun:
        """A new run, queued; a dry one counts and is completed at once.

        Raises RunActiveError, KeyReusedError, StorageError.
        """
        now = self._clock.now_ms()
        total, skipped = await self._backfills.count(account_id, refresh_before, now)
        if max_conversations is not None:
            total = min(total, max_conversations)
        run = BackfillRun(
            id=secrets.token_hex(8),
            account_id=account_id,
            status=RunStatus.COMPLETED if dry_run else RunStatus.QUEUED,
            origin=origin,
            batch_size=batch_size,
            max_conversations=max_conversations,
            refresh_before=refresh_before,
            dry_run=dry_run,
            total=total,
            skipped_count=min(skipped, total) if dry_run else 0,
            created_at=now,
            started_at=now if dry_run else None,
            finished_at=now if dry_run else None,
        )
        stored = await self._backfills.create(run, key=key, request_hash=request_hash)
        self._look_up(account_id)
        return stored

    async def steer(self, run: BackfillRun, how: Steering) -> bool:
        """Pause, resume or cancel a run; False when it stands where that cannot be."""
        status, allowed = STEERING[how]
        changed = await self._backfills.set_status(run.id, status, self._clock.now_ms(), only_from=allowed)
        self._look_up(run.account_id)
        return changed

    def estimate(self, run: BackfillRun) -> Estimate:
        """What a run is doing now, and how long it will still take."""
        found = self._workers.get(run.account_id)
        if run.dry_run:
            return Estimate(run.status, run.reason, self.duration_s(run.account_id, run.left))
        if run.status.finished or found is None:
            return Estimate(run.status, run.reason, None)
        served = found[1].served
        budget = served.graph.budget
        wait_s = budget.wait_s(served.graph.profiles_throttle)
        eta_s = self.duration_s(run.account_id, run.left)
        status, reason = run.status, run.reason
        if status is RunStatus.RUNNING and not served.account.callable:
            status, reason = RunStatus.PAUSED, served.account.reason
        elif status is RunStatus.RUNNING and served.graph.circuit.strikes:
            again = iso_utc(self._clock.now_ms() + int(served.graph.circuit.stopped_s() * 1000))
            why = served.graph.circuit.reason
            status, reason = RunStatus.WAITING, f"Meta's host does not answer ({why}); it is asked again at {again}"
        elif status is RunStatus.RUNNING and wait_s > 1.0:
            until = iso_utc(self._clock.now_ms() + int(wait_s * 1000))
            status, reason = RunStatus.WAITING, f"the next call may be made at {until}"
        elif status is RunStatus.RUNNING and budget.slowness > 1:
            until = iso_utc(self._clock.now_ms() + int(budget.slowed_s() * 1000))
            reason = f"calls are {times_slower(budget.slowness)} until {until}: Meta says that its allowance runs out"
        return Estimate(status, reason, eta_s)

    def duration_s(self, account_id: str, calls: int) -> float | None:
        """How long so many calls of backfill take with the account's budget as it is."""
        found = self._workers.get(account_id)
        if found is None:
            return None
        graph = found[1].served.graph
        budget = graph.budget
        stopped_s = budget.wait_s(graph.profiles_throttle) if budget.backfill_free() else 0.0
        return estimated_s(
            calls,
            now_free=budget.backfill_free(),
            per_hour=budget.backfill_allowance,
            per_second=budget.calls_per_second,
            wait_s=stopped_s,
            slowness=budget.slowness,
            slow_s=budget.slowed_s(),
        )

    def _look_up(self, account_id: str) -> None:
        found = self._workers.get(account_id)
        if found is not None:
            found[0].look_up()
