"""The loop of every background task: when it polls, what it waits for, and what ends it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import StorageBusyError, StorageClosedError, StorageError, StorageUnavailableError
from inboxd.runtime.worker import Schedule, Wakeup, WakeupOfOne, each, work
from inboxd.storage.database import Database
from structlog.testing import capture_logs

from tests.support import TravelClock, eventually, full_disk

EVENT = "test_waits_for_storage"
SCHEDULE = Schedule(storage_event=EVENT, storage_rest_s=5)
REFUSAL = StorageUnavailableError("the disk is full")

Step = Callable[[], Awaitable[float | None]]


class Polled:
    """A worker whose poll is given."""

    name = "polled"

    def __init__(self, step: Step) -> None:
        self.wakeup = Wakeup()
        self.polls = 0
        self.ended = 0
        self._step = step

    async def poll(self) -> float | None:
        self.polls += 1
        try:
            return await self._step()
        finally:
            self.ended += 1


def answering(*answers: float | Exception | None) -> Step:
    """A poll that gives these answers in turn, and the last one from then on."""
    left = list(answers)

    async def step() -> float | None:
        answer = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return step


@asynccontextmanager
async def running(
    worker: Polled, clock: Clock | None = None, schedule: Schedule = SCHEDULE
) -> AsyncIterator["asyncio.Task[None]"]:
    task = asyncio.create_task(work(worker, clock or Clock(), logs.get("test"), schedule))
    try:
        yield task
    finally:
        worker.wakeup.stop()
        await asyncio.wait([task], timeout=10)
        assert task.done()


async def polls(worker: Polled, count: int) -> None:
    async def reached() -> bool:
        return worker.polls >= count

    await eventually(reached)


async def turns(count: int = 20) -> None:
    """Let everything go on that needs no time."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_a_poll_says_when_the_next_one_is_due() -> None:
    clock = TravelClock()
    worker = Polled(answering(0, 60, None))
    async with running(worker, clock):
        await clock.travel(59)
        assert worker.polls == 2, "0 means at once"
        await clock.travel(1)
        assert worker.polls == 3
        await clock.travel(100_000)
        assert worker.polls == 3, "None means not before somebody notifies"
        worker.wakeup.notify()
        await polls(worker, 4)


async def test_it_waits_for_storage_and_goes_on() -> None:
    clock = TravelClock()
    worker = Polled(answering(REFUSAL, StorageBusyError("too many wait"), None))
    with capture_logs() as lines:
        async with running(worker, clock):
            await clock.travel(4)
            assert worker.polls == 1
            await clock.travel(1)
            assert worker.polls == 2
            await clock.travel(5)
            assert worker.polls == 3
    assert [(line["event"], line["log_level"], line["error"]) for line in lines] == [
        (EVENT, "warning", "the disk is full"),
        (EVENT, "warning", "too many wait"),
    ]


async def test_a_real_disk_that_is_full_is_waited_for(database: Database) -> None:
    async def note() -> float | None:
        await database.execute("CREATE TABLE IF NOT EXISTS noted (at INTEGER)")
        await database.execute("INSERT INTO noted VALUES (1)")
        return None

    worker = Polled(note)
    with capture_logs() as lines, full_disk(database.path):
        task = asyncio.create_task(
            work(worker, Clock(), logs.get("test"), Schedule(storage_event=EVENT, storage_rest_s=0.01))
        )
        await polls(worker, 3)
    try:

        async def noted() -> bool:
            tables = await database.read("SELECT count(*) FROM sqlite_master WHERE name = 'noted'")
            return tables == [(1,)] and await database.read("SELECT count(*) FROM noted") == [(1,)]

        await eventually(noted)
    finally:
        worker.wakeup.stop()
        await task
    assert {line["event"] for line in lines} == {EVENT}


async def test_storage_that_is_closed_ends_the_loop() -> None:
    worker = Polled(answering(StorageClosedError("the database is closed")))
    with pytest.raises(StorageClosedError):
        await asyncio.wait_for(work(worker, Clock(), logs.get("test"), SCHEDULE), 5)
    assert worker.polls == 1


async def test_who_sees_to_storage_itself_must_let_nothing_out() -> None:
    worker = Polled(answering(REFUSAL))
    with pytest.raises(StorageUnavailableError):
        await asyncio.wait_for(work(worker, Clock(), logs.get("test"), Schedule()), 5)


async def test_any_other_error_is_raised() -> None:
    worker = Polled(answering(KeyError("a defect")))
    with pytest.raises(KeyError):
        await asyncio.wait_for(work(worker, Clock(), logs.get("test"), SCHEDULE), 5)


