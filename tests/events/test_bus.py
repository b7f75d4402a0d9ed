from inboxd.events.bus import HISTORY, MAX_BEHIND, Feed

from tests.support import ManualClock


async def test_whoever_listens_is_told_in_order() -> None:
    feed = Feed(ManualClock())
    with feed.listening() as listener:
        for number in range(3):
            feed.publish("thing", {"number": number})
        feed.close()
        told = [happening.data["number"] async for happening in listener]
    assert told == [0, 1, 2]


async def test_whoever_is_too_slow_is_told_so_and_dropped_and_nobody_waits() -> None:
    feed = Feed(ManualClock())
    with feed.listening() as slow:
        for number in range(MAX_BEHIND + 100):
            feed.publish("thing", {"number": number})
        told = [happening.data["number"] async for happening in slow]
    assert told == list(range(MAX_BEHIND))
    assert slow.overrun


async def test_what_was_missed_is_told_while_it_is_known() -> None:
    clock = ManualClock()
    feed = Feed(clock)
    with feed.listening():
        pass  # somebody was here, and may come back
    ids = []
    for number in range(HISTORY + 10):
        feed.publish("thing", {"number": number})
        ids.append(feed._last_id)
        clock.now += 1
    missed = feed.since(ids[-4])
    assert missed is not None
    assert [happening.data["number"] for happening in missed] == [HISTORY + 7, HISTORY + 8, HISTORY + 9]
    assert feed.since(ids[-1]) == []
    assert feed.since(ids[9]) is not None
    assert feed.since(ids[8]) is None, "that one is no longer known to have been the last"


async def test_what_nobody_wants_is_not_remembered_and_a_gap_is_told() -> None:
    clock = ManualClock()
    feed = Feed(clock)
    with feed.listening():
        feed.publish("thing", {})
    known = feed._last_id
    assert feed.since(known) == []
    clock.now += 3_600_000
    assert not feed.wanted
    feed.publish("thing", {})
    with feed.listening():
        assert feed.since(known) is None
