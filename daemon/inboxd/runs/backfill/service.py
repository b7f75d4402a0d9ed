"""Backfill runs are started, steered and estimated here, for the API, the pages, the schedule and the command."""

import secrets
from typing import NamedTuple

import msgspec

from inboxd.accounts.manager import ManagedAccount
from inboxd.domain.backfill import BackfillRun
from inboxd.domain.budget import times_slower
from inboxd.domain.run import STEERING, RunStatus, Steering, estimated_s
from inboxd.runs.backfill.store import BackfillStore
from inboxd.runtime.clock import Clock, iso_utc
from inboxd.runtime.worker import Wakeup


class Estimate(msgspec.Struct, frozen=True):
    """The status of a run at this moment, and how long the run will still take."""

    status: RunStatus
    reason: str | None
    eta_s: float | None


class _AccountWorker(NamedTuple):
    """The worker of an account: the account, and how the worker is told of changes."""

    managed: ManagedAccount
    wakeup: Wakeup


class BackfillService:
    """Starts, steers and estimates runs. A run is carried out by the worker of its account."""

    def __init__(self, backfills: BackfillStore, clock: Clock) -> None:
        self._backfills = backfills
        self._clock = clock
        self._workers: dict[str, _AccountWorker] = {}

    def add(self, managed: ManagedAccount, wakeup: Wakeup) -> None:
        """From now on a worker carries out the runs of this account; `wakeup` is how it is told of changes."""
        self._workers[managed.account.id] = _AccountWorker(managed, wakeup)

    def remove(self, account_id: str) -> None:
        """The account is no longer served."""
        self._workers.pop(account_id, None)

    def serves(self, account_id: str) -> bool:
        """Whether a worker carries out runs of this account."""
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
        """Store a new run and return it: queued, or completed at once when it only counts (`dry_run`).

        Profiles fetched before `refresh_before` (ms) are fetched again. With a `key` that was used before, for a
        request with the same hash, the run of that time is returned.

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
        self._notify(account_id)
        return stored

    async def steer(self, run: BackfillRun, how: Steering) -> bool:
        """Pause, resume or cancel a run. False: its status does not allow that. Raises StorageError."""
        status, allowed = STEERING[how]
        changed = await self._backfills.set_status(run.id, status, self._clock.now_ms(), only_from=allowed)
        self._notify(run.account_id)
        return changed

    def estimate(self, run: BackfillRun) -> Estimate:
        """What a run is doing now, and how many seconds it will still take (None: unknown)."""
        worker = self._workers.get(run.account_id)
        if run.dry_run:
            return Estimate(run.status, run.reason, self.duration_s(run.account_id, run.left))
        if run.status.finished or worker is None:
            return Estimate(run.status, run.reason, None)
        eta_s = self.duration_s(run.account_id, run.left)
        if run.status is not RunStatus.RUNNING:
            return Estimate(run.status, run.reason, eta_s)
        return Estimate(*self._shown_status(worker.managed, run), eta_s)

    def _shown_status(self, managed: ManagedAccount, run: BackfillRun) -> tuple[RunStatus, str | None]:
        """How the status of a running run is shown, and the reason: what its next call waits for, if anything."""
        graph, budget, now = managed.graph, managed.graph.budget, self._clock.now_ms()
        wait_s = budget.wait_s(graph.profiles_throttle)
        if not managed.account.callable:
            return RunStatus.PAUSED, managed.account.reason
        if graph.circuit.strikes:
            again, why = iso_utc(now + int(graph.circuit.stopped_s() * 1000)), graph.circuit.reason
            return RunStatus.WAITING, f"Meta's host does not answer ({why}); it is asked again at {again}"
        if wait_s > 1.0:
            return RunStatus.WAITING, f"the next call may be made at {iso_utc(now + int(wait_s * 1000))}"
        if budget.slowness > 1:
            until = iso_utc(now + int(budget.slowed_s() * 1000))
            slower = times_slower(budget.slowness)
            return run.status, f"calls are {slower} until {until}: Meta says that its allowance runs out"
        return run.status, run.reason

    def duration_s(self, account_id: str, calls: int) -> float | None:
        """Seconds that so many calls of backfill take with the account's budget as it is. None: it is not served."""
        worker = self._workers.get(account_id)
        if worker is None:
            return None
        graph = worker.managed.graph
        budget = graph.budget
        return estimated_s(
            calls,
            now_free=budget.backfill_free(),
            per_hour=budget.backfill_allowance,
            per_second=budget.calls_per_second,
            wait_s=budget.wait_s(graph.profiles_throttle) if budget.backfill_free() else 0.0,
            slowness=budget.slowness,
            slow_s=budget.slowed_s(),
        )

    def _notify(self, account_id: str) -> None:
        worker = self._workers.get(account_id)
        if worker is not None:
            worker.wakeup.notify()
