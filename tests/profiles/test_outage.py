"""Meta's host goes away and comes back: a real server that is closed and opened again, and a clock that we move."""

import asyncio
import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, closing
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from inboxd.accounts.manager import ManagedAccount
from inboxd.conversations import store as conversations
from inboxd.domain.account import Account, AccountState, LoginType
from inboxd.domain.backfill import BackfillRun
from inboxd.domain.conversation import ConversationKey, ConversationStatus
from inboxd.domain.run import STEERING, ConversationOutcome, RunStatus, Steering
from inboxd.meta.account_graph import AccountGraph
from inboxd.profiles import store as profiles
from inboxd.profiles.cache import ProfileCache
from inboxd.profiles.metrics import ProfileMetrics
from inboxd.profiles.store import ProfileStore
from inboxd.profiles.sync import ProfileSync, SyncServices
from inboxd.profiles.worker import SCHEDULE, ProfileFetcher
from inboxd.runs.backfill import worker as backfill_worker
from inboxd.runs.backfill.service import BackfillService
from inboxd.runs.backfill.store import BackfillStore
from inboxd.runs.backfill.worker import BackfillWorker
from inboxd.runs.store import Attempt
from inboxd.runtime import logs
from inboxd.runtime.worker import work
from inboxd.simulator.graph_server import Behaviour, GraphServer
from inboxd.simulator.people import igsid
from inboxd.simulator.serving import serving
from inboxd.storage.database import Database
from prometheus_client import CollectorRegistry

from tests.hostile import HostileGraph
from tests.support import ACCOUNT, TOKEN, Meta, TravelClock, event_log, meta


class Host:
    """A Graph API on one port, which can be closed and opened."""

    def __init__(self, app: web.Application) -> None:
        self._app = app
        self._open = AsyncExitStack()
        self.port = 0

    async def open(self) -> str:
        url = await self._open.enter_async_context(serving(self._app, port=self.port))
        self.port = int(url.rpartition(":")[2])
        return url

    async def close(self) -> None:
        await self._open.aclose()


class Rig:
    """One account's enrichment and backfill, at work."""

    def __init__(self, database: Database, platform: Meta, graph: AccountGraph, clock: TravelClock) -> None:
        account = Account(
            id=ACCOUNT, login_type=LoginType.INSTAGRAM, state=AccountState.ACTIVE, created_at=1, updated_at=1
        )
        self.database, self.platform, self.clock, self.graph = database, platform, clock, graph
        self.served = ManagedAccount(account, graph, None)
        log = event_log(clock)
        self.sync = ProfileSync(
            self.served,
            SyncServices(
                database=database,
                cache=ProfileCache(clock, ttl_s=86_400, size=1000),
                clock=clock,
                metrics=ProfileMetrics(CollectorRegistry()),
                event_log=log,
                random=lambda: 0.0,
                on_picture=lambda: None,
                on_profile=conversations.participant_changed,
            ),
        )
        self.fetcher = ProfileFetcher(self.sync, ProfileStore(database), clock)
        self.backfills = BackfillStore(database, log)
        self.worker = BackfillWorker(self.sync, self.backfills, clock, lambda: 0.0)
        self.service = BackfillService(self.backfills, clock)
        self.service.add(self.served, self.worker.wakeup)

    async def know(self, *people: str) -> None:
        keys = [ConversationKey(ACCOUNT, who) for who in people]
        await self.database.write(lambda connection: profiles.ensure(connection, keys, self.clock.now_ms()))
        self.fetcher.wrote(keys)

    async def register(self, *people: str) -> None:
        def transaction(connection: sqlite3.Connection) -> None:
            for who in people:
                key = ConversationKey(ACCOUNT, who)
                profiles.register(connection, key, None, None, 1)
                conversations.create(
                    connection, key, status=ConversationStatus.OPEN, unread_count=0, metadata={}, now=1
                )

        await self.database.write(transaction)

    async def states(self) -> list[tuple[str, int]]:
        rows = await self.database.read("SELECT DISTINCT state, attempts FROM participants ORDER BY state")
        return [(row[0], row[1]) for row in rows]

    async def settle(self) -> None:
        """Let what needs no time be done."""
        before = -1
        for _ in range(200):
            await self.clock.travel(0)
            ((named,),) = await self.database.read("SELECT count(*) FROM participants WHERE state = 'complete'")
            if named == before:
                return
            before = named


