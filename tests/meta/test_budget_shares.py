"""Reconciliation, history and backfill beside live calls, and the pace of the Conversations API."""

import asyncio
import random

import pytest
from inboxd.domain.budget import Priority
from inboxd.meta.throttle import PacedThrottle
from inboxd.storage.database import Database

from tests.meta.test_budget import HOUR, Rig, busiest_hour
from tests.support import TravelClock

BEHIND = (Priority.RECONCILIATION, Priority.HISTORY, Priority.BACKFILL)


def of(rig: Rig, *priorities: Priority) -> list[float]:
    return [at for at, priority in rig.calls if priority in priorities]


async def test_history_and_backfill_leave_reconciliation_its_share(database: Database) -> None:
    clock = TravelClock()
    rig = await Rig(database, clock, calls_per_hour=50).started()
    with rig.working(Priority.HISTORY, Priority.BACKFILL):
        await clock.travel(200)
        assert len(rig.calls) == 30, "a fifth is for live calls, and a fifth for reconciliation"
        with rig.working(Priority.RECONCILIATION):
            await clock.travel(60)
    assert len(of(rig, Priority.RECONCILIATION)) == 10


async def test_reconciliation_does_not_exceed_its_share_and_holds_up_nobody(database: Database) -> None:
    clock = TravelClock()
    rig = await Rig(database, clock, calls_per_hour=50).started()
    with rig.working(*[Priority.RECONCILIATION] * 3):
        await clock.travel(100)
        assert len(rig.calls) == 10
        assert rig.budget.free_for(Priority.RECONCILIATION) == 0
        with rig.working(Priority.HISTORY, Priority.BACKFILL):
            await clock.travel(100)
            assert len(rig.calls) == 40
            await clock.travel(3 * HOUR)
    assert busiest_hour(of(rig, Priority.RECONCILIATION)) == 10
    assert busiest_hour(of(rig, Priority.HISTORY, Priority.BACKFILL)) == 30


async def test_calls_that_wait_go_in_the_order_of_their_priority(database: Database) -> None:
    clock = TravelClock()
    rig = await Rig(database, clock).started()
    rig.budget.throttle.trip(60, "a pause")
    order = [Priority.BACKFILL, Priority.HISTORY, Priority.RECONCILIATION, Priority.LIVE]
    calls = []
    for priority in order:
        calls.append(asyncio.ensure_future(rig.work(priority, count=1)))
        await clock.travel(1)
    await clock.travel(100)
    await asyncio.gather(*calls)
    assert [priority for _, priority in rig.calls] == order[::-1]


async def test_another_share_holds_from_the_next_call_on(database: Database) -> None:
    clock = TravelClock()
    rig = await Rig(database, clock, calls_per_hour=50).started()
    rig.budget.share_reconciliation(0.5)
    assert rig.budget.allowance_for(Priority.RECONCILIATION) == 25
    assert rig.budget.allowance_for(Priority.HISTORY) == rig.budget.backfill_allowance == 15
    rig.budget.limit(20, 1_000_000)
    assert rig.budget.allowance_for(Priority.RECONCILIATION) == 10, "a new allowance keeps the share"
    with pytest.raises(ValueError, match="between 0 and 1"):
        rig.budget.share_reconciliation(2)
    rig.budget.share_reconciliation(0)
    with rig.working(*BEHIND):
        await clock.travel(100)
    assert len(rig.calls) == 16
    assert len(of(rig, Priority.RECONCILIATION)) == 1


@pytest.mark.parametrize("allowance", [1, 2, 3, 4])
async def test_however_small_the_allowance_is_everything_goes_on(database: Database, allowance: int) -> None:
    clock = TravelClock()
    rig = await Rig(database, clock, calls_per_hour=allowance).started()
    for priority in BEHIND:
        with rig.working(priority):
            await clock.travel(2 * HOUR)
        assert of(rig, priority), priority.name
    assert busiest_hour([at for at, _ in rig.calls]) <= allowance


@pytest.mark.parametrize("seed", range(6))
async def test_whatever_happens_the_hour_holds_and_live_calls_wait_for_nothing(database: Database, seed: int) -> None:
    chance = random.Random(seed)
    clock = TravelClock()
    made: list[tuple[float, Priority]] = []
    kept_waiting: list[float] = []
    for _ in range(3):
        rig = await Rig(database, clock, calls_per_hour=25).started()
        rig.budget.share_reconciliation(chance.choice([0.1, 0.2, 0.4]))
        waiting = []
        with rig.working(*BEHIND, *chance.choices(BEHIND, k=3)):
            for _ in range(15):
                await clock.travel(chance.choice([1, 60, 600]))
                if rig.budget.free_for(Priority.LIVE):
                    before = len(of(rig, Priority.LIVE))
                    waiting.append(asyncio.ensure_future(rig.work(count=1, takes_s=chance.choice([0.1, 30]))))
                    asked_at = clock.seconds
                    await clock.travel(0.001)
                    started = of(rig, Priority.LIVE)[before:]
                    kept_waiting += [asked_at] if started != [asked_at] else []
        for call in waiting:
            call.cancel()
        most = rig.budget.allowance_for(Priority.RECONCILIATION)
        assert busiest_hour([*of(rig, Priority.RECONCILIATION), -HOUR]) <= most
        made += rig.calls

    assert kept_waiting == []
    assert busiest_hour([at for at, _ in made]) <= 25
    assert {priority for _, priority in made} >= {Priority.LIVE, Priority.RECONCILIATION}


@pytest.mark.parametrize("latency_s", [0.0, 0.2, 0.7, 3.0])
async def test_the_pace_of_the_conversations_api_holds_wherever_meta_counts(
    database: Database, latency_s: float
) -> None:
    clock = TravelClock()
    rig = await Rig(database, clock, calls_per_hour=1000).started()
    throttle = PacedThrottle(clock, calls=2, window_s=1.0)
    counted: list[tuple[float, float]] = []

    async def read(priority: Priority) -> None:
        while True:
            async with rig.budget.call(priority, throttle):
                began = clock.seconds
                await clock.sleep(latency_s)
                counted.append((began, clock.seconds))

    tasks = [asyncio.ensure_future(read(priority)) for priority in BEHIND]
    await clock.travel(12)
    for task in tasks:
        task.cancel()
    for moment in (0, 1):
        for seed in range(5):
            chance = random.Random(seed)
            arrived = [one[moment] if seed == 0 else chance.uniform(*one) for one in counted]
            assert max(sum(start <= at < start + 1 - 1e-9 for at in arrived) for start in arrived) <= 2
    assert len(counted) >= 20 / (1 + latency_s), "and it is no slower than it must be"


async def test_who_waits_for_the_pace_of_one_api_does_not_hold_up_other_calls(database: Database) -> None:
    clock = TravelClock()
    rig = await Rig(database, clock, calls_per_hour=1000).started()
    throttle = PacedThrottle(clock, calls=2, window_s=1.0)

    async def read() -> None:
        async with rig.budget.call(Priority.LIVE, throttle):
            await clock.sleep(10)

    reading = [asyncio.ensure_future(read()) for _ in range(5)]
    await clock.travel(1)
    assert rig.budget.report().waiting == 3
    await rig.work(Priority.BACKFILL, count=1, takes_s=0)
    assert len(rig.calls) == 1
    for one in reading:
        one.cancel()
