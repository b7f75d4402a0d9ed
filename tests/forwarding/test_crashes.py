"""Defects of ours: an event that cannot be pushed is set aside, and an endpoint that crashes holds no other."""

from typing import Any

import pytest
from inboxd.forwarding.items import EventSource, ItemPage
from inboxd.forwarding.progress_store import ProgressStore, RetryState
from inboxd.forwarding.signing import signed_headers

from tests.forwarding.conftest import House
from tests.forwarding.receivers import Receiver, receiving
from tests.support import TravelClock, eventually


async def test_an_event_that_cannot_be_pushed_is_set_aside_and_the_others_go_on(
    traveling: House, travel: TravelClock, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def sign(item_id: str, body: bytes, *more: Any) -> dict[str, str]:
        if b'"text 1"' in body:
            raise ZeroDivisionError
        return signed_headers(item_id, body, *more)

    monkeypatch.setattr("inboxd.forwarding.items.signed_headers", sign)
    endpoint = await traveling.endpoint(receiver.url)
    await traveling.happen(6, conversations=3)
    await travel.travel(3)
    assert sorted(event["data"]["text"] for event in receiver.delivered) == ["text 0", "text 2", "text 3", "text 5"]
    (row, behind), _ = await ProgressStore(traveling.core.database).failures(endpoint.id, None, limit=5, offset=0)
    assert (row.state, behind.state) == (RetryState.RETRYING, RetryState.WAITING)
    assert "defect" in (row.error or "")

    monkeypatch.undo()
    await travel.travel(10)
    assert [event["data"]["text"] for event in receiver.delivered[4:]] == ["text 1", "text 4"]


async def test_an_endpoint_whose_worker_crashes_holds_no_other(
    house: House, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = EventSource.page
    broken = True

    async def page(source: EventSource, after: int, limit: int) -> ItemPage:
        if broken and source._only.account_ids:
            raise ZeroDivisionError
        return await real(source, after, limit)

    monkeypatch.setattr(EventSource, "page", page)
    async with receiving() as other:
        crashing = await house.endpoint(other.url, account_ids=["17841400000000001"])
        sound = await house.endpoint(receiver.url)
        await house.happen(50, conversations=5)
        await house.caught_up(sound)
        assert len(receiver.delivered) == 50
        assert other.bodies == []

        broken = False

        async def recovered() -> bool:
            return len(other.delivered) == 50

        await eventually(recovered)
        await house.caught_up(crashing)
