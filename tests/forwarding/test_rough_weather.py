"""A receiver that answers anything, changes and restarts meanwhile: nothing is lost or out of order."""

import asyncio
import random
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from inboxd.domain import forwarding as rules
from inboxd.forwarding import feeder, recorder
from inboxd.forwarding.endpoint import Endpoint
from inboxd.forwarding.progress_store import ProgressStore, RetryState
from inboxd.runtime.clock import Clock

from tests.forwarding.conftest import House, forwarding_house
from tests.forwarding.receivers import Json, Receiver, receiving
from tests.support import TravelClock, eventually

EVENTS = 600


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries and probes follow within parts of a second."""
    monkeypatch.setattr(rules, "SCHEDULE", (0.02,) * 1000)
    monkeypatch.setattr(rules, "PROBES", (0.02,))
    monkeypatch.setattr(rules, "_SINCE_FIRST", (0.02,))
    monkeypatch.setattr(rules, "PROBE_S", 0.05)
    monkeypatch.setattr(recorder, "SAVE_S", 0.05)


def whims(rng: random.Random) -> Any:
    def respond(_request: web.Request, _event: Json) -> web.StreamResponse | int | str:
        drawn = rng.random()
        if drawn < 0.75:
            return 200
        if drawn < 0.95:
            return rng.choice([400, 404, 422, 500, 502, 301])
        if drawn < 0.98:
            return "reset"
        return web.Response(status=429, headers={"Retry-After": "0"})

    return respond


async def everything(house: House, endpoint: Endpoint, receiver: Receiver, count: int) -> None:
    async def done() -> bool:
        standing = await house.service.standing(endpoint)
        return standing.behind_by == 0 and len(set(receiver.ids)) == count

    await eventually(done, within_s=60)


def assert_in_order(receiver: Receiver) -> None:
    """The first time that each event of a conversation was taken is after those of all before it."""
    seen: dict[int, list[int]] = {}
    for event in receiver.delivered:
        number = int(event["data"]["text"].split()[1])
        had = seen.setdefault(event["data"]["conversation"], [])
        if number not in had:
            assert not had or number > max(had), (number, had[-5:])
            had.append(number)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.usefixtures("quick")
async def test_a_moody_receiver_gets_everything_once_and_in_order(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    async with receiving() as receiver:
        receiver.respond = whims(rng)
        path = tmp_path / "inboxd.sqlite3"
        house_number = 0
        endpoint: Endpoint | None = None
        for _ in range(3):
            async with forwarding_house(path, Clock(), random=rng.random) as house:
                house.number = house_number
                if endpoint is None:
                    endpoint = await house.endpoint(receiver.url)
                for _ in range(EVENTS // 60):
                    await house.happen(20, conversations=9)
                    await asyncio.sleep(rng.random() * 0.05)
                    if rng.random() < 0.3:
                        stored = await house.now(endpoint)
                        enabled = rng.random() < 0.7
                        await house.service.change(stored, enabled=enabled, description=f"{rng.random()}")
                        if not enabled:
                            await house.service.change(await house.now(endpoint), enabled=True)
                house_number = house.number
        assert endpoint is not None
        async with forwarding_house(path, Clock(), random=rng.random) as house:
            await everything(house, endpoint, receiver, house_number)
        assert max(Counter(receiver.ids).values()) == 1
        assert_in_order(receiver)


@pytest.mark.usefixtures("quick")
async def test_what_is_not_saved_is_sent_again_and_nothing_is_left_out(tmp_path: Path) -> None:
    """Workers that end at any moment without saving, as a kill ends them."""
    rng = random.Random(5)
    async with receiving() as receiver:
        receiver.respond = whims(rng)
        async with forwarding_house(tmp_path / "inboxd.sqlite3", Clock(), random=rng.random) as house:
            endpoint = await house.endpoint(receiver.url)
            for _ in range(25):
                await house.happen(20, conversations=7)
                await asyncio.sleep(rng.random() * 0.1)
                name = f"forwarding:{endpoint.id}"
                task = house.core.supervisor._tasks[name]
                crashed = house.core.supervisor._workers[-1]
                crashed._reading = None  # type: ignore[attr-defined]
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
                await house.core.supervisor.end(name)
                house.feature.service._workers._workers.clear()  # type: ignore[attr-defined]
                house.feature.service._workers.start(await house.now(endpoint))
            await everything(house, endpoint, receiver, house.number)
        assert_in_order(receiver)


async def test_no_more_than_so_many_events_wait_for_retries(
    traveling: House, travel: TravelClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(feeder, "MAX_ROWS", 50)
    async with receiving() as receiver:
        refusing = True

        def respond(_request: web.Request, event: Json) -> int:
            return 422 if refusing and event["data"]["conversation"] % 2 else 200

        receiver.respond = respond
        endpoint = await traveling.endpoint(receiver.url)
        for _ in range(20):
            await traveling.happen(50, conversations=50)
            await travel.travel(1)
        counts = await ProgressStore(traveling.core.database).counts(endpoint.id)
        assert 50 <= counts.waiting < 50 + 200, "one page more, at most"
        assert "endpoint_retries_full" in "".join(capsys.readouterr())
        assert (await traveling.service.standing(endpoint)).behind_by > 500

        refusing = False

        async def done() -> bool:
            await travel.travel(600)
            return (await traveling.service.standing(endpoint)).behind_by == 0

        await eventually(done, within_s=40)
        assert len(set(receiver.ids)) == len(receiver.ids) == 1000
        assert_in_order(receiver)
        _, total = await ProgressStore(traveling.core.database).failures(
            endpoint.id, RetryState.WAITING, limit=1, offset=0
        )
        assert total == 0
