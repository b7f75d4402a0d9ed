import asyncio

import pytest
from inboxd.clock import Clock
from inboxd.metrics import Metrics
from inboxd.workers import pool as module
from inboxd.workers.pool import MAX_CRASHES, WorkerPool

from tests.support import ManualClock, eventually


class Impatient(ManualClock):
    """Waits for nothing."""

    async def wait(self, event: asyncio.Event, timeout_s: float | None) -> bool:
        await self.sleep(timeout_s or 0)
        return event.is_set()


class Crashing:
    name = "crashing"

    def __init__(self, times: int) -> None:
        self.left = times
        self.stopped = asyncio.Event()
        self.calm = asyncio.Event()

    async def run(self) -> None:
        self.left -= 1
        if self.left >= 0:
            msg = "on purpose"
            raise RuntimeError(msg)
        self.calm.set()
        await self.stopped.wait()

    def stop(self) -> None:
        self.stopped.set()


async def test_a_crashed_worker_is_restarted_and_counted() -> None:
    metrics = Metrics()
    async with WorkerPool(Impatient(), metrics, lambda: 0.0, on_give_up=pytest.fail) as pool:
        worker = Crashing(MAX_CRASHES - 1)
        pool.start(worker)

        async def calm() -> bool:
            return worker.left < 0

        await eventually(calm)
        assert pool.running == ["crashing"]
    assert pool.running == []
    count = metrics.registry.get_sample_value("inboxd_worker_restarts_total", {"worker": "crashing"})
    assert count == MAX_CRASHES - 1


async def test_an_essential_worker_that_crashes_too_often_is_given_up() -> None:
    gave_up = asyncio.Event()
    clock = Impatient()
    async with WorkerPool(clock, Metrics(), lambda: 0.0, on_give_up=gave_up.set) as pool:
        pool.start(Crashing(99), essential=True)
        await asyncio.wait_for(gave_up.wait(), 5)
    assert pool.gave_up
    assert clock.slept == sorted(clock.slept)


async def test_a_worker_beside_the_road_is_parked_and_ends_nothing() -> None:
    clock = Impatient()
    async with WorkerPool(clock, Metrics(), lambda: 0.0, on_give_up=pytest.fail) as pool:
        worker = Crashing(MAX_CRASHES + 3)
        pool.start(worker)

        async def calm() -> bool:
            return worker.left < 0

        await eventually(calm)
        assert clock.slept == sorted(clock.slept)
        assert max(clock.slept) >= 100
        (parked,) = pool.parked
        assert (parked.name, parked.crashes, parked.reason) == (
            "crashing", MAX_CRASHES + 3, "RuntimeError: on purpose",
        )  # fmt: skip
        assert parked.since < clock.now_ms()

        clock.now += int(module.HEALTHY_AFTER_S * 1000)
        assert pool.parked == []


async def test_a_worker_that_does_not_stop_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stubborn(Crashing):
        def stop(self) -> None:
            pass

    monkeypatch.setattr(module, "GRACE_S", 0.05)
    async with WorkerPool(Clock(), Metrics(), lambda: 0.0, on_give_up=pytest.fail) as pool:
        pool.start(Stubborn(0))
        await asyncio.sleep(0)
    assert pool.running == []


@pytest.mark.parametrize(("crashes", "parked"), [(MAX_CRASHES - 1, 0), (MAX_CRASHES, 1)])
async def test_so_many_crashes_park_a_worker(crashes: int, parked: int) -> None:
    async with WorkerPool(Impatient(), Metrics(), lambda: 0.0, on_give_up=pytest.fail) as pool:
        worker = Crashing(crashes)
        pool.start(worker)

        async def calm() -> bool:
            return worker.left < 0

        await eventually(calm)
        assert len(pool.parked) == parked
        await pool.end("crashing")
        assert pool.parked == [], "whoever is ended is not missed"


async def test_a_crash_now_and_then_is_none_in_a_row() -> None:
    clock = Impatient()

    class Seldom(Crashing):
        async def run(self) -> None:
            clock.now += 3_600_000
            await super().run()

    async with WorkerPool(clock, Metrics(), lambda: 0.0, on_give_up=pytest.fail) as pool:
        worker = Seldom(MAX_CRASHES * 2)
        pool.start(worker, essential=True)
        await asyncio.wait_for(worker.calm.wait(), 5)
        assert pool.parked == []


async def test_a_parked_worker_tells_since_when_not_when_it_crashed_last() -> None:
    told = []
    for crashes in (MAX_CRASHES, MAX_CRASHES + 3):
        async with WorkerPool(Impatient(), Metrics(), lambda: 0.0, on_give_up=pytest.fail) as pool:
            worker = Crashing(crashes)
            pool.start(worker)
            await asyncio.wait_for(worker.calm.wait(), 5)
            told += [one.since for one in pool.parked]
    assert len(told) == 2
    assert told[0] == told[1]


async def test_a_parked_worker_that_rests_is_not_taken_for_a_healthy_one() -> None:
    class Resting(Impatient):
        async def wait(self, event: asyncio.Event, timeout_s: float | None) -> bool:
            if (timeout_s or 0) < 30:
                return await super().wait(event, timeout_s)
            resting.set()
            return await event.wait()

    resting, clock = asyncio.Event(), Resting()
    async with WorkerPool(clock, Metrics(), lambda: 0.5, on_give_up=pytest.fail) as pool:
        pool.start(Crashing(99))
        await asyncio.wait_for(resting.wait(), 5)
        clock.now += 10 * int(module.HEALTHY_AFTER_S * 1000)
        assert [one.name for one in pool.parked] == ["crashing"]
