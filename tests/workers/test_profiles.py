"""The profile worker against the simulated Graph API, with a clock that is ours."""

from collections.abc import AsyncIterator

import pytest
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.profile import ProfileState
from inboxd.domain.retry import PROFILE_FETCH
from inboxd.meta.budget import Budget
from inboxd.meta.graph import GraphClient
from inboxd.metrics import Metrics
from inboxd.secret import Secret
from inboxd.simulator.graph import Behaviour, GraphServer
from inboxd.store import profiles
from inboxd.store.database import Database
from inboxd.store.profile_cache import ProfileCache
from inboxd.workers.profiles import ProfileFetcher

from tests.support import ACCOUNT, ANA, BRUNO, TOKEN, ManualClock

KEY = ConversationKey(ACCOUNT, ANA)
CALM = Behaviour(latency_ms=0)


class Rig:
    """A fetcher, its clock, and the people it asks about."""

    def __init__(self, database: Database, graph: GraphClient, server: GraphServer) -> None:
        self.clock = ManualClock()
        self.database = database
        self.server = server
        self.cache = ProfileCache(self.clock, ttl_s=86_400, size=100)
        self.fetcher = ProfileFetcher(
            ACCOUNT,
            Secret(TOKEN),
            graph=graph,
            budget=Budget(self.clock, calls_per_hour=1000, calls_per_second=1_000_000),
            database=database,
            cache=self.cache,
            clock=self.clock,
            metrics=Metrics(),
            random=lambda: 0.0,
            concurrency=2,
        )

    async def know(self, *people: str) -> None:
        keys = [ConversationKey(ACCOUNT, who) for who in people]
        await self.database.write(lambda connection: profiles.ensure(connection, keys, self.clock.now))

    async def fetch_due(self) -> int:
        """One round; returns how many were due."""
        due = await self.fetcher._due()
        for one in due:
            await self.fetcher._fetch(one)
        return len(due)

    async def row(self, who: str = ANA) -> tuple[str, str | None, int, int | None]:
        """State, username, attempts, and the next attempt in ms from now."""
        ((state, username, attempts, at),) = await self.database.read(
            "SELECT state, username, attempts, next_attempt_at FROM participants WHERE participant_id = ?", (who,)
        )
        return state, username, attempts, None if at is None else at - self.clock.now


@pytest.fixture
async def rig(database: Database, graph: tuple[GraphServer, str]) -> AsyncIterator[Rig]:
    server, url = graph
    server.behaviour = CALM
    async with GraphClient(url, "v25.0", timeout_s=5) as client:
        yield Rig(database, client, server)


async def test_what_is_due_is_fetched_and_cached(rig: Rig) -> None:
    await rig.know(ANA, BRUNO)

    assert await rig.fetch_due() == 2
    assert await rig.fetch_due() == 0

    state, username, _, next_at = await rig.row()
    assert (state, next_at) == (ProfileState.COMPLETE, None)
    cached = rig.cache.get(KEY)
    assert cached is not None
    assert cached.username == username


async def test_a_passing_fault_is_tried_three_times_and_then_rests(rig: Rig) -> None:
    rig.server.behaviour = Behaviour(latency_ms=0, outage=True)
    await rig.know(ANA)

    waits = []
    for _ in range(3):
        assert await rig.fetch_due() == 1
        state, _, attempts, next_at = await rig.row()
        assert next_at is not None
        waits.append((state, attempts, next_at))
        rig.clock.now += next_at
    assert waits == [
        ("pending", 1, 1000),
        ("pending", 2, 2000),
        ("failed", 0, int(PROFILE_FETCH.rest_s * 1000)),
    ]

    rig.server.behaviour = CALM
    assert await rig.fetch_due() == 1
    assert (await rig.row())[0] == "complete"


async def test_no_consent_waits_for_the_person_and_is_tried_at_once_when_they_write(rig: Rig) -> None:
    rig.server.behaviour = Behaviour(latency_ms=0, no_consent=(ANA,))
    await rig.know(ANA)
    await rig.fetch_due()
    assert (await rig.row())[::3] == ("no_consent", None)
    rig.clock.now += 10**10
    assert await rig.fetch_due() == 0

    rig.server.behaviour = CALM
    await rig.database.write(lambda connection: profiles.wrote(connection, [KEY], rig.clock.now, 1))
    assert await rig.fetch_due() == 1
    assert (await rig.row())[0] == "complete"


async def test_somebody_who_writes_while_being_refused_is_asked_again(rig: Rig) -> None:
    rig.server.behaviour = Behaviour(latency_ms=0, no_consent=(ANA,))
    await rig.know(ANA)
    (due,) = await rig.fetcher._due()
    rig.fetcher._asking.add(KEY)
    rig.fetcher.wrote([KEY])

    await rig.fetcher._fetch(due)

    assert (await rig.row())[::3] == ("no_consent", 0)


async def test_nobody_of_that_id_gets_a_long_rest(rig: Rig) -> None:
    await rig.know("42")
    await rig.fetch_due()

    state, _, _, next_at = await rig.row("42")
    assert state == "unavailable"
    assert next_at is not None
    assert next_at >= 7 * 86_400_000


@pytest.mark.parametrize(
    "behaviour", [Behaviour(latency_ms=0, token_expired=True), Behaviour(latency_ms=0, throttled=True)]
)
async def test_trouble_with_the_account_stops_its_calls_and_blames_nobody(rig: Rig, behaviour: Behaviour) -> None:
    rig.server.behaviour = behaviour
    await rig.know(*(str(7_000_000_000_000_000 + number) for number in range(12)))

    await rig.fetch_due()
    assert await rig.fetch_due() == 0
    assert len(rig.server.calls) == 1
    assert await rig.database.read("SELECT DISTINCT state FROM participants") == [("pending",)]

    rig.server.behaviour = CALM
    rig.clock.now += 3_600_000
    assert await rig.fetch_due() == 12


async def test_an_old_profile_is_fetched_again_when_they_write(rig: Rig) -> None:
    await rig.know(ANA)
    await rig.fetch_due()
    rig.clock.now += 86_400_000
    assert await rig.fetch_due() == 0

    await rig.database.write(lambda connection: profiles.wrote(connection, [KEY], rig.clock.now, 86_400_000))

    assert await rig.fetch_due() == 1
