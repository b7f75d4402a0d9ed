"""The disk is full while events are pushed: each is pushed once, it is told, and what was done is saved afterwards."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from inboxd.domain import forwarding as rules
from inboxd.forwarding import recorder, workers
from inboxd.forwarding.feeder import Feeder
from inboxd.forwarding.progress_store import Progress, ProgressStore
from inboxd.forwarding.window import PushWindow
from inboxd.forwarding.worker import SCHEDULE
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import StorageUnavailableError
from structlog.testing import capture_logs

from tests.forwarding.conftest import House, forwarding_house
from tests.forwarding.receivers import Gate, Receiver, receiving
from tests.support import eventually, full_disk

REST_S = 0.3


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    gate = Gate()
    async with receiving(gate):
        yield gate


@pytest.fixture(autouse=True)
def saves(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What is done is saved often, and after a refusal soon again. The cursors of all attempts to save."""
    monkeypatch.setattr(recorder, "SAVE_S", 0.02)
    monkeypatch.setattr(recorder, "REFUSED_S", REST_S)
    monkeypatch.setattr(workers, "SCHEDULE", replace(SCHEDULE, storage_rest_s=REST_S))
    tried: list[int] = []
    real = ProgressStore.save

    async def save(store: ProgressStore, endpoint_id: str, generation: int, progress: Progress) -> bool:
        tried.append(progress.cursor)
        return await real(store, endpoint_id, generation, progress)

    monkeypatch.setattr(ProgressStore, "save", save)
    return tried


async def until(receiver: Receiver, count: int) -> None:
    async def there() -> bool:
        return len(receiver.delivered) >= count

    await eventually(there)


async def waiting(gate: Gate) -> None:
    async def there() -> bool:
        return gate.asked == 8

    await eventually(there)


def waits(logged: list[Any]) -> int:
    return sum(one["event"] == "forwarding_waits_for_storage" for one in logged)


async def test_events_are_pushed_once_while_the_disk_is_full_and_saved_afterwards(
    house: House, gate: Gate, saves: list[int]
) -> None:
    endpoint = await house.endpoint(gate.url)
    await house.happen(700, conversations=70)
    await waiting(gate)
    saves.clear()
    with capture_logs() as logged, full_disk(house.core.database.path):
        gate.go.set()
        await until(gate, 700)
        await asyncio.sleep(2 * REST_S)
        tries = len(saves)
        assert (await house.now(endpoint)).cursor == 0
    assert 1 <= tries < 15, "the lanes do not try one after the other"
    assert waits(logged) == tries
    await house.caught_up(endpoint)
    assert max(Counter(gate.ids).values()) == 1
    assert len(gate.ids) == 700


async def test_so_much_is_pushed_before_it_is_saved_and_no_more(
    house: House, gate: Gate, saves: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorder, "MAX_RESULTS", 50)
    endpoint = await house.endpoint(gate.url)
    await house.happen(300, conversations=30)
    await waiting(gate)
    saves.clear()
    with full_disk(house.core.database.path):
        gate.go.set()
        await until(gate, 50)
        await asyncio.sleep(2 * REST_S)
        assert 50 <= len(gate.ids) < 50 + 8
        assert len(saves) < 15
    await house.caught_up(endpoint)
    assert max(Counter(gate.ids).values()) == 1
    assert len(gate.ids) == 300