@asynccontextmanager
async def at_work(database: Database, url: str, *, budget: int = 10_000) -> AsyncIterator[Rig]:
    clock = TravelClock()
    clock.database = database
    async with meta(url, database, clock, calls_per_hour=budget, timeout_s=2.0) as platform:
        rig = Rig(database, platform, await platform.account(), clock)
        tasks = [
            asyncio.ensure_future(work(rig.fetcher, clock, logs.get("profiles"), replace(SCHEDULE, lanes=2))),
            asyncio.ensure_future(work(rig.worker, clock, logs.get("backfill"), backfill_worker.SCHEDULE)),
        ]
        yield rig
        rig.fetcher.wakeup.stop()
        rig.worker.wakeup.stop()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.parametrize("minutes", [0.1, 5, 300])
async def test_everybody_has_a_name_within_a_minute_of_the_hosts_return(database: Database, minutes: float) -> None:
    server = GraphServer({TOKEN: ACCOUNT})
    server.behaviour = Behaviour(latency_ms=0)
    host = Host(server.application())
    url = await host.open()
    async with at_work(database, url, budget=200) as rig:
        await host.close()
        await rig.know(*(igsid(number) for number in range(30)))
        await rig.clock.travel(minutes * 60)
        assert await rig.states() == [("pending", 0)], "nobody lost an attempt, and nobody waits for anything else"
        assert rig.graph.budget.report().used <= 10, "waiting for the host costs next to nothing"
        ((latest,),) = await database.read("SELECT max(next_attempt_at) FROM participants")
        assert latest <= rig.clock.now_ms()

        await host.open()
        for _ in range(6):
            await rig.clock.travel(10)
            await rig.settle()
        assert await rig.states() == [("complete", 0)]
    await host.close()


async def test_a_backfill_waits_for_the_host_and_says_so(database: Database) -> None:
    server = GraphServer({TOKEN: ACCOUNT})
    server.behaviour = Behaviour(latency_ms=0)
    host = Host(server.application())
    url = await host.open()
    async with at_work(database, url) as rig:
        await host.close()
        await rig.register(*(igsid(number) for number in range(12)))
        run = await rig.service.start(ACCOUNT, origin="api", batch_size=10)
        for _ in range(30):
            await rig.clock.travel(10)
        found = await rig.backfills.get(run.id)
        assert found is not None
        assert (found.status, found.processed) == (RunStatus.RUNNING, 0)
        told = rig.service.estimate(found)
        assert told.status is RunStatus.WAITING
        assert "does not answer" in (told.reason or "")

        await host.open()
        for _ in range(6):
            await rig.clock.travel(10)
            await rig.settle()
        found = await rig.backfills.get(run.id)
        assert found is not None
        assert (found.status, found.success_count, found.error_count) == (RunStatus.COMPLETED, 12, 0)
    await host.close()


async def test_a_backfill_begins_with_the_latest_conversation(database: Database) -> None:
    """What somebody looks at now has its name first; an old inbox takes hours."""
    server = HostileGraph()
    order = [3, 0, 4, 1, 2, 5]
    async with serving(server.application()) as url, at_work(database, url) as rig:
        await rig.register(*(igsid(number) for number in range(6)))
        for at, number in enumerate(order[:-1]):  # of the last one nobody knows when it was
            await database.execute(
                "UPDATE conversations SET last_message_at = ? WHERE participant_id = ?", (1000 - at, igsid(number))
            )
        await rig.service.start(ACCOUNT, origin="api", batch_size=2)
        for _ in range(10):
            await rig.clock.travel(1)
        assert [call.rpartition("/")[2] for call in server.calls] == [igsid(number) for number in order]


