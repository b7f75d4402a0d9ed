"""The one loop of every background task: poll, wait, poll again; wait for storage when it refuses."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Literal, Protocol, TypeVar

from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import StorageClosedError, StorageError
from inboxd.runtime.logs import Log

Item = TypeVar("Item")


class Wakeup:
    """How others reach a worker: to poll soon, or to stop. Each worker has one, for its whole life."""

    def __init__(self, on_notify: Callable[[], None] = lambda: None) -> None:
        self.stopped = asyncio.Event()
        """Set by `stop`, for ever."""
        self._on_notify = on_notify
        self._next = asyncio.Event()

    @property
    def stopping(self) -> bool:
        """Whether the worker was told to stop. A long poll looks at it between its steps."""
        return self.stopped.is_set()

    @property
    def next(self) -> asyncio.Event:
        """Set by the next `notify`. Take it before a poll, and wait for it after the poll: then nothing is missed."""
        return self._next

    def notify(self) -> None:
        """There is something to do, or something has changed: poll soon. Every lane of the worker does."""
        due, self._next = self._next, asyncio.Event()
        due.set()
        self._on_notify()

    def stop(self) -> None:
        """End the loop after the poll in hand, and cut every wait short."""
        self.stopped.set()
        self.notify()


class WakeupOfOne(Wakeup):
    """The wakeup of a worker whose lanes share work that comes in small pieces: each `notify` reaches one lane.

    A poll that finds more than it takes calls `notify` again, so lanes begin one after the other, and no lane is woken
    in vain. A notification that comes while every lane polls is for the lane that ends first.
    """

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[_Turn] = deque()
        self._missed = False

    @property
    def next(self) -> asyncio.Event:
        """Set by a `notify` that is for this lane. Each lane takes its own."""
        return _Turn(self)

    def notify(self) -> None:
        """There is something to do: one lane polls soon."""
        if self._waiting:
            self._waiting.popleft().set()
        else:
            self._missed = True

    def stop(self) -> None:
        """End every lane after the poll in hand."""
        self.stopped.set()
        while self._waiting:
            self._waiting.popleft().set()

    def wait(self, turn: "_Turn") -> None:
        """A lane begins to wait."""
        if self._missed or self.stopping:
            self._missed = False
            turn.set()
        else:
            self._waiting.append(turn)

    def leave(self, turn: "_Turn") -> None:
        """A lane waits no more."""
        if turn in self._waiting:
            self._waiting.remove(turn)


class _Turn(asyncio.Event):
    """What one lane waits for."""

    def __init__(self, wakeup: WakeupOfOne) -> None:
        super().__init__()
        self._wakeup = wakeup

    async def wait(self) -> Literal[True]:
        self._wakeup.wait(self)
        try:
            return await super().wait()
        finally:
            self._wakeup.leave(self)


class Worker(Protocol):
    """A background task, as one step that is done again and again."""

    @property
    def name(self) -> str:
        """Its name in logs: `avatars`, or `tokens:<account id>`. In metrics it is what is before the colon."""

    @property
    def wakeup(self) -> Wakeup:
        """How others reach it. The loop ends when it says `stopping`."""

    async def poll(self) -> float | None:
        """Do some of what is due. Returns the seconds until the next poll: 0 when more waits, None until `notify`.

        May raise StorageError: the loop waits and polls again. Any other exception is a crash.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """How one worker is run."""

    essential: bool = False
    """Without it nothing can be done: when it crashes too often, the process ends."""
    lanes: int = 1
    """How many polls run at a time."""
    one_watches: bool = False
    """Whether lanes that rest share one timer: the lane with the earliest time polls for all of them. The others wait
    for `notify`, which each poll must call that takes something, so that another lane watches meanwhile."""
    storage_event: str | None = None
    """What is logged, as a warning, when a poll raises StorageError. None: the poll handles StorageError itself, and
    one that gets out is a crash."""
    storage_rest_s: float = 1.0
    """Seconds until the next poll after a StorageError. Only a stop cuts them short."""
    log_part: str | None = None
    """The field `part` of that warning. None: the worker's name without the account."""
    log_id: str = "account_id"
    """The field of that warning for what is after the colon of the worker's name."""


async def work(worker: Worker, clock: Clock, log: Log, schedule: Schedule) -> None:
    """Poll until the worker is told to stop. Raises what a poll raises, except StorageError while storage refuses.

    StorageClosedError is raised: storage does not come back from that. When one lane raises, the others are cancelled.
    """
    timers = _Timers(clock, shared=schedule.one_watches)
    if schedule.lanes == 1:
        await _lane(worker, timers, log, schedule)
        return
    try:
        async with asyncio.TaskGroup() as lanes:
            for number in range(schedule.lanes):
                lanes.create_task(_lane(worker, timers, log, schedule), name=f"{worker.name}:{number}")
    except ExceptionGroup as crashes:
        raise crashes.exceptions[0] from crashes


class _Timers:
    """How long the lanes of one worker rest."""

    def __init__(self, clock: Clock, *, shared: bool) -> None:
        self.clock = clock
        self._shared = shared
        self._ends: list[float] = []

    async def wait(self, notified: asyncio.Event, rest_s: float | None) -> None:
        """Wait until `notified`, or for `rest_s`. A lane whose time another one awaits already waits for no time."""
        ends = None if rest_s is None else self.clock.monotonic() + rest_s
        if ends is None or (self._shared and self._ends and min(self._ends) <= ends):
            await self.clock.wait(notified, None)
            return
        self._ends.append(ends)
        try:
            await self.clock.wait(notified, rest_s)
        finally:
            self._ends.remove(ends)


async def _lane(worker: Worker, timers: _Timers, log: Log, schedule: Schedule) -> None:
    wakeup = worker.wakeup
    while not wakeup.stopping:
        notified = wakeup.next  # before the poll: what is notified during it counts after it
        try:
            rest_s = await worker.poll()
        except StorageClosedError:
            raise
        except StorageError as error:
            if schedule.storage_event is None:
                raise
            log.warning(schedule.storage_event, error=str(error))
            # Not `notified`: a worker that is notified again and again must not try again and again.
            await timers.clock.wait(wakeup.stopped, schedule.storage_rest_s)
            continue
        if rest_s == 0:
            await asyncio.sleep(0)  # a poll that had to wait for nothing must not keep the event loop to itself
        else:
            await timers.wait(notified, rest_s)


async def each(
    items: Iterable[Item],
    handle: Callable[[Item], Awaitable[object]],
    set_aside: Callable[[Item, Exception], Awaitable[object]],
) -> None:
    """`handle` each item. One that raises is handed to `set_aside` before the next one is taken.

    `set_aside` logs the error and makes it durable that the item is not to be handled again, or not soon: a worker that
    fails on an item must not fail on it again after a restart. StorageError is no fault of an item and is raised.
    """
    for item in items:
        try:
            await handle(item)
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the other items go on
            await set_aside(item, error)
