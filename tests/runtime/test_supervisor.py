import asyncio

import pytest
from inboxd.runtime import supervisor as module
from inboxd.runtime.clock import Clock
from inboxd.runtime.metrics import Metrics
from inboxd.runtime.supervisor import MAX_CRASHES, Supervisor

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
    async with Supervisor(Impatient(), metrics, lambda: 0.0, on_give_up=pytest.fail) as supervisor:
        worker = Crashing(MAX_CRASHES - 1)
        supervisor.start(worker)

        async def calm() -> bool:
            return worker.left < 0

        await eventually(calm)
        assert supervisor.running == ["crashing"]
    assert supervisor.running == []
    count = metrics.registry.get_sample_value("inboxd_worker_restarts_total", {"worker": "crashing"})
    assert count == MAX_CRASHES - 1


async def test_an_essential_worker_that_crashes_too_often_is_given_up() -> None:
    gave_up = asyncio.Event()
    clock = Impatient()
    async with Supervisor(clock, Metrics(), lambda: 0.0, on_give_up=gave_up.set) as supervisor:
        supervisor.start(Crashing(99), essential=True)
        await asyncio.wait_for(gave_up.wait(), 5)
    assert supervisor.gave_up
    assert clock.slept == sorted(clock.slept)


async def test_a_worker_beside_the_road_is_parked_and_ends_nothing() -> None:
    clock = Impatient()
    async with Supervisor(clock, Metrics(), lambda: 0.0, on_give_up=pytest.fail) as supervisor:
        worker = Crashing(MAX_CRASHES + 3)
        supervisor.start(worker)

        async def calm() -> bool:
            return worker.left < 0

        await eventually(calm)
        assert clock.slept == sorted(clock.slept)
        assert max(clock.slept) >= 100
        (parked,) = supervisor.parked
        assert (parked.name, parked.crashes, parked.reason) == (
            "crashing", MAX_CRASHES + 3, "RuntimeError: on purpose",
        )  # fmt: skip
        assert parked.since < clock.now_ms()

        clock.now += int(module.HEALTHY_AFTER_S * 1000)
        assert supervisor.parked == []


async def test_a_worker_that_does_not_stop_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    class Stubborn(Crashing):
        def stop(self) -> None:
            pass

    monkeypatch.setattr(module, "GRACE_S", 0.05)
    async with Supervisor(Clock(), Metrics(), lambda: 0.0, on_give_up=pytest.fail) as supervisor:
        supervisor.start(Stubborn(0))
        await asyncio.sleep(0)
    assert supervisor.running == []


@pytest.mark.parametrize(("crashes", "parked"), [(MAX_CRASHES - 1, 0), (MAX_CRASHES, 1)])
async def test_so_many_crashes_park_a_worker(crashes: int, parked: int) -> None:
    async with Supervisor(Impatient(), Metrics(), lambda: 0.0, on_give_up=pytest.fail) as supervisor:
        worker = Crashing(crashes)
        supervisor.start(worker)

        async def calm() -> bool:
            return worker.left < 0

        await eventually(calm)
        assert len(supervisor.parked) == parked
        await supervisor.end("crashing")
        assert supervisor.parked == [], "whoever is ended is not missed"


async def test_a_parked_worker_tells_since_when_not_when_it_crashed_last() -> None:
    told = []
    for crashes in (MAX_CRASHES, MAX_CRASHES + 3):
        async with Supervisor(Impatient(), Metrics(), lambda: 0.0, on_give_up=pytest.fail) as supervisor:
            worker = Crashing(crashes)
            supervisor.start(worker)
            await asyncio.wait_for(worker.calm.wait(), 5)
            told += [one.since for one in supervisor.parked]
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
    async with Supervisor(clock, Metrics(), lambda: 0.5, on_give_up=pytest.fail) as supervisor:
        supervisor.start(Crashing(99))
        await asyncio.wait_for(resting.wait(), 5)
        clock.now += 10 * int(module.HEALTHY_AFTER_S * 1000)
        assert [one.name for one in supervisor.parked] == ["crashing"]
