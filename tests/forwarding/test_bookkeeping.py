"""What a worker keeps in mind of an endpoint: which failures count together, and what waits."""

import asyncio
from collections import Counter

import pytest
from aiohttp import web
from inboxd.domain import forwarding as rules
from inboxd.forwarding import progress_store, recorder
from inboxd.forwarding.endpoint import Endpoint
from inboxd.forwarding.progress_store import Health, Progress, ProgressStore, RetryRow, RetryState
from structlog.testing import capture_logs

from tests.forwarding.conftest import House
from tests.forwarding.receivers import Gate, Receiver, receiving
from tests.support import TravelClock, eventually

DAY = 86_400


async def test_failures_with_a_success_in_between_do_not_make_an_endpoint_rest(
    traveling: House, travel: TravelClock, receiver: Receiver
) -> None:
    receiver.respond = lambda _request, event: 200 if event["data"]["conversation"] % 2 else 500
    endpoint = await traveling.endpoint(receiver.url)
    with capture_logs() as logged:
        for _ in range(12):
            await traveling.happen(1, conversations=12)
            await travel.travel(0.1)
    assert "endpoint_failing" not in {one["event"] for one in logged}
    assert len(receiver.delivered) == 6
    await travel.travel(2)
    assert (await traveling.service.standing(endpoint)).retries == 6


async def test_an_event_is_not_given_up_when_nothing_else_was_delivered_either(
    traveling: House, travel: TravelClock, receiver: Receiver
) -> None:
    """It is the endpoint that fails, and not this event: it is disabled, and the event is kept."""
    receiver.respond = lambda _request, _event: 500
    endpoint = await traveling.endpoint(receiver.url)
    await traveling.happen()
    await travel.travel(5 * DAY, settle_s=0.001)
    disabled = await traveling.now(endpoint)
    assert (disabled.enabled, (await traveling.service.standing(disabled)).failures) == (False, 0)
    receiver.respond = lambda _request, _event: 200
    await traveling.service.change(disabled, enabled=True)
    await travel.travel(5)
    assert [event["data"]["text"] for event in receiver.delivered] == ["text 0"]


async def test_the_last_attempt_at_an_event_counts_only_if_the_endpoint_works(
    traveling: House, travel: TravelClock, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "SCHEDULE", (30.0, 30.0))
    answers = [422, 422, 429, 200]
    receiver.respond = lambda _request, event: answers.pop(0) if event["data"]["text"] == "text 0" else 200
    endpoint = await traveling.endpoint(receiver.url)
    await traveling.happen(2, conversations=2)
    await travel.travel(2)
    await traveling.happen(2, conversations=2)  # the endpoint works after the first failure
    await travel.travel(300)
    assert answers == []
    assert sorted(event["data"]["text"] for event in receiver.delivered) == [f"text {number}" for number in range(4)]
    assert (await traveling.service.standing(endpoint)).failures == 0


