"""What the workers of every kind of run have in common: one run at a time, steered, watched, waiting."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final, Generic, TypeVar

from inboxd.accounts.manager import ManagedAccount
from inboxd.domain.run import Run, RunStatus
from inboxd.runs.store import RunStore
from inboxd.runtime.clock import Clock
from inboxd.runtime.worker import Wakeup

R = TypeVar("R", bound=Run)
T = TypeVar("T")
PROGRESS_S: Final = 1.0
"""Rest between two events about the progress of a run."""


class InterruptedRun(Exception):  # noqa: N818 - not an error
    """The wait was ended: the run was paused or cancelled, or the daemon stops."""


class RunWorker(Generic[R]):
    """Carries out the runs of one account, one after the other. What is done is stored before the next call."""

    def __init__(self, managed: ManagedAccount, runs: RunStore[R], clock: Clock) -> None:
        self.account_id = managed.account.id
        self.name = f"{runs.kind.value}:{self.account_id}"
        self.wakeup = Wakeup(on_notify=self._end_wait)
        """Notified when a run was started or steered: ends the wait that a poll is in, if any."""
        self._managed = managed
        self._runs = runs
        self._clock = clock
        self._waiting: asyncio.Task[Any] | None = None
        self._tell_at = 0.0
        self._account_changed = asyncio.Event()
        managed.listeners.append(self._account_changed.set)

    async def poll(self) -> float | None:
        """Work on the active run until it ends, is paused or cancelled, or the worker stops. Raises StorageError."""
        active = await self._runs.active(self.account_id)
        if active is None or active.status is RunStatus.PAUSED:
            return None
        if active.status is RunStatus.QUEUED:
            await self._change(active, RunStatus.RUNNING)
        await self._walk(active)
        return 0

    async def _walk(self, run: R) -> None:
        """Work on a run until it is completed, or no longer running, or the worker stops. Raises StorageError."""
        raise NotImplementedError

    def _tell_state(self, run: R, status: RunStatus) -> None:
        """Log that the run has another status."""
        raise NotImplementedError

    async def _until_callable(self) -> None:
        """Wait while the account needs a login. The budget is waited for in the call itself. Raises InterruptedRun."""
        await self._wait(self._callable())

    async def _callable(self) -> None:
        while not self._managed.account.callable:
            self._account_changed.clear()
            await self._account_changed.wait()

    async def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        """Do `work`, which a notification ends. Raises InterruptedRun then."""
        task: asyncio.Task[T] = asyncio.ensure_future(work)
        self._waiting = task
        try:
            return await task
        except asyncio.CancelledError:
            if task.cancelled() and not _we_are_cancelled():
                raise InterruptedRun from None
            task.cancel()
            raise
        finally:
            self._waiting = None

    def _end_wait(self) -> None:
        """End the wait that a poll is in, if any."""
        if self._waiting is not None:
            self._waiting.cancel()

    def _begin_call(self) -> None:
        """Called when the wait for the budget is over: the call itself is not ended, or it would be made twice."""
        self._waiting = None

    async def _still_running(self, run_id: str) -> R | None:
        run = await self._runs.get(run_id)
        return run if run is not None and run.status is RunStatus.RUNNING and not self.wakeup.stopping else None

    async def _change(self, run: R, status: RunStatus, reason: str | None = None) -> None:
        # When somebody paused or cancelled the run since it was read, that stands.
        if await self._runs.set_status(run.id, status, self._clock.now_ms(), reason, only_from=[run.status]):
            self._tell_state(run, status)

    async def _tell_progress(self, run_id: str) -> None:
        """Record how the run stands, about once a second."""
        now = self._clock.monotonic()
        if now >= self._tell_at:
            self._tell_at = now + PROGRESS_S
            await self._runs.record_progress(run_id, self._clock.now_ms())


def _we_are_cancelled() -> bool:
    current = asyncio.current_task()
    return current is not None and current.cancelling() > 0
