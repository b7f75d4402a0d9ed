"""Runs of one kind are stored, steered and estimated here, for the API, the pages, the schedule and the command."""

import secrets
from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar

from inboxd.accounts.managed_account import ManagedAccount
from inboxd.domain.budget import Priority, times_slower
from inboxd.domain.run import STEERING, Estimate, Run, RunStatus, Steering, estimated_s
from inboxd.meta.account_graph import AccountGraph
from inboxd.meta.throttle import Throttle
from inboxd.runs.store import RunStore
from inboxd.runtime.clock import Clock, iso_utc
from inboxd.runtime.worker import Wakeup

R = TypeVar("R", bound=Run)


class Pace(NamedTuple):
    """What the calls of a kind of run wait for."""

    priority: Priority
    throttle: Callable[[AccountGraph], Throttle]
    """The throttle that holds for this kind of call only."""
    per_second: float
    """The most calls in a second, whatever the account's own pace."""
    per_item: float = 1.0
    """How many calls a conversation takes, as a rule."""


class _AccountWorker(NamedTuple):
    """The worker of an account: the account, and how the worker is told of changes."""

    managed: ManagedAccount
    wakeup: Wakeup


class RunService(Generic[R]):
    """Stores, steers and estimates runs. A run is carried out by the worker of its account."""

    def __init__(self, runs: RunStore[R], clock: Clock, pace: Pace) -> None:
        self._runs = runs
        self._clock = clock
        self._pace = pace
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

    async def steer(self, run: R, how: Steering) -> bool:
        """Pause, resume or cancel a run. False: its status does not allow that. Raises StorageError."""
        status, allowed = STEERING[how]
        changed = await self._runs.set_status(run.id, status, self._clock.now_ms(), only_from=allowed)
        self._notify(run.account_id)
        return changed

    def estimate(self, run: R) -> Estimate:
        """What a run is doing now, and how many seconds it will still take (None: unknown)."""
        worker = self._workers.get(run.account_id)
        calls = round(run.left * self._pace.per_item)
        if run.dry_run:
            return Estimate(run.status, run.reason, self.duration_s(run.account_id, calls))
        if run.status.finished or worker is None:
            return Estimate(run.status, run.reason, None)
        eta_s = self.duration_s(run.account_id, calls)
        if run.status is not RunStatus.RUNNING:
            return Estimate(run.status, run.reason, eta_s)
        return Estimate(*self._shown_status(worker.managed, run), eta_s)

    def duration_s(self, account_id: str, calls: int) -> float | None:
        """Seconds that so many calls take with the account's budget as it is. None: the account is not served."""
        worker = self._workers.get(account_id)
        if worker is None:
            return None
        graph, priority = worker.managed.graph, self._pace.priority
        budget = graph.budget
        free = budget.free_for(priority)
        return estimated_s(
            calls,
            now_free=free,
            per_hour=budget.allowance_for(priority),
            per_second=min(budget.calls_per_second, self._pace.per_second),
            wait_s=budget.wait_s(self._pace.throttle(graph), priority) if free else 0.0,
            slowness=budget.slowness,
            slow_s=budget.slowed_s(),
        )

    def _shown_status(self, managed: ManagedAccount, run: R) -> tuple[RunStatus, str | None]:
        """How the status of a running run is shown, and the reason: what its next call waits for, if anything."""
        graph, budget, now = managed.graph, managed.graph.budget, self._clock.now_ms()
        wait_s = budget.wait_s(self._pace.throttle(graph), self._pace.priority)
        if not managed.account.callable:
            return RunStatus.PAUSED, managed.account.reason
        if graph.circuit.strikes:
            again, why = iso_utc(now + int(graph.circuit.stopped_s() * 1000)), graph.circuit.reason
            return RunStatus.WAITING, f"Meta's host does not answer ({why}); it is asked again at {again}"
        if wait_s > 1.0:
            why = budget.report(self._pace.throttle(graph)).reason or "what it may take of this hour's calls is used up"
            return RunStatus.WAITING, f"the next call may be made at {iso_utc(now + int(wait_s * 1000))}: {why}"
        if budget.slowness > 1:
            until = iso_utc(now + int(budget.slowed_s() * 1000))
            slower = times_slower(budget.slowness)
            return run.status, f"calls are {slower} until {until}: Meta says that its allowance runs out"
        return run.status, run.reason

    async def _create(self, run: R, *, key: str | None, request_hash: bytes | None) -> R:
        """Store a new run, and wake its worker. Raises RunActiveError, KeyReusedError, StorageError."""
        stored = await self._runs.create(run, key=key, request_hash=request_hash)
        self._notify(run.account_id)
        return stored

    def _new(self, account_id: str, *, origin: str, dry_run: bool, max_conversations: int | None) -> dict[str, Any]:
        """What a new run of any kind is made of: queued, or completed at once when it only counts."""
        now = self._clock.now_ms()
        return {
            "id": secrets.token_hex(8),
            "account_id": account_id,
            "status": RunStatus.COMPLETED if dry_run else RunStatus.QUEUED,
            "origin": origin,
            "max_conversations": max_conversations,
            "dry_run": dry_run,
            "created_at": now,
            "started_at": now if dry_run else None,
            "finished_at": now if dry_run else None,
        }

    def _notify(self, account_id: str) -> None:
        worker = self._workers.get(account_id)
        if worker is not None:
            worker.wakeup.notify()