async def test_what_is_tried_again_while_the_disk_is_full_is_sent_once_and_keeps_nobody_busy(
    house: House, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "SCHEDULE", (REST_S,) * 1000)
    looks: list[PushWindow] = []
    real = Feeder.fill

    async def fill(feeder: Feeder, window: PushWindow) -> None:
        looks.append(window)
        await real(feeder, window)

    monkeypatch.setattr(Feeder, "fill", fill)
    gate.respond = lambda _request, event: 422 if event["data"]["conversation"] < 3 else 200
    gate.go.set()
    endpoint = await house.endpoint(gate.url)
    await house.happen(6, conversations=2)

    async def kept() -> bool:
        return (await house.service.standing(endpoint)).retries == 6

    await eventually(kept)
    house.number = 8
    gate.go.clear()
    await house.happen(1, conversations=3)
    with full_disk(house.core.database.path):
        gate.respond = lambda _request, _event: 200
        gate.go.set()
        await until(gate, 1)
        looks.clear()
        for _ in range(8):
            house.feature.service._workers.events_appended()  # type: ignore[attr-defined]
            await asyncio.sleep(REST_S / 4)
        assert len(looks) < 60
    await house.caught_up(endpoint)
    await asyncio.sleep(2 * REST_S)
    assert max(Counter(gate.ids).values()) == 1
    assert len(gate.ids) == 7


async def test_a_retry_that_is_delivered_while_the_disk_is_full_is_not_sent_again(
    house: House, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "SCHEDULE", (0.1,) * 1000)
    gate.respond = lambda _request, _event: 422
    gate.go.set()
    endpoint = await house.endpoint(gate.url)
    await house.happen(2)

    async def kept() -> bool:
        return (await house.service.standing(endpoint)).retries == 2

    await eventually(kept)
    gate.go.clear()
    before = gate.asked

    async def tried() -> bool:
        return gate.asked > before

    await eventually(tried)
    gate.respond = lambda _request, _event: 200
    with full_disk(house.core.database.path):
        gate.go.set()
        await until(gate, 1)
        await asyncio.sleep(REST_S)
    await house.caught_up(endpoint)
    assert [event["data"]["text"] for event in gate.delivered] == ["text 0", "text 1"]


async def test_what_a_full_disk_did_not_save_comes_again_with_the_same_ids(tmp_path: Path, gate: Gate) -> None:
    path = tmp_path / "inboxd.sqlite3"
    async with forwarding_house(path, Clock()) as house:
        endpoint = await house.endpoint(gate.url)
        await house.happen(40, conversations=8)
        await waiting(gate)
        with full_disk(path):
            gate.go.set()
            await until(gate, 40)
            await house.core.supervisor.end(f"forwarding:{endpoint.id}")
    first = list(gate.ids)
    async with forwarding_house(path, Clock()) as house:
        await house.happen(1)
        await house.caught_up(endpoint)
    assert set(first) <= set(gate.ids[40:]), "all of them: nothing was saved"
    assert len(set(gate.ids)) == 41


class LateGate(Receiver):
    """A receiver that takes the second event only once `go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if b'"text 1"' in await request.read():
            await self.go.wait()
        return await super().handle(request)


async def test_what_is_delivered_while_a_save_is_being_refused_keeps_nobody_busy(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    fills: list[PushWindow] = []
    real_fill, real_save = Feeder.fill, ProgressStore.save
    saving, refuse, refused = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def fill(feeder: Feeder, window: PushWindow) -> None:
        fills.append(window)
        await real_fill(feeder, window)

    async def save(store: ProgressStore, endpoint_id: str, generation: int, progress: Progress) -> bool:
        if refused.is_set():
            return await real_save(store, endpoint_id, generation, progress)
        saving.set()
        await refuse.wait()
        refused.set()
        raise StorageUnavailableError("the disk is full")

    monkeypatch.setattr(recorder, "REFUSED_S", 1.0)
    monkeypatch.setattr(Feeder, "fill", fill)
    monkeypatch.setattr(ProgressStore, "save", save)
    late = LateGate()
    async with receiving(late):
        endpoint = await house.endpoint(late.url)
        await house.happen(2, conversations=2)
        await saving.wait()
        late.go.set()
        await until(late, 2)
        await asyncio.sleep(0.1)  # its lane has the answer
        refuse.set()
        await refused.wait()
        fills.clear()
        await asyncio.sleep(0.6)
        assert len(fills) < 20
        await house.caught_up(endpoint)
        assert [event["data"]["text"] for event in late.delivered] == ["text 0", "text 1"]
