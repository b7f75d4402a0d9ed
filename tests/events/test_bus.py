from inboxd.events.bus import HISTORY, MAX_BEHIND, EventBus

from tests.support import ManualClock


async def test_whoever_listens_is_told_in_order() -> None:
    bus = EventBus(ManualClock())
    with bus.subscribe() as subscriber:
        for number in range(3):
            bus.publish("thing", {"number": number})
        bus.close()
        told = [event.data["number"] async for event in subscriber]
    assert told == [0, 1, 2]


async def test_whoever_is_too_slow_is_told_so_and_dropped_and_nobody_waits() -> None:
    bus = EventBus(ManualClock())
    with bus.subscribe() as slow:
        for number in range(MAX_BEHIND + 100):
            bus.publish("thing", {"number": number})
        told = [event.data["number"] async for event in slow]
    assert told == list(range(MAX_BEHIND))
    assert slow.overrun


async def test_what_was_missed_is_told_while_it_is_known() -> None:
    clock = ManualClock()
    bus = EventBus(clock)
    with bus.subscribe():
        pass  # somebody was here, and may come back
    ids = []
    for number in range(HISTORY + 10):
        bus.publish("thing", {"number": number})
        ids.append(bus._last_id)
        clock.now += 1
    missed = bus.since(ids[-4])
    assert missed is not None
    assert [event.data["number"] for event in missed] == [HISTORY + 7, HISTORY + 8, HISTORY + 9]
    assert bus.since(ids[-1]) == []
    assert bus.since(ids[9]) is not None
    assert bus.since(ids[8]) is None, "that one is no longer known to have been the last"


async def test_what_nobody_wants_is_not_remembered_and_a_gap_is_told() -> None:
    clock = ManualClock()
    bus = EventBus(clock)
    with bus.subscribe():
        bus.publish("thing", {})
    known = bus._last_id
    assert bus.since(known) == []
    clock.now += 3_600_000
    assert not bus.wanted
    bus.publish("thing", {})
    with bus.subscribe():
        assert bus.since(known) is None
