import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from inboxd.runtime import supervisor as module
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import StorageUnavailableError
from inboxd.runtime.metrics import Metrics
from inboxd.runtime.supervisor import MAX_CRASHES, Supervisor
from inboxd.runtime.worker import Schedule, Wakeup
from structlog.testing import capture_logs

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
        self.wakeup = Wakeup()
        self.calm = asyncio.Event()

    async def poll(self) -> float | None:
        self.left -= 1
        if self.left >= 0:
            msg = "on purpose"
            raise RuntimeError(msg)
        self.calm.set()
        await self.wakeup.stopped.wait()
        return None


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
        supervisor.start(Crashing(99), Schedule(essential=True))
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
        async def poll(self) -> float | None:
            await asyncio.Event().wait()
            return None

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


async def test_a_crash_now_and_then_is_none_in_a_row() -> None:
    clock = Impatient()

    class Seldom(Crashing):
        async def poll(self) -> float | None:
            clock.now += 3_600_000
            return await super().poll()

    async with Supervisor(clock, Metrics(), lambda: 0.0, on_give_up=pytest.fail) as supervisor:
        worker = Seldom(MAX_CRASHES * 2)
        supervisor.start(worker, Schedule(essential=True))
        await asyncio.wait_for(worker.calm.wait(), 5)
        assert supervisor.parked == []


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


class Polled:
    """A worker that is polled, and whose poll is given."""

    def __init__(self, poll: Callable[[], Coroutine[Any, Any, float | None]], name: str = "polled:7") -> None:
        self.name = name
        self.wakeup = Wakeup()
        self.poll = poll


async def test_a_worker_that_is_polled_is_restarted_and_counted_under_its_kind() -> None:
    left, calm = [ValueError("on purpose")] * MAX_CRASHES, asyncio.Event()

    async def poll() -> float | None:
        if left:
            raise left.pop()
        calm.set()
        return None

    metrics = Metrics()
    async with Supervisor(Impatient(), metrics, lambda: 0.0, on_give_up=pytest.fail) as supervisor:
        supervisor.start(Polled(poll))
        await asyncio.wait_for(calm.wait(), 5)
        assert supervisor.running == ["polled:7"]
        assert [(one.name, one.reason) for one in supervisor.parked] == [("polled:7", "ValueError: on purpose")]
    assert supervisor.running == []
    count = metrics.registry.get_sample_value("inboxd_worker_restarts_total", {"worker": "polled"})
    assert count == MAX_CRASHES


async def test_a_lane_that_crashes_again_and_again_parks_the_worker_with_its_own_error() -> None:
    async def poll() -> float | None:
        msg = "on purpose"
        raise ValueError(msg)

    gave_up = asyncio.Event()
    async with Supervisor(Impatient(), Metrics(), lambda: 0.0, on_give_up=gave_up.set) as supervisor:
        supervisor.start(Polled(poll), Schedule(lanes=3))

        async def parked() -> bool:
            return [one.reason for one in supervisor.parked] == ["ValueError: on purpose"]

        await eventually(parked)
        await supervisor.end("polled:7")
        assert not gave_up.is_set()
        supervisor.start(Polled(poll), Schedule(lanes=3, essential=True))
        await asyncio.wait_for(gave_up.wait(), 5)


async def test_what_a_poll_holds_is_finished_before_the_end() -> None:
    began, held = asyncio.Event(), []

    async def poll() -> float | None:
        began.set()
        await asyncio.sleep(0.05)
        held.append("finished")
        return 0

    async with Supervisor(Clock(), Metrics(), lambda: 0.0, on_give_up=pytest.fail) as supervisor:
        supervisor.start(Polled(poll))
        await began.wait()
    assert held == ["finished"]


@pytest.mark.parametrize(
    ("name", "part", "fields"),
    [
        ("polled:7", None, {"part": "polled", "account_id": "7"}),
        ("polled", None, {"part": "polled"}),
        ("polled", "desk", {"part": "desk"}),
    ],
)
async def test_a_refusal_of_storage_is_told_by_the_part_that_waits(
    name: str, part: str | None, fields: dict[str, str]
) -> None:
    left, calm = [StorageUnavailableError("full")], asyncio.Event()

    async def poll() -> float | None:
        if left:
            raise left.pop()
        calm.set()
        return None

    metrics = Metrics()
    with capture_logs() as lines:
        async with Supervisor(Clock(), metrics, lambda: 0.0, on_give_up=pytest.fail) as supervisor:
            supervisor.start(
                Polled(poll, name), Schedule(storage_event="polled_waits", storage_rest_s=0.001, log_part=part)
            )
            await asyncio.wait_for(calm.wait(), 5)
    assert lines == [{"event": "polled_waits", "log_level": "warning", "error": "full", **fields}]
    assert metrics.registry.get_sample_value("inboxd_worker_restarts_total", {"worker": "polled"}) == 0