async def test_who_came_up_meanwhile_is_in_the_run(database: Database) -> None:
    """Whoever writes during a run stands above the place where it is: it looks from the top again before it ends."""
    server = HostileGraph()
    first, last = igsid(0), igsid(2)

    def last_writes(_request: web.Request) -> web.Response:
        with closing(sqlite3.connect(database.path)) as connection, connection:
            connection.execute("UPDATE conversations SET last_message_at = 9000 WHERE participant_id = ?", (last,))
        return web.json_response({"username": "first"})

    server.answers[first] = last_writes
    async with serving(server.application()) as url, at_work(database, url) as rig:
        await rig.register(*(igsid(number) for number in range(3)))
        for number in range(3):
            await database.execute(
                "UPDATE conversations SET last_message_at = ? WHERE participant_id = ?", (1000 - number, igsid(number))
            )
        run = await rig.service.start(ACCOUNT, origin="api", batch_size=1)
        for _ in range(10):
            await rig.clock.travel(1)
        found = await rig.backfills.get(run.id)
        assert found is not None
        assert (found.status, found.success_count) == (RunStatus.COMPLETED, 3)


async def test_a_paused_run_costs_nothing(database: Database) -> None:
    server = HostileGraph()
    async with serving(server.application()) as url, at_work(database, url) as rig:
        await rig.register(igsid(0))
        looks: list[str] = []
        active = rig.backfills.active

        async def counted(account_id: str) -> BackfillRun | None:
            looks.append(account_id)
            return await active(account_id)

        rig.backfills.active = counted  # type: ignore[method-assign]
        service = BackfillService(rig.backfills, rig.clock)  # which wakes nobody
        await service.steer(await service.start(ACCOUNT, origin="api", batch_size=1), Steering.PAUSE)
        rig.worker.wakeup.notify()
        for _ in range(20):
            await rig.clock.travel(60)
        assert len(looks) == 1, "and then it waits to be told"
        assert server.calls == []


async def test_a_conversation_is_counted_once(database: Database) -> None:
    """A crash between a call and its answer has it asked about again: the numbers of the run stay true."""
    async with serving(HostileGraph().application()) as url, at_work(database, url) as rig:
        await rig.register(igsid(0))
        run = await BackfillService(rig.backfills, rig.clock).start(ACCOUNT, origin="api", batch_size=1)
        for outcome in (ConversationOutcome.ERROR, ConversationOutcome.SUCCESS):
            await rig.backfills.record(run.id, Attempt(1, igsid(0), outcome, None, None, 1, 1))
        found = await rig.backfills.get(run.id)
        assert found is not None
        assert found.processed == 1


class OneBadPerson(HostileGraph):
    """Meta's edge fails for one person only, each time."""

    def __init__(self, who: str) -> None:
        super().__init__()
        page = b"<html>Sorry, something went wrong.</html>"
        self.answers[who] = lambda _request: web.Response(status=500, body=page, content_type="text/html")


@pytest.mark.parametrize("others", [0, 1, 10])
async def test_one_person_whom_the_host_never_answers_about_stops_nobody(database: Database, others: int) -> None:
    bad = igsid(99)
    server = OneBadPerson(bad)
    async with serving(server.application()) as url, at_work(database, url, budget=200) as rig:
        await rig.know(bad, *(igsid(number) for number in range(others)))
        for _ in range(60):
            await rig.clock.travel(10)
        rows: dict[str, str] = dict(await database.read("SELECT participant_id, state FROM participants"))
        assert rows.pop(bad) in {"failed", "pending"}
        assert set(rows.values()) <= {"complete"}
        asked = sum(call.endswith(bad) for call in server.calls)
        assert 3 <= asked <= 10
        assert len(server.calls) <= others + 20, "and it does not use up the budget"
        await rig.know(igsid(1000))
        await rig.clock.travel(60)
        ((state,),) = await database.read("SELECT state FROM participants WHERE participant_id = ?", (igsid(1000),))
        assert state == "complete"


async def test_one_bad_person_is_an_error_of_a_backfill_after_three_attempts(database: Database) -> None:
    bad = igsid(5)
    server = OneBadPerson(bad)
    async with serving(server.application()) as url, at_work(database, url) as rig:
        await rig.register(*(igsid(number) for number in range(10)))
        run = await rig.service.start(ACCOUNT, origin="api", batch_size=10)
        for _ in range(20):
            await rig.clock.travel(10)
            await rig.settle()
        found = await rig.backfills.get(run.id)
        assert found is not None
        assert (found.status, found.success_count, found.error_count) == (RunStatus.COMPLETED, 9, 1)
        (problem,) = await rig.backfills.problems(run.id, limit=10, offset=0)
        assert (problem.participant_id, problem.attempts) == (bad, 3)


