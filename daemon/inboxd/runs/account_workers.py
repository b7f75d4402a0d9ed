"""The worker of each account for one kind of run: it comes and goes with the account."""

from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from inboxd.accounts.manager import ManagedAccount
from inboxd.domain.run import Run, RunStatus
from inboxd.feature import Job
from inboxd.runs.service import RunService
from inboxd.runs.store import RunStore
from inboxd.runs.worker import RunWorker
from inboxd.runtime.clock import Clock
from inboxd.runtime.worker import Schedule

R = TypeVar("R", bound=Run)


class RunWorkers(Generic[R]):
    """Makes the worker of each account with `make`, and fails the run of an account that is no longer served."""

    def __init__(
        self,
        service: RunService[R],
        runs: RunStore[R],
        clock: Clock,
        schedule: Schedule,
        make: Callable[[ManagedAccount], RunWorker[R]],
    ) -> None:
        self._service = service
        self._runs = runs
        self._clock = clock
        self._schedule = schedule
        self._make = make

    def for_account(self, managed: ManagedAccount) -> Sequence[Job]:
        """The worker that carries out the runs of an account that begins to be served."""
        worker = self._make(managed)
        self._service.add(managed, worker.wakeup)
        return [Job(worker, self._schedule)]

    async def account_removed(self, account_id: str) -> None:
        """The account is no longer served: its run that is not finished has failed. Raises StorageError."""
        self._service.remove(account_id)
        run = await self._runs.active(account_id)
        if run is not None:
            reason = "the account is no longer served"
            await self._runs.set_status(run.id, RunStatus.FAILED, self._clock.now_ms(), reason)
