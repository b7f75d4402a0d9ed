"""The real parts of forwarding on a real file, without the rest of a daemon: tests append events themselves."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from inboxd.accounts.vault import Vault
from inboxd.core import open_core
from inboxd.domain.event import EventType, NewEvent
from inboxd.events import feature as events
from inboxd.feature import Core
from inboxd.forwarding import feature as forwarding
from inboxd.forwarding.endpoint import Endpoint, EndpointKind
from inboxd.forwarding.pacing import MOST_S
from inboxd.forwarding.service import EndpointService
from inboxd.forwarding.worker import EndpointWorker
from inboxd.http.resource import Resource
from inboxd.receiving.store import Inbox
from inboxd.runtime.clock import Clock
from inboxd.runtime.secret import Secret

from tests.forwarding.receivers import Receiver, receiving
from tests.support import ACCOUNT, TravelClock, eventually

KEY = Secret("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")


class Said(Resource, frozen=True):
    """The data of the events of these tests."""

    text: str
    conversation: int | None = None


def event_type(name: str) -> EventType:
    return EventType(name=name, summary="Something happened.", data=Said, example=Said(text="a sample"))


TYPES = [event_type(name) for name in ("message.received", "message.sent", "account.updated")]


@dataclass
class House:
    """Forwarding, and what it is built on."""

    core: Core
    told: events.Events
    service: EndpointService
    feature: forwarding.Forwarding
    number: int = 0

    async def happen(
        self, count: int = 1, *, conversations: int = 1, kind: str = "message.received", account: str = ACCOUNT
    ) -> list[str]:
        """Append events, one after the other to each of so many conversations. Their texts."""
        new, texts = [], []
        for _ in range(count):
            conversation = self.number % conversations + 1
            texts.append(f"text {self.number}")
            data = json.dumps({"text": texts[-1], "conversation": conversation}).encode()
            new.append(NewEvent(kind, account, self.core.clock.now_ms(), data, conversation_id=conversation))
            self.number += 1
        await self.core.database.write(lambda connection: self.told.log.append(connection, new))
        return texts

    async def endpoint(
        self, url: str, *, kind: EndpointKind = EndpointKind.STANDARD, timeout_s: float = 15.0, **more: Any
    ) -> Endpoint:
        return await self.service.create(url, kind, timeout_s=timeout_s, **more)

    async def now(self, endpoint: Endpoint) -> Endpoint:
        """The endpoint as it is stored now."""
        found = await self.service.get(endpoint.id)
        assert found is not None
        return found

    async def caught_up(self, endpoint: Endpoint) -> None:
        """Wait until everything is delivered, and saved."""

        async def done() -> bool:
            newest = (await self.told.reader.ends()).last
            standing = await self.service.standing(endpoint)
            return standing.behind_by == 0 and (await self.now(endpoint)).cursor == newest

        await eventually(done)


class PatientClock(TravelClock):
    """A clock that stands still until what is pushed is settled: that needs the time of the machine."""

    def __init__(self) -> None:
        super().__init__()
        self.house: House | None = None

    async def wait(self, event: asyncio.Event, timeout_s: float | None) -> bool:
        if timeout_s is not None and 0 < timeout_s <= MOST_S:  # what keeps pushes apart is not what tests move
            return await Clock.wait(self, event, timeout_s)
        return await super().wait(event, timeout_s)

    async def _settle(self, settle_s: float) -> None:
        await super()._settle(settle_s)
        calm, deadline = 0, time.monotonic() + 2
        while calm < 3 and time.monotonic() < deadline:
            calm = 0 if self._is_busy() else calm + 1
            await asyncio.sleep(0.001)

    def _is_busy(self) -> bool:
        workers = [] if self.house is None else self.house.feature.service._workers._workers.values()  # type: ignore[attr-defined]
        return any(self._is_pushing(one) for one in workers)

    def _is_pushing(self, worker: EndpointWorker) -> bool:
        reading = worker._reading
        if worker._lock.locked():
            return True
        return reading is not None and bool(reading.window.in_flight) and worker._next_slot <= self.monotonic()


@asynccontextmanager
async def forwarding_house(
    path: Path,
    clock: Clock,
    *,
    random: Callable[[], float] = lambda: 0.0,
    networks: Any = (),
    keys: Sequence[Secret] = (KEY,),
) -> AsyncIterator[House]:
    """Forwarding on the file at `path`."""
    async with AsyncExitStack() as stack:
        core = await open_core(stack, path, clock, on_give_up=pytest.fail)
        core = Core(**{**{name: getattr(core, name) for name in core.__dataclass_fields__}, "random": random})
        if isinstance(clock, TravelClock):
            clock.database = core.database
        accounts: Any = SimpleNamespace(vault=Vault(keys), aliases={"90010": ACCOUNT})
        told = events.build(core, events.Options(keep_days=0, max_size_mb=0, ids_only=False), types=TYPES)
        feature = await forwarding.build(
            core,
            stack,
            forwarding.Options(allow_networks=networks),
            inbox=Inbox(core.database, clock, max_waiting=100),
            accounts=accounts,
            events=told,
        )
        await stack.enter_async_context(core.supervisor)
        assert feature.start is not None
        await feature.start([])
        house = House(core, told, feature.service, feature)
        if isinstance(clock, PatientClock):
            clock.house = house
        yield house


@pytest.fixture
async def house(database_path: Path) -> AsyncIterator[House]:
    """Forwarding by the machine's clock."""
    async with forwarding_house(database_path, Clock()) as opened:
        yield opened


@pytest.fixture
def travel() -> PatientClock:
    return PatientClock()


@pytest.fixture
async def traveling(database_path: Path, travel: PatientClock) -> AsyncIterator[House]:
    """Forwarding by a clock that the test moves."""
    async with forwarding_house(database_path, travel) as opened:
        yield opened


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as opened:
        yield opened