async def test_a_host_that_answers_half_of_the_calls_costs_nobody_hours(database: Database) -> None:
    server = HostileGraph()
    chance = random.Random(20261124)
    usual = server._usual

    async def every_second(request: web.Request) -> web.StreamResponse:
        server.calls.append(request.path)
        if chance.random() < 0.5:
            return web.Response(status=502, text="<html></html>", content_type="text/html")
        return web.json_response(usual(request, request.path.rpartition("/")[2]))

    server._answer = every_second  # type: ignore[method-assign]
    async with serving(server.application()) as url, at_work(database, url) as rig:
        await rig.know(*(igsid(number) for number in range(20)))
        for _ in range(120):
            await rig.clock.travel(10)
        assert await rig.states() == [("complete", 0)]


@pytest.mark.parametrize("how", [Steering.PAUSE, Steering.CANCEL])
@pytest.mark.parametrize("moment", ["begin", "end"])
async def test_what_somebody_changes_between_two_looks_is_not_overwritten(
    database: Database, how: Steering, moment: str
) -> None:
    """The worker has read the run; then it is paused; then the worker writes what it wanted to write."""
    server = GraphServer({TOKEN: ACCOUNT})
    server.behaviour = Behaviour(latency_ms=0)
    async with serving(server.application()) as url, at_work(database, url) as rig:
        await rig.register(igsid(0), igsid(1))
        steered: list[bool] = []
        set_status = rig.backfills.set_status

        async def interfere(run_id: str, status: RunStatus, now: int, *rest: Any, **more: Any) -> bool:
            wanted = RunStatus.RUNNING if moment == "begin" else RunStatus.COMPLETED
            if status is wanted and not steered:
                steered.append(True)
                run = await rig.backfills.get(run_id)
                assert run is not None
                steered[0] = await BackfillService(BackfillStore(database, event_log(rig.clock)), rig.clock).steer(
                    run, how
                )
            return await set_status(run_id, status, now, *rest, **more)

        rig.backfills.set_status = interfere  # type: ignore[method-assign]
        run = await rig.service.start(ACCOUNT, origin="api", batch_size=10)
        for _ in range(10):
            await rig.clock.travel(1)
        assert steered == [True]
        found = await rig.backfills.get(run.id)
        assert found is not None
        assert found.status is STEERING[how][0]
        if how is Steering.PAUSE:
            assert await rig.service.steer(found, Steering.RESUME)
            for _ in range(10):
                await rig.clock.travel(1)
            found = await rig.backfills.get(run.id)
            assert found is not None
            assert (found.status, found.success_count) == (RunStatus.COMPLETED, 2)


async def test_an_account_that_alone_gets_no_answers_waits_too(database: Database) -> None:
    """The same host answers another account all the time, so its circuit stays closed."""
    page = b"<html>Sorry, something went wrong.</html>"
    server = HostileGraph()

    async def by_token(request: web.Request) -> web.StreamResponse:
        server.calls.append(request.headers.get("Authorization", ""))
        if broken and request.headers.get("Authorization") == f"Bearer {TOKEN}":
            return web.Response(status=500, body=page, content_type="text/html")
        return web.json_response(server._usual(request, request.path.rpartition("/")[2]))

    broken = True
    server._answer = by_token  # type: ignore[method-assign]
    async with serving(server.application()) as url, at_work(database, url, budget=200) as rig:
        other = await rig.platform.account("other", "17841400000000002")
        await rig.know(*(igsid(number) for number in range(10)))
        for number in range(60):
            call = asyncio.ensure_future(other.user_profile(igsid(number)))
            await rig.clock.travel(10)
            await rig.clock.travel(30)
            await asyncio.wait_for(call, 5)
        assert await rig.states() == [("pending", 0)]
        assert rig.graph.budget.report().used <= 100
        broken = False
        for _ in range(8):
            await rig.clock.travel(10)
            await rig.settle()
        assert await rig.states() == [("complete", 0)]
