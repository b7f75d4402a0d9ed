"""The supervisor of workers: every background task has a name, an owner, and an end."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Final, NamedTuple, Self

from inboxd.runtime import logs
from inboxd.runtime.backoff import Backoff
from inboxd.runtime.clock import Clock
from inboxd.runtime.metrics import Metrics
from inboxd.runtime.worker import Schedule, Worker, work

MAX_CRASHES: Final = 5
"""Crashes in a row after which a worker counts as parked. An essential one ends the process, for systemd to start
afresh."""
HEALTHY_AFTER_S: Final = 60.0
"""A worker that ran this long since its last crash starts counting anew."""
GRACE_S: Final = 1.0
"""How long workers get to finish what they hold; then they are cancelled. Everything they do can be done again."""
_BACKOFF: Final = Backoff(base_s=0.5, cap_s=30)
_PARKED_BACKOFF: Final = Backoff(base_s=30, cap_s=600)
_MAX_REASON: Final = 300
_PLAIN: Final = Schedule()


class ParkedWorker(NamedTuple):
    """A worker that crashes again and again. It is started again after ever longer rests."""

    name: str
    since: int
    """When it was parked (ms)."""
    crashes: int
    reason: str


class Supervisor:
    """Runs workers, restarts those that crash, and ends them all. An async context manager.

    A worker that crashed MAX_CRASHES times in a row is parked: it is started again after ever longer rests, and whoever
    looks is told. Only for an essential one, without which nothing can be done, `on_give_up` is called instead.
    """

    def __init__(
        self, clock: Clock, metrics: Metrics, random: Callable[[], float], *, on_give_up: Callable[[], None]
    ) -> None:
        self._clock = clock
        self._metrics = metrics
        self._random = random
        self._log = logs.get("pool")
        self._workers: list[Worker] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._on_give_up = on_give_up
        self.gave_up = False
        """Whether an essential worker crashed too often: the process should exit non-zero."""
        self._parked: dict[str, ParkedWorker] = {}
        metrics.workers_parked.set_function(lambda: len(self.parked))
        self._running_since: dict[str, float] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self._workers:
            worker.wakeup.stop()
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks.values(), timeout=GRACE_S)
        for task in late:
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    @property
    def running(self) -> list[str]:
        """Names of the workers that run."""
        return [name for name, task in self._tasks.items() if not task.done()]

    def start(self, worker: Worker, schedule: Schedule = _PLAIN) -> None:
        """Run `worker` as `schedule` says, until the supervisor ends or `end` is called."""
        self._metrics.worker_restarts.labels(_kind(worker))  # from 0 on, so that the first crash is seen as a rise
        self._workers.append(worker)
        self._tasks[worker.name] = asyncio.create_task(self._supervise(worker, schedule), name=worker.name)

    async def end(self, name: str) -> None:
        """End one worker, as the end of the supervisor would: it gets GRACE_S to finish what it holds."""
        worker = next((one for one in self._workers if one.name == name), None)
        if worker is None:
            return
        self._workers.remove(worker)
        worker.wakeup.stop()
        task = self._tasks.pop(name)
        _, late = await asyncio.wait([task], timeout=GRACE_S)
        if late:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        self._parked.pop(name, None)  # it may have crashed once more on its way out

    async def _supervise(self, worker: Worker, schedule: Schedule) -> None:
        crashes = 0
        while not worker.wakeup.stopping:
            started = self._running_since[worker.name] = self._clock.monotonic()
            try:
                await self._run(worker, schedule)
            except Exception as error:  # noqa: BLE001 - logged, counted, restarted
                self._running_since.pop(worker.name, None)
                if self._clock.monotonic() - started >= HEALTHY_AFTER_S:
                    crashes = 0
                crashes += 1
                self._metrics.worker_restarts.labels(_kind(worker)).inc()
                self._log.exception("worker_crashed", worker=worker.name, crashes=crashes)
                if crashes >= MAX_CRASHES and schedule.essential:
                    self._log.critical("worker_gave_up", worker=worker.name)
                    self.gave_up = True
                    self._on_give_up()
                    return
                await self._clock.wait(worker.wakeup.stopped, self._rest_s(worker, crashes, error))
            else:
                return

    async def _run(self, worker: Worker, schedule: Schedule) -> None:
        kind, _, name = worker.name.partition(":")
        log = logs.get(schedule.log_part or kind)
        await work(worker, self._clock, log.bind(**{schedule.log_id: name}) if name else log, schedule)

    @property
    def parked(self) -> list[ParkedWorker]:
        """Workers that crash again and again, except those that by now run as long as a healthy one."""
        now = self._clock.monotonic()
        return [
            one
            for name, one in self._parked.items()
            if name not in self._running_since or now - self._running_since[name] < HEALTHY_AFTER_S
        ]

    def _rest_s(self, worker: Worker, crashes: int, error: Exception) -> float:
        """Seconds until a worker that crashed is started again; it may be parked by that."""
        if crashes < MAX_CRASHES:
            self._parked.pop(worker.name, None)
            return _BACKOFF.delay_s(crashes, self._random)
        rest_s = _PARKED_BACKOFF.delay_s(crashes - MAX_CRASHES + 1, self._random)
        before = self._parked.get(worker.name)
        since = self._clock.now_ms() if before is None else before.since
        reason = f"{type(error).__name__}: {error}"[:_MAX_REASON]
        self._parked[worker.name] = ParkedWorker(worker.name, since, crashes, reason)
        self._log.error("worker_parked", worker=worker.name, crashes=crashes, error=reason, retry_in_s=round(rest_s))
        return rest_s


def _kind(worker: Worker) -> str:
    """Its name without the account's."""
    return worker.name.partition(":")[0]
