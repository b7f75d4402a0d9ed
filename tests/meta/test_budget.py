"""The budget over hours, restarts and reboots, on a clock that is ours and a file that is real."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from inboxd.accounts.call_log_store import SqliteCallLog
from inboxd.domain.budget import Priority
from inboxd.meta.budget import AppBudget, Budget
from inboxd.meta.throttle import FAILURES_TO_OPEN, FIRST_REST_S, YIELD_S, Circuit
from inboxd.runtime.errors import StorageError
from inboxd.storage.database import Database

from tests.support import ACCOUNT, TravelClock

HOUR = 3600.0


class Rig:
    """A budget as one process has it; another rig on the same database is the process after a restart."""

    def __init__(self, database: Database, clock: TravelClock, *, calls_per_hour: int = 10) -> None:
        self.clock = clock
        clock.database = database
        self.traffic = AppBudget(clock)
        self.host = Circuit(clock)
        self.ledger = SqliteCallLog(database, clock)
        self.budget = Budget(
            ACCOUNT,
            self.ledger,
            self.traffic,
            self.host,
            clock,
            calls_per_hour=calls_per_hour,
            calls_per_second=1_000_000,
        )
        self.calls: list[tuple[float, Priority]] = []

    async def started(self) -> "Rig":
        await self.traffic.load(self.ledger)
        await self.budget.load(longest_call_s=15)
        return self

    async def work(self, priority: Priority = Priority.LIVE, count: int = 1_000_000, *, takes_s: float = 1.0) -> None:
        for _ in range(count):
            async with self.budget.call(priority):
                self.calls.append((self.clock.seconds, priority))
                await self.clock.sleep(takes_s)

    @contextmanager
    def working(self, *priorities: Priority) -> Iterator[None]:
        tasks = [asyncio.ensure_future(self.work(priority)) for priority in priorities]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


def busiest_hour(calls: list[float]) -> int:
    return max(sum(start <= call < start + HOUR for call in calls) for start in calls)


async def test_no_hour_sees_more_calls_than_allowed_over_ten_restarts(database: Database) -> None:
    clock = TravelClock()
    made: list[float] = []
    for _ in range(10):
        rig = await Rig(database, clock).started()
        with rig.working(Priority.LIVE, Priority.BACKFILL):
            await clock.travel(700)  # and then the process is killed
        made += [at for at, _ in rig.calls]

    assert busiest_hour(made) == 10
    assert len(made) >= 19, "two hours allow twenty, and a restart costs next to nothing"


@pytest.mark.parametrize("jump_ms", [-400 * 86_400_000, 400 * 86_400_000])
async def test_a_wall_clock_that_jumps_neither_opens_nor_freezes_it(database: Database, jump_ms: int) -> None:
    clock = TravelClock()
    rig = await Rig(database, clock).started()
    with rig.working(Priority.LIVE):
        await clock.travel(100)
        clock.wall_ms += jump_ms
        await clock.travel(100)
    made = [at for at, _ in rig.calls]
    assert len(made) == 10

    clock.wall_ms += jump_ms
    rig = await Rig(database, clock).started()
    with rig.working(Priority.LIVE):
        await clock.travel(HOUR - 300)
        assert not rig.calls
        await clock.travel(300)
    assert len(rig.calls) >= 9


async def test_what_was_before_a_reboot_counts_as_having_been_at_boot(database: Database) -> None:
    clock = TravelClock(monotonic=50_000)
    rig = await Rig(database, clock).started()
    with rig.working(Priority.LIVE):
        await clock.travel(100)

    clock = TravelClock(boot="second boot", monotonic=20)
    rig = await Rig(database, clock).started()
    assert rig.budget.report().remaining == 0
    with rig.working(Priority.LIVE):
        await clock.travel(HOUR - 100)
        assert not rig.calls
        await clock.travel(200)
        assert len(rig.calls) == 10


async def test_backfill_leaves_a_fifth_to_live_work_and_lets_it_go_first(database: Database) -> None:
    clock = TravelClock()
    rig = await Rig(database, clock, calls_per_hour=50).started()
    rig.budget.share_reconciliation(0)
    with rig.working(Priority.BACKFILL, Priority.BACKFILL):
        await clock.travel(200)
        assert len(rig.calls) == 40
        with rig.working(Priority.LIVE):
            await clock.travel(1)
            assert rig.calls[-1][1] is Priority.LIVE
            await clock.travel(HOUR + 30)
    times = [at for at, _ in rig.calls]
    for number, (at, priority) in enumerate(rig.calls):
        if priority is Priority.BACKFILL:
            assert sum(at - HOUR < earlier for earlier in times[:number]) < 40
    assert busiest_hour(times) == 50


async def test_a_live_call_overtakes_a_queue_of_backfill(database: Database) -> None:
    clock = TravelClock()
    rig = await Rig(database, clock).started()
    rig.budget.throttle.trip(60, "a pause")
    with rig.working(*[Priority.BACKFILL] * 5):
        await clock.travel(1)
        with rig.working(Priority.LIVE):
            await clock.travel(60)
            assert rig.calls[0][1] is Priority.LIVE


async def test_calls_that_are_under_way_count(database: Database) -> None:
    clock = TravelClock()
    rig = await Rig(database, clock).started()
    calls = [asyncio.ensure_future(rig.work(count=1, takes_s=100)) for _ in range(12)]
    await clock.travel(50)
    assert len(rig.calls) == 10, "none of them has ended, and all of them are Meta's"
    for call in calls:
        call.cancel()


async def test_a_long_stop_is_not_ended_by_a_short_one(database: Database) -> None:
    clock = TravelClock()
    rig = await Rig(database, clock).started()
    rig.budget.throttle.trip(100, "Meta says when")
    rig.budget.throttle.trip(1, "another call that was under way")
    with rig.working(Priority.LIVE):
        await clock.travel(99)
        assert rig.calls == []
        await clock.travel(2)
        assert rig.calls != []


async def test_a_stop_outlives_the_process_and_then_one_call_finds_out(database: Database) -> None:
    clock = TravelClock()
    rig = await Rig(database, clock).started()
    rig.budget.throttle.trip(600, "Graph error 80002")
    await rig.ledger.save_stop(ACCOUNT, rig.budget.throttle.stop())
    await clock.travel(100)

    rig = await Rig(database, clock).started()
    report = rig.budget.report()
    assert report.reason == "Graph error 80002"
    assert report.paused_until == pytest.approx(clock.now_ms() + 500_000, abs=2)
    with rig.working(*[Priority.LIVE] * 3):
        await clock.travel(499)
        assert not rig.calls
        await clock.travel(1.5)
        assert len(rig.calls) == 1, "the first call after a stop goes alone"


async def test_a_stop_of_the_app_and_a_host_that_is_down_stop_everybody(database: Database) -> None:
    clock = TravelClock()
    rig = await Rig(database, clock).started()
    rig.traffic.app.trip(300, "Graph error 4")
    for _ in range(4):
        rig.host.failed("no answer")
    assert rig.host.stopped_s() == 0
    rig.host.failed("no answer")
    assert rig.host.stopped_s() == 5
    with rig.working(Priority.LIVE):
        await clock.travel(299)
        assert not rig.calls
        await clock.travel(2)
        assert rig.calls


async def test_what_cannot_be_recorded_is_not_made(tmp_path: Path) -> None:
    clock = TravelClock()
    async with Database(tmp_path / "inboxd.sqlite3") as database:
        rig = await Rig(database, clock).started()
    with pytest.raises(StorageError):
        await rig.work(count=1)
    assert not rig.calls


async def test_calls_become_slower_and_slower_from_seventy_percent_on(database: Database) -> None:
    clock = TravelClock()
    rig = await Rig(database, clock).started()
    slowness = []
    for percent in (0, 69, 70, 80, 90, 94, 99):
        rig.budget.throttle.note_usage(percent)
        slowness.append(rig.budget.throttle.slowness)

    assert slowness[:3] == [1, 1, 1]
    assert slowness == sorted(slowness)
    assert slowness[-1] == pytest.approx(50)
    await clock.travel(HOUR + 1)
    assert rig.budget.throttle.slowness == 1, "what Meta said an hour ago is no longer known"


async def test_old_calls_do_not_pile_up_in_the_file(database: Database) -> None:
    clock = TravelClock()
    rig = await Rig(database, clock).started()
    with rig.working(Priority.LIVE):
        await clock.travel(6 * HOUR)
    ((kept,),) = await database.read("SELECT count(*) FROM graph_calls")
    assert kept <= 31


async def test_a_call_leaves_the_hour_an_hour_after_its_end(database: Database) -> None:
    """Meta counted it at some moment between its start and its end."""
    clock = TravelClock()
    rig = await Rig(database, clock, calls_per_hour=2).started()
    tasks = [asyncio.ensure_future(rig.work(takes_s=500)) for _ in range(2)]
    began = clock.seconds
    await clock.travel(HOUR + 499)
    assert [at for at, _ in rig.calls] == [began] * 2
    await clock.travel(2)
    assert len(rig.calls) == 4
    for task in tasks:
        task.cancel()


async def test_a_call_that_a_restart_cut_off_counts_as_the_longest_that_it_can_have_been(database: Database) -> None:
    clock = TravelClock()
    rig = await Rig(database, clock, calls_per_hour=1).started()
    began = clock.seconds
    with rig.working(Priority.LIVE):
        await clock.travel(0.5)  # and then the process is killed
    rig = await Rig(database, clock, calls_per_hour=1).started()
    assert rig.budget.report().resets_at == pytest.approx(clock.now_ms() + HOUR * 1000, abs=2), "it has ended by now"
    await clock.travel(100)
    rig = await Rig(database, clock, calls_per_hour=1).started()
    with rig.working(Priority.LIVE):
        await clock.travel(began + HOUR + 14 - clock.seconds)
        assert not rig.calls
        await clock.travel(2)
        assert len(rig.calls) == 1


@pytest.mark.parametrize(("up_before_s", "up_after_s"), [(100.0, 3000.0), (3000.0, 100.0), (50_000.0, 3000.0)])
async def test_calls_before_a_reboot_are_free_an_hour_after_the_boot_whatever_the_old_clock_said(
    database: Database, up_before_s: float, up_after_s: float
) -> None:
    rig = await Rig(database, TravelClock(monotonic=up_before_s)).started()
    await rig.ledger.record(ACCOUNT, up_before_s)
    for _ in range(9):
        await rig.ledger.record(ACCOUNT, up_before_s + 20)

    clock = TravelClock(boot="second boot", monotonic=up_after_s)
    rig = await Rig(database, clock).started()
    assert rig.budget.report().remaining == 0
    with rig.working(Priority.LIVE):
        await clock.travel(HOUR + 14 - clock.seconds)
        assert not rig.calls
        await clock.travel(15)
        assert len(rig.calls) == 10


async def test_a_stop_from_before_a_reboot_ends_as_if_it_had_begun_with_it(database: Database) -> None:
    rig = await Rig(database, TravelClock(monotonic=2000)).started()
    rig.budget.throttle.trip(900, "Graph error 80002")
    await rig.ledger.save_stop(ACCOUNT, rig.budget.throttle.stop())
    clock = TravelClock(boot="second boot", monotonic=600)
    rig = await Rig(database, clock).started()
    assert rig.budget.throttle.stopped_s() == pytest.approx(300, abs=0.01)


async def test_calls_of_an_earlier_boot_are_still_known_when_this_one_has_made_its_own(database: Database) -> None:
    rig = await Rig(database, TravelClock(monotonic=50_000)).started()
    await rig.work(count=8, takes_s=0)
    clock = TravelClock(boot="second boot", monotonic=20)
    rig = await Rig(database, clock).started()
    await rig.work(count=2, takes_s=0)
    rig = await Rig(database, clock).started()
    assert rig.budget.report().remaining == 0

    await clock.travel(4 * HOUR)
    await rig.work(count=1, takes_s=0)
    ((kept,),) = await database.read("SELECT count(*) FROM graph_calls")
    assert kept == 1, "and in the end they are forgotten"


def test_who_found_out_in_vain_lets_others_find_out_whether_the_host_is_back() -> None:
    """Should the trouble be one account's own, the others go on all the same."""
    host = Circuit(TravelClock())
    for _ in range(FAILURES_TO_OPEN):
        host.failed("no answer")
    host.goes("one")
    host.waits("one", 1)
    assert host.yield_s("one") == 0, "there is nobody else"
    host.waits("other", 1)
    assert host.yield_s("one") == FIRST_REST_S + YIELD_S
    assert host.yield_s("other") == 0
    host.waits("other", -1)
    assert host.yield_s("one") == 0
