"""What a worker keeps in mind of an endpoint: which failures count together, and what waits."""

from collections.abc import AsyncIterator

import pytest
from structlog.testing import capture_logs

from tests.forwarding.conftest import House
from tests.forwarding.receivers import Receiver, receiving
from tests.support import TravelClock


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as opened:
        yield opened


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
