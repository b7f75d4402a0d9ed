"""An endpoint that is removed, changed or disabled while something is on its way, or while the disk is full."""

from typing import Any

import pytest
from aiohttp import web
from inboxd.forwarding import recorder
from inboxd.forwarding.progress_store import ProgressStore
from inboxd.forwarding.store import EndpointStore
from inboxd.runtime import supervisor
from inboxd.runtime.errors import StorageError, StorageUnavailableError
from structlog.testing import capture_logs

from tests.forwarding.conftest import House
from tests.forwarding.receivers import Json, Receiver, receiving
from tests.support import TravelClock, eventually, full_disk


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "SAVE_S", 0.05)
    monkeypatch.setattr(supervisor, "GRACE_S", 0.1)


async def came(receiver: Receiver, *expected: str) -> None:
    async def there() -> bool:
        return sorted(receiver.texts) == sorted(expected)

    await eventually(there)


async def asked(receiver: Receiver, count: int) -> None:
    async def there() -> bool:
        return len(receiver.bodies) >= count

    await eventually(there)


def refuse_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk becomes full at the moment in which an endpoint is disabled, after what is stored just before."""
    real, refusals = EndpointStore.disable, [StorageUnavailableError("the disk is full")]

    async def disable(store: EndpointStore, *about: Any) -> bool:
        if refusals:
            raise refusals.pop()
        return await real(store, *about)

    monkeypatch.setattr(EndpointStore, "disable", disable)


async def test_an_endpoint_that_could_not_be_removed_is_pushed_to(house: House, receiver: Receiver) -> None:
    endpoint = await house.endpoint(receiver.url)
    await house.happen()
    await house.caught_up(endpoint)
    with full_disk(house.core.database.path), pytest.raises(StorageError):
        await house.service.delete(endpoint)
    assert (await house.now(endpoint)).enabled
    await house.happen()
    await came(receiver, "text 0", "text 1")


async def test_an_endpoint_that_could_not_be_disabled_is_pushed_to(
    house: House, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = await house.endpoint(receiver.url)
    await house.happen()
    await house.caught_up(endpoint)
    refuse_once(monkeypatch)
    with pytest.raises(StorageError):
        await house.service.change(endpoint, enabled=False)
    assert (await house.now(endpoint)).enabled
    await house.happen()
    await came(receiver, "text 0", "text 1")


async def test_410_disables_also_when_that_cannot_be_stored_at_first(
    traveling: House, travel: TravelClock, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_once(monkeypatch)
    receiver.respond = lambda _request, _event: 410
    endpoint = await traveling.endpoint(receiver.url)
    await traveling.happen()
    with capture_logs() as logged:
        await travel.travel(10)
    assert not (await traveling.now(endpoint)).enabled
    assert [one["event"] for one in logged if one["log_level"] == "error"] == ["endpoint_disabled"]


async def test_what_the_old_url_refuses_goes_to_the_new_one_in_order(
    traveling: House, travel: TravelClock, receiver: Receiver
) -> None:
    receiver.respond = lambda _request, _event: "hang"
    endpoint = await traveling.endpoint(receiver.url, timeout_s=0.2)
    await traveling.happen(9, conversations=3)
    await asked(receiver, 3)
    async with receiving() as other:
        await traveling.service.change(endpoint, url=other.url)

        async def done() -> bool:
            await travel.travel(1)
            return len(other.delivered) == 9

        await eventually(done)
        for conversation in (1, 2, 3):
            of_it = [
                event["data"]["text"] for event in other.delivered if event["data"]["conversation"] == conversation
            ]
            assert of_it == [f"text {number}" for number in range(conversation - 1, 9, 3)]
        await traveling.caught_up(endpoint)
    assert receiver.delivered == []


async def test_what_waits_for_a_retry_and_is_no_longer_wanted_is_dropped_and_not_told_as_lost(
    traveling: House, travel: TravelClock, receiver: Receiver
) -> None:
    def respond(_request: web.Request, event: Json) -> int:
        return 422 if event["type"] == "message.sent" else 200

    receiver.respond = respond
    endpoint = await traveling.endpoint(receiver.url)
    await traveling.happen(kind="message.sent")
    await traveling.happen(2)
    await travel.travel(2)
    assert receiver.texts == []
    with capture_logs() as logged:
        await traveling.service.change(await traveling.now(endpoint), event_types=["message.received"])
        await travel.travel(60)
    assert receiver.texts == ["text 1", "text 2"]
    _, total = await ProgressStore(traveling.core.database).failures(endpoint.id, None, limit=5, offset=0)
    assert total == 0
    assert "events_no_longer_kept" not in {one["event"] for one in logged}


async def test_what_is_on_its_way_when_an_endpoint_is_disabled_comes_again_afterwards(
    house: House, receiver: Receiver
) -> None:
    receiver.respond = lambda _request, _event: "hang"
    endpoint = await house.endpoint(receiver.url)
    await house.happen(6, conversations=3)
    await asked(receiver, 3)
    disabled = await house.service.change(endpoint, enabled=False)
    assert not disabled.enabled
    first = [event["id"] for event in receiver.events]
    receiver.respond = lambda _request, _event: 200
    await house.service.change(disabled, enabled=True)
    await came(receiver, *(f"text {number}" for number in range(6)))
    assert set(first) <= set(receiver.ids), "with the same ids"
