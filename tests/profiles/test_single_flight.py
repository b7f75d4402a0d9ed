"""Nobody is asked about twice at a time, whoever asks: Meta's answer is held back while the others get their chance."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.run import RunStatus
from inboxd.profiles import store as profiles
from inboxd.simulator.serving import serving
from inboxd.storage.database import Database

from tests.hostile import HostileGraph
from tests.profiles.test_outage import Rig, at_work
from tests.support import ACCOUNT, ANA, eventually

CHANCES_S = 10


class Held(HostileGraph):
    """Answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        answer = await super()._answer(request)
        await self.go_on.wait()
        return answer

    async def asked(self) -> None:
        async def called() -> bool:
            return bool(self.calls)

        await eventually(called)


@pytest.fixture
async def graph() -> AsyncIterator[tuple[Held, str]]:
    server = Held()
    async with serving(server.application()) as url:
        yield server, url


async def completed(rig: Rig, run_id: str) -> None:
    async def over() -> bool:
        await rig.clock.travel(1)
        run = await rig.backfills.get(run_id)
        return run is not None and run.status is RunStatus.COMPLETED and run.success_count == 1

    await eventually(over)


async def test_the_lanes_of_live_enrichment(database: Database, graph: tuple[Held, str]) -> None:
    server, url = graph
    async with at_work(database, url) as rig:
        await rig.know(ANA)
        await rig.clock.travel(0)
        await server.asked()
        rig.fetcher.wrote([ConversationKey(ACCOUNT, ANA)])
        await rig.clock.travel(CHANCES_S)
        assert len(server.calls) == 1
        server.go_on.set()
        await rig.settle()
        assert await rig.states() == [("complete", 0)]
        assert len(server.calls) == 1


async def test_a_backfill_waits_for_live_enrichment_and_takes_its_answer(
    database: Database, graph: tuple[Held, str]
) -> None:
    server, url = graph
    async with at_work(database, url) as rig:
        await rig.register(ANA)
        await rig.know(ANA)
        key = ConversationKey(ACCOUNT, ANA)
        await database.write(lambda connection: profiles.refresh(connection, key, rig.clock.now_ms()))
        rig.fetcher.wrote([key])
        await rig.clock.travel(0)
        await server.asked()
        run = await rig.service.start(ACCOUNT, origin="api", batch_size=10)
        await rig.clock.travel(CHANCES_S)
        assert len(server.calls) == 1
        server.go_on.set()
        await completed(rig, run.id)
        assert len(server.calls) == 1


async def test_live_enrichment_leaves_alone_whom_a_backfill_asks_about(
    database: Database, graph: tuple[Held, str]
) -> None:
    server, url = graph
    async with at_work(database, url) as rig:
        await rig.register(ANA)
        run = await rig.service.start(ACCOUNT, origin="api", batch_size=10)
        await rig.clock.travel(0)
        await server.asked()
        key = ConversationKey(ACCOUNT, ANA)
        await database.write(lambda connection: profiles.wrote(connection, [key], rig.clock.now_ms(), 1))
        rig.fetcher.wrote([key])
        await rig.clock.travel(CHANCES_S)
        assert len(server.calls) == 1
        server.go_on.set()
        await completed(rig, run.id)
        assert len(server.calls) == 1
