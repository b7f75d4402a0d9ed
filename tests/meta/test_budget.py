from inboxd.meta.budget import Budget

from tests.support import ManualClock


async def test_no_hour_sees_more_calls_than_allowed() -> None:
    clock = ManualClock()
    budget = Budget(clock, calls_per_hour=10, calls_per_second=1_000_000)
    calls = []

    for _ in range(35):
        await budget.acquire()
        calls.append(clock.now)
        clock.now += 1000

    for start in calls:
        assert sum(start <= call < start + 3_600_000 for call in calls) <= 10
    assert calls[10] - calls[0] >= 3_600_000
