"""The log is pruned, and deliveries expire, before an endpoint has them: it is told, and it goes on from the oldest."""

from collections.abc import Callable
from typing import Any

import pytest
from inboxd.events import store
from inboxd.events.store import JUMP
from inboxd.forwarding import recorder
from inboxd.forwarding.endpoint import Endpoint, EndpointKind
from structlog.testing import capture_logs

from tests.forwarding.conftest import House
from tests.forwarding.receivers import Receiver
from tests.forwarding.test_meta_kind import arrive, body_of
from tests.support import TravelClock, eventually

BIG = 2**60


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "SAVE_S", 0.05)


def numbers(receiver: Receiver) -> list[int]:
    return [event["entry"][0]["number"] for event in receiver.delivered]


def lost(logged: list[Any]) -> list[int]:
    return [one["count"] for one in logged if one["event"] == "events_no_longer_kept"]


async def by_days(house: House, count: int) -> None:
    await house.core.database.write(lambda connection: store.expire(connection, before=BIG, after=0, step=count))


async def by_size(house: House, count: int) -> None:
    await house.core.database.write(lambda connection: store.trim(connection, max_bytes=0, step=count))


async def expired(house: House, *ids: int) -> None:
    await house.core.database.execute(f"DELETE FROM deliveries WHERE id IN ({','.join(map(str, ids))})")


async def counted(house: House, endpoint: Endpoint, count: int) -> None:
    async def there() -> bool:
        return (await house.now(endpoint)).lost == count

    await eventually(there)


async def caught_up(house: House, travel: TravelClock, endpoint: Endpoint, step_s: float) -> None:
    async def done() -> bool:
        await travel.travel(step_s)
        return (await house.service.standing(endpoint)).behind_by == 0

    await eventually(done)


@pytest.mark.parametrize("prune", [by_days, by_size])
async def test_a_disabled_endpoint_goes_on_with_the_oldest_that_is_kept(
    traveling: House, travel: TravelClock, receiver: Receiver, prune: Callable[[House, int], Any]
) -> None:
    endpoint = await traveling.endpoint(receiver.url)
    await traveling.happen(2)
    await caught_up(traveling, travel, endpoint, 1)
    disabled = await traveling.service.change(endpoint, enabled=False)
    await traveling.happen(10)
    await prune(traveling, 7)
    with capture_logs() as logged:
        await traveling.service.change(disabled, enabled=True)
        await caught_up(traveling, travel, endpoint, 1)
    assert receiver.texts[2:] == [f"text {number}" for number in range(7, 12)]
    assert lost(logged) == [5]
    await counted(traveling, endpoint, 5)
    metric = f'inboxd_forwarding_lost_total{{endpoint="{endpoint.id}"}} 5.0'
    assert metric in traveling.core.metrics.rendered("")[0].decode()


async def test_what_is_pruned_under_a_resting_endpoint_is_counted_once(
    traveling: House, travel: TravelClock, receiver: Receiver
) -> None:
    receiver.respond = lambda _request, _event: 503
    endpoint = await traveling.endpoint(receiver.url)
    await traveling.happen(20, conversations=10)
    await travel.travel(3600)
    assert receiver.delivered == []
    with capture_logs() as logged:
        await by_days(traveling, 15)
        await travel.travel(3600)
        receiver.respond = lambda _request, _event: 200
        await caught_up(traveling, travel, endpoint, 600)
    assert sorted(receiver.texts) == sorted(f"text {number}" for number in range(15, 20))
    assert sum(lost(logged)) == 15
    await counted(traveling, endpoint, 15)


async def test_retries_whose_events_were_pruned_end_and_are_counted(
    traveling: House, travel: TravelClock, receiver: Receiver
) -> None:
    receiver.respond = lambda _request, event: 422 if event["data"]["conversation"] == 1 else 200
    endpoint = await traveling.endpoint(receiver.url)
    await traveling.happen(6, conversations=2)
    await travel.travel(2)
    assert (await traveling.service.standing(endpoint)).retries == 3
    await by_days(traveling, 4)
    receiver.respond = lambda _request, _event: 200
    with capture_logs() as logged:
        await caught_up(traveling, travel, endpoint, 10)
    assert receiver.texts == ["text 1", "text 3", "text 5", "text 4"]
    assert sum(lost(logged)) == 2
    await counted(traveling, endpoint, 2)