async def test_a_wakeup_during_a_poll_is_not_lost() -> None:
    async def step() -> float | None:
        if worker.polls == 1:
            worker.wakeup.notify()
            await asyncio.sleep(0.01)
        return None

    worker = Polled(step)
    async with running(worker):
        await polls(worker, 2)
        await turns()
        assert worker.polls == 2, "and it counts once"


async def test_wakeups_while_storage_refuses_make_no_hot_loop() -> None:
    clock = TravelClock()
    worker = Polled(answering(REFUSAL))
    async with running(worker, clock):
        await polls(worker, 1)
        for _ in range(50):
            worker.wakeup.notify()
            await turns()
        assert worker.polls == 1
        await clock.travel(5)
        assert worker.polls == 2


@pytest.mark.parametrize("answer", [None, 3600, REFUSAL])
async def test_a_stop_cuts_every_wait_short(answer: float | Exception | None) -> None:
    worker = Polled(answering(answer))
    schedule = Schedule(storage_event=EVENT, storage_rest_s=3600)
    async with running(worker, Clock(), schedule) as task:
        await polls(worker, 1)
        await turns()
        worker.wakeup.stop()
        await asyncio.wait_for(task, 5)
    assert worker.polls == 1


async def test_a_poll_in_hand_is_ended_before_the_loop_is() -> None:
    go_on = asyncio.Event()

    async def step() -> float | None:
        await go_on.wait()
        return 0

    worker = Polled(step)
    async with running(worker) as task:
        await polls(worker, 1)
        worker.wakeup.stop()
        await turns()
        assert not task.done()
        go_on.set()
        await asyncio.wait_for(task, 5)
    assert (worker.polls, worker.ended) == (1, 1)


async def test_a_worker_that_was_stopped_before_its_start_does_nothing() -> None:
    worker = Polled(answering(0))
    worker.wakeup.stop()
    await asyncio.wait_for(work(worker, Clock(), logs.get("test"), SCHEDULE), 5)
    assert worker.polls == 0


async def test_a_poll_that_never_waits_does_not_keep_the_event_loop_to_itself() -> None:
    worker = Polled(answering(0))
    async with running(worker):
        await turns()
        assert 1 < worker.polls < 100


async def test_whoever_waits_inside_a_poll_can_be_notified_too() -> None:
    told: list[bool] = []
    wakeup = Wakeup(lambda: told.append(True))
    wakeup.notify()
    wakeup.stop()
    assert told == [True, True]
    assert wakeup.stopping


async def test_lanes_poll_at_the_same_time() -> None:
    together = asyncio.Event()

    async def step() -> float | None:
        if worker.polls == 3:
            together.set()
        await together.wait()
        return None

    worker = Polled(step)
    async with running(worker, Clock(), Schedule(lanes=3)):
        await asyncio.wait_for(together.wait(), 5)


async def test_a_wakeup_reaches_every_lane_also_one_that_polls() -> None:
    """One lane rests and one is busy: the one that rests must not take the wake-up away from the other."""
    go_on = asyncio.Event()

    async def step() -> float | None:
        if worker.polls == 2:
            await go_on.wait()
        return None

    worker = Polled(step)
    async with running(worker, Clock(), Schedule(lanes=2)):
        await polls(worker, 2)
        await turns()
        worker.wakeup.notify()
        await turns()
        assert worker.polls == 3, "the lane that rested"
        go_on.set()
        await turns()
        assert worker.polls == 4, "the lane that polled, for what came meanwhile"


async def test_a_lane_that_raises_ends_the_others_and_its_error_is_told() -> None:
    async def step() -> float | None:
        if worker.polls == 2:
            msg = "on purpose"
            raise KeyError(msg)
        await asyncio.sleep(60)
        return None

    worker = Polled(step)
    with pytest.raises(KeyError):
        await asyncio.wait_for(work(worker, Clock(), logs.get("test"), Schedule(lanes=2)), 5)
    assert worker.ended == worker.polls


async def test_a_lane_that_waits_for_storage_does_not_stop_the_others() -> None:
    async def step() -> float | None:
        if worker.polls == 1:
            raise REFUSAL
        return 0.001

    worker = Polled(step)
    async with running(worker, Clock(), Schedule(lanes=2, storage_event=EVENT, storage_rest_s=3600)):
        await polls(worker, 5)


class Items:
    """Items to be handled one by one, and what became of them."""

    def __init__(self, **failures: BaseException) -> None:
        self.did: list[str] = []
        self._failures = failures

    async def handle(self, item: str) -> None:
        await asyncio.sleep(0)
        if item in self._failures:
            raise self._failures[item]
        self.did.append(item)

    async def set_aside(self, item: str, error: Exception) -> None:
        for _ in range(3):  # that it is durable takes its time
            await asyncio.sleep(0)
        self.did.append(f"{item} set aside: {error}")