async def test_what_waits_is_counted_as_it_is_stored(
    traveling: House, travel: TravelClock, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By this number it is decided whether anything fresh is read."""
    monkeypatch.setattr(rules, "SCHEDULE", (30.0, 30.0))
    bad = {1, 3}
    receiver.respond = lambda _request, event: 422 if event["data"]["conversation"] in bad else 200
    endpoint = await traveling.endpoint(receiver.url)

    async def both() -> tuple[int, int]:
        worker = traveling.feature.service._workers._workers[endpoint.id]  # type: ignore[attr-defined]
        stored = await ProgressStore(traveling.core.database).counts(endpoint.id)
        return worker._reading.recorder.rows, stored.waiting

    await traveling.happen(12, conversations=4)
    await travel.travel(3)
    assert await both() == (6, 6)
    bad.discard(1)
    await travel.travel(40)
    assert await both() == (3, 3)
    await travel.travel(40)
    assert await both() == (2, 2), "one is given up"
    bad.clear()
    await traveling.service.retry(endpoint, (await failed(traveling, endpoint.id)).item_id)
    await travel.travel(100)
    assert await both() == (0, 0)
    assert len(receiver.delivered) == 12


async def failed(house: House, endpoint_id: str) -> RetryRow:
    rows, _ = await ProgressStore(house.core.database).failures(endpoint_id, RetryState.FAILED, limit=1, offset=0)
    return rows[0]


class Late(Receiver):
    """A receiver that answers 429 to one event, after all others that came with it were answered."""

    def __init__(self, others: int) -> None:
        super().__init__()
        self.others = others
        self.last = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        response = await super().handle(request)
        if (await request.json())["data"]["text"] != "text 0":
            self.others -= 1
            if not self.others:
                self.last.set()
            return response
        if self.last.is_set() and self.others < 0:
            return response
        await self.last.wait()
        await asyncio.sleep(0.05)
        self.others = -1
        return web.Response(status=429)


async def resting(house: House, endpoint: Endpoint) -> None:
    async def there() -> bool:
        return bool(house.feature.service._workers._workers[endpoint.id]._resting)  # type: ignore[attr-defined]

    await eventually(there)


async def test_a_rest_is_not_cut_short_by_the_answer_to_an_earlier_push(traveling: House, travel: TravelClock) -> None:
    late = Late(1)
    late.respond = lambda _request, _event: web.Response(status=429, headers={"Retry-After": "3600"})
    async with receiving(late):
        endpoint = await traveling.endpoint(late.url)
        await traveling.happen(2, conversations=2)
        await resting(traveling, endpoint)
        await asyncio.sleep(0.1)
        await travel.travel(600)
        assert len(late.bodies) == 2, "it asked for an hour"
        await travel.travel(3600)
        assert len(late.bodies) > 2


async def test_what_was_delivered_before_a_rest_is_not_sent_again_after_it(
    traveling: House, travel: TravelClock
) -> None:
    late = Late(7)
    async with receiving(late):
        endpoint = await traveling.endpoint(late.url)
        await traveling.happen(8, conversations=8)
        await resting(traveling, endpoint)
        await travel.travel(1)
        (kept,), _ = await ProgressStore(traveling.core.database).failures(endpoint.id, None, limit=9, offset=0)
        assert (kept.seq, kept.state, kept.attempts) == (1, RetryState.RETRYING, 1)
        await travel.travel(60)
        assert Counter(event["data"]["text"] for event in late.events) == {
            "text 0": 2, **{f"text {number}": 1 for number in range(1, 8)},
        }  # fmt: skip


async def test_an_event_that_hangs_does_not_make_all_later_ones_come_again_after_a_kill(
    house: House, receiver: Receiver
) -> None:
    receiver.respond = lambda _request, event: "hang" if event["data"]["conversation"] == 1 else 200
    endpoint = await house.endpoint(receiver.url, timeout_s=60.0)
    await house.happen(300, conversations=30)

    async def saved() -> bool:
        return (await house.now(endpoint)).cursor >= 200

    await eventually(saved)
    assert (await house.service.standing(endpoint)).retries >= 4, "what hangs, and what waits behind it, is kept"


async def test_a_replay_is_not_undone_by_what_was_on_its_way(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "SAVE_S", 0.05)
    gate = Gate()
    gate.go.set()
    async with receiving(gate):
        endpoint = await house.endpoint(gate.url)
        await house.happen(3)
        await house.caught_up(endpoint)
        gate.go.clear()
        await house.happen(1)

        async def on_its_way() -> bool:
            return gate.asked == 4

        await eventually(on_its_way)
        await house.service.replay(endpoint, after=0)
        gate.go.set()

        async def replayed() -> bool:
            return len(gate.delivered) >= 8

        await eventually(replayed)
        await house.caught_up(endpoint)
    texts = [event["data"]["text"] for event in gate.delivered]
    assert texts == ["text 0", "text 1", "text 2", "text 3"] * 2


async def test_a_retry_that_somebody_asks_for_has_its_whole_schedule(
    traveling: House, travel: TravelClock, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "SCHEDULE", (30.0, 30.0))
    receiver.respond = lambda _request, _event: 422
    endpoint = await traveling.endpoint(receiver.url)
    await traveling.happen()
    await travel.travel(100)
    assert await traveling.service.retry(endpoint, (await failed(traveling, endpoint.id)).item_id)
    await travel.travel(5)
    (row,), _ = await ProgressStore(traveling.core.database).failures(endpoint.id, None, limit=5, offset=0)
    assert (row.state, row.attempts) == (RetryState.RETRYING, 1)


async def test_the_newest_of_what_was_given_up_is_kept(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress_store, "MAX_FAILED", 3)
    endpoint = await house.endpoint("http://127.0.0.1:9/", enabled=False)
    store = ProgressStore(house.core.database)
    rows = [RetryRow(seq, f"evt_{seq}", "message.sent", "c1", RetryState.FAILED, 13, 0, 1) for seq in range(1, 8)]
    waiting = RetryRow(9, "evt_9", "message.sent", "c1", RetryState.WAITING, 0, 0, 1)
    assert await store.save(endpoint.id, endpoint.generation, Progress(9, Health(), [*rows, waiting], [], []))
    found, total = await store.failures(endpoint.id, None, limit=9, offset=0)
    assert ([row.seq for row in found], total) == ([5, 6, 7, 9], 4)