async def test_deliveries_that_all_expired_under_a_disabled_endpoint_are_told(
    traveling: House, travel: TravelClock, receiver: Receiver
) -> None:
    endpoint = await traveling.endpoint(receiver.url, kind=EndpointKind.META)
    await arrive(traveling, *(body_of(number) for number in range(2)))
    await caught_up(traveling, travel, endpoint, 1)
    disabled = await traveling.service.change(endpoint, enabled=False)
    await arrive(traveling, *(body_of(number) for number in range(2, 10)))
    await expired(traveling, *range(1, 11))
    await counted(traveling, endpoint, 8)
    assert await arrive(traveling, body_of(10)) == [1]
    with capture_logs() as logged:
        await traveling.service.change(disabled, enabled=True)
        await caught_up(traveling, travel, endpoint, 1)
        await traveling.service.change(await traveling.now(endpoint), description="read again")
        await travel.travel(1)
    assert numbers(receiver) == [0, 1, 10]
    assert lost(logged) == [8], "once"
    await counted(traveling, endpoint, 8)


async def test_a_delivery_that_got_the_number_of_one_that_expired_is_not_taken_for_it(
    traveling: House, travel: TravelClock, receiver: Receiver
) -> None:
    receiver.respond = lambda _request, event: 422 if event["entry"][0]["number"] == 0 else 200
    endpoint = await traveling.endpoint(receiver.url, kind=EndpointKind.META)
    await arrive(traveling, *(body_of(number) for number in range(3)))
    await travel.travel(2)
    assert numbers(receiver) == [1, 2]
    with capture_logs() as logged:
        await expired(traveling, 1, 2, 3)
        assert await arrive(traveling, body_of(3)) == [1]
        await caught_up(traveling, travel, endpoint, 10)
        await travel.travel(60)
    assert numbers(receiver) == [1, 2, 3], "once"
    assert lost(logged) == [1]
    await counted(traveling, endpoint, 1)


async def test_deliveries_that_expire_after_all_earlier_ones_did_are_told_too(
    traveling: House, travel: TravelClock, receiver: Receiver
) -> None:
    endpoint = await traveling.endpoint(receiver.url, kind=EndpointKind.META)
    disabled = await traveling.service.change(endpoint, enabled=False)
    await arrive(traveling, *(body_of(number) for number in range(6)))
    await expired(traveling, 1, 2, 3, 4)
    with capture_logs() as logged:
        await traveling.service.change(disabled, enabled=True)
        await caught_up(traveling, travel, endpoint, 1)
    assert numbers(receiver) == [4, 5]
    assert lost(logged) == [4]
    await counted(traveling, endpoint, 4)


@pytest.mark.parametrize("kind", EndpointKind)
async def test_a_replay_from_the_beginning_loses_nothing(
    traveling: House, travel: TravelClock, receiver: Receiver, kind: EndpointKind
) -> None:
    endpoint = await traveling.endpoint(receiver.url, kind=kind)
    await arrive(traveling, *(body_of(number) for number in range(6)))
    await traveling.happen(6)
    await caught_up(traveling, travel, endpoint, 1)
    await by_days(traveling, 4)
    await expired(traveling, 1, 2, 3, 4)
    with capture_logs() as logged:
        await traveling.service.replay(endpoint, after=0)
        await caught_up(traveling, travel, endpoint, 1)
    assert len(receiver.delivered) == 6 + 2
    assert lost(logged) == []


async def gap(house: House) -> None:
    """What a restore does to the numbers."""
    sql = "UPDATE sqlite_sequence SET seq = seq + ? WHERE name = 'events'"
    await house.core.database.execute(sql, (JUMP,))


async def test_the_numbers_that_a_restore_leaves_out_are_no_events(
    traveling: House, travel: TravelClock, receiver: Receiver
) -> None:
    endpoint = await traveling.endpoint(receiver.url)
    await traveling.happen(2)
    await caught_up(traveling, travel, endpoint, 1)
    disabled = await traveling.service.change(endpoint, enabled=False)
    await gap(traveling)
    assert (await traveling.service.standing(await traveling.now(endpoint))).behind_by == 0
    await traveling.happen(3)
    await gap(traveling)
    await traveling.happen(4)
    assert (await traveling.service.standing(await traveling.now(endpoint))).behind_by == 7
    await by_days(traveling, 5)
    with capture_logs() as logged:
        await traveling.service.change(disabled, enabled=True)
        await caught_up(traveling, travel, endpoint, 1)
    assert receiver.texts[2:] == ["text 5", "text 6", "text 7", "text 8"]
    assert lost(logged) == [3]