async def test_a_bad_item_is_set_aside_before_the_next_one_is_taken() -> None:
    items = Items(b=ValueError("odd"), c=RuntimeError("odder"))
    await each(["a", "b", "c", "d"], items.handle, items.set_aside)
    assert items.did == ["a", "b set aside: odd", "c set aside: odder", "d"]


@pytest.mark.parametrize("error", [REFUSAL, StorageClosedError("closed"), asyncio.CancelledError()])
async def test_what_is_no_items_fault_is_raised_and_nothing_set_aside(error: BaseException) -> None:
    items = Items(b=error)
    with pytest.raises(type(error)):
        await each(["a", "b", "c"], items.handle, items.set_aside)
    assert items.did == ["a"]


@pytest.mark.parametrize("error", [REFUSAL, RuntimeError("odd")])
async def test_an_item_that_cannot_be_set_aside_ends_the_round(error: Exception) -> None:
    async def refuse(_item: str, _error: Exception) -> None:
        raise error

    items = Items(a=ValueError("odd"))
    with pytest.raises(type(error)):
        await each(["a", "b"], items.handle, refuse)
    assert items.did == []


async def test_items_are_handled_again_only_where_storage_refused() -> None:
    """A poll that gives its items to `each`, in the loop: what was refused is done later, what is bad is not."""
    queue = ["a", "b", "c"]
    refusals: list[StorageError] = [REFUSAL]
    did: list[Any] = []

    async def handle(item: str) -> None:
        if item == "b":
            msg = "odd"
            raise ValueError(msg)
        if item == "c" and refusals:
            raise refusals.pop()
        did.append(item)
        queue.remove(item)

    async def set_aside(item: str, error: Exception) -> None:
        did.append((item, str(error)))
        queue.remove(item)

    async def step() -> float | None:
        await each(list(queue), handle, set_aside)
        return None

    clock = TravelClock()
    async with running(Polled(step), clock):
        await clock.travel(6)
    assert did == ["a", ("b", "odd"), "c"]


async def test_a_wakeup_of_one_reaches_one_lane_and_loses_nothing() -> None:
    gate = asyncio.Event()

    async def step() -> float | None:
        await gate.wait()
        return None

    worker = Polled(step)
    worker.wakeup = WakeupOfOne()
    async with running(worker, schedule=Schedule(lanes=3)):
        await polls(worker, 3)
        worker.wakeup.notify()  # every lane polls: the one that ends first must poll again
        gate.set()
        await polls(worker, 4)
        await turns()
        assert worker.polls == 4
        worker.wakeup.notify()
        await turns()
        assert worker.polls == 5, "one lane, not three"


async def test_a_stop_reaches_every_lane_of_a_wakeup_of_one() -> None:
    worker = Polled(answering(None))
    worker.wakeup = WakeupOfOne()
    async with running(worker, schedule=Schedule(lanes=3)) as task:
        await polls(worker, 3)
        await turns()
        assert not task.done()
    assert task.exception() is None


async def test_lanes_of_which_one_watches_poll_once_for_a_time_and_never_later_than_any_asks() -> None:
    rests = [600.0] * 5 + [60.0]

    async def step() -> float | None:
        return rests.pop() if rests else 60.0

    worker, clock = Polled(step), TravelClock()
    worker.wakeup = WakeupOfOne()
    async with running(worker, clock, schedule=Schedule(lanes=6, one_watches=True)):
        await clock.travel(59)
        assert worker.polls == 6
        await clock.travel(2)
        assert worker.polls == 7, "the lane with the earliest time watches, and the others do not look with it"
        await clock.travel(600)
        assert worker.polls == 17


async def test_lanes_without_a_watcher_have_one_as_soon_as_one_of_them_rests() -> None:
    """The lane that watched takes something and is long about it: what it notifies makes another one watch."""
    gate = asyncio.Event()
    begins: list[bool] = []

    async def step() -> float | None:
        if begins:
            begins.pop()
            worker.wakeup.notify()
            await gate.wait()
        return 60.0

    worker, clock = Polled(step), TravelClock()
    worker.wakeup = WakeupOfOne()
    async with running(worker, clock, schedule=Schedule(lanes=3, one_watches=True)):
        await clock.travel(50)
        begins.append(True)
        await clock.travel(11)
        assert worker.polls == 3 + 2
        await clock.travel(60)
        assert worker.polls == 3 + 3, "while one lane is busy, another one has polled for the time"
        gate.set()
