"""The profile worker against the simulated Graph API, with a clock that is ours."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import msgspec
import pytest
from inboxd.accounts.managed_account import ManagedAccount
from inboxd.conversations.store import participant_changed
from inboxd.domain.account import Account, AccountState, LoginType
from inboxd.domain.budget import Priority
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.profile import Profile, ProfileState
from inboxd.domain.retry import PROFILE_FETCH, REOPEN_REST_S
from inboxd.meta.account_graph import MANY_PEOPLE, AccountGraph
from inboxd.profiles import store as profiles
from inboxd.profiles.cache import ProfileCache
from inboxd.profiles.metrics import ProfileMetrics
from inboxd.profiles.store import DueFetch, ProfileStore
from inboxd.profiles.sync import AMBIGUOUS_REST_MS, ProfileSync, SyncServices
from inboxd.profiles.worker import ProfileFetcher
from inboxd.simulator.graph_server import Behaviour, GraphServer
from inboxd.simulator.people import igsid
from inboxd.storage.database import Database
from prometheus_client import CollectorRegistry

from tests.support import ACCOUNT, ANA, BRUNO, ManualClock, event_log, eventually, meta, told

KEY = ConversationKey(ACCOUNT, ANA)
CALM = Behaviour(latency_ms=0)


class Rig:
    """A fetcher, its clock, and the people it asks about."""

    def __init__(self, database: Database, graph: AccountGraph, server: GraphServer, clock: ManualClock) -> None:
        self.clock = clock
        self.database = database
        self.server = server
        self.graph = graph
        self.cache = ProfileCache(self.clock, ttl_s=86_400, size=100)
        self.pictures = 0
        account = Account(
            id=ACCOUNT,
            login_type=LoginType.INSTAGRAM,
            state=AccountState.ACTIVE,
            created_at=clock.now,
            updated_at=clock.now,
        )
        self.served = ManagedAccount(account, graph, None)
        self.sync = ProfileSync(
            self.served,
            SyncServices(
                database=database,
                cache=self.cache,
                clock=self.clock,
                metrics=ProfileMetrics(CollectorRegistry()),
                event_log=event_log(clock),
                random=lambda: 0.0,
                on_picture=self._count_picture,
                on_profile=participant_changed,
            ),
        )
        self.fetcher = ProfileFetcher(self.sync, ProfileStore(database), clock)

    def _count_picture(self) -> None:
        self.pictures += 1

    async def know(self, *people: str) -> None:
        keys = [ConversationKey(ACCOUNT, who) for who in people]
        await self.database.write(lambda connection: profiles.ensure(connection, keys, self.clock.now))

    async def fetch_due(self) -> int:
        """Everybody who is due now, one after the other; returns how many."""
        count = 0
        while (due := await self.fetcher._next_due()) is not None:
            await self.fetcher._fetch(due)
            count += 1
        return count

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
    clock = ManualClock()
    async with meta(url, database, clock) as platform:
        yield Rig(database, await platform.account(), server, clock)


async def test_what_is_due_is_fetched_and_cached(rig: Rig) -> None:
    await rig.know(ANA, BRUNO)

    assert await rig.fetch_due() == 2
    assert await rig.fetch_due() == 0

    state, username, _, next_at = await rig.row()
    assert (state, next_at) == (ProfileState.COMPLETE, None)
    assert username
    rows = await rig.database.read("SELECT fetched_at FROM participants WHERE participant_id = ?", (ANA,))
    assert rows == [(rig.cache.get(KEY),)]


async def test_a_passing_fault_is_tried_three_times_and_then_rests(rig: Rig) -> None:
    rig.server.behaviour = Behaviour(latency_ms=0, error_rate=1)
    await rig.know(ANA)

    waits = []
    for _ in range(4):
        assert await rig.fetch_due() == 1
        state, _, attempts, next_at = await rig.row()
        assert next_at is not None
        waits.append((state, attempts, next_at))
        rig.clock.now += next_at
    assert waits == [
        ("pending", 1, 1000),
        ("pending", 2, 2000),
        ("failed", 3, int(PROFILE_FETCH.rest_s * 1000)),
        ("pending", 4, 1000),
    ]

    rig.server.behaviour = CALM
    assert await rig.fetch_due() == 1
    assert (await rig.row())[0] == "complete"


async def test_somebody_who_may_have_blocked_the_account_is_given_up_for_a_month(rig: Rig) -> None:
    rig.server.behaviour = Behaviour(latency_ms=0, error_rate=1, error_code=2)
    await rig.know(ANA)
    while (await rig.row())[0] != "unavailable":
        assert await rig.fetch_due() == 1
        rig.clock.now += (await rig.row())[3] or 0
    assert len(rig.server.calls) == 15

    rig.server.behaviour = CALM
    assert await rig.fetch_due() == 1, "the month has passed"
    assert (await rig.row())[0] == "complete"


async def test_the_latest_to_write_is_looked_at_first(rig: Rig) -> None:
    for who in (ANA, BRUNO):
        await rig.know(who)
        rig.clock.now += 1
    due = await rig.fetcher._next_due()
    assert due is not None
    assert due.participant_id == BRUNO


async def test_nobody_is_asked_about_twice_because_of_a_look_that_was_slow(rig: Rig) -> None:
    await rig.know(ANA)
    due = await rig.fetcher._next_due()
    assert due is not None
    read, hold = rig.fetcher._profiles.due, asyncio.Event()

    async def slow(*arguments: Any) -> list[DueFetch]:
        found = await read(*arguments)
        await hold.wait()
        return found

    rig.fetcher._profiles.due = slow  # type: ignore[assignment,method-assign]
    look = asyncio.ensure_future(rig.fetcher._next_due())
    fetch = asyncio.ensure_future(rig.fetcher._fetch(due))

    async def fetched() -> bool:
        return bool((await rig.row())[0] == "complete")

    await eventually(fetched)
    hold.set()

    assert await look is None
    await fetch


async def test_usernames_that_were_left_are_kept_as_history(rig: Rig) -> None:
    await rig.know(ANA)
    names = [f"name_{number}" for number in range(25)]
    for number, name in enumerate(names):
        await rig.database.write(partial(profiles.complete, key=KEY, profile=Profile(name), now=number))
    await rig.database.write(partial(profiles.complete, key=KEY, profile=Profile("name_24"), now=99))

    found = await ProfileStore(rig.database).one(KEY)
    assert found is not None
    assert [(former.username, former.until) for former in found.previous_usernames] == [
        (f"name_{number}", number + 1) for number in range(4, 24)
    ]


async def test_many_who_do_not_exist_lose_neither_their_place_nor_their_attempts(rig: Rig) -> None:
    people = [igsid(number) for number in range(20)]
    await rig.know(*people)
    rig.server.behaviour = Behaviour(latency_ms=0, error_rate=1, error_code=100, error_subcode=33)
    for _ in range(MANY_PEOPLE):
        due = await rig.fetcher._next_due()
        assert due is not None
        await rig.fetcher._fetch(due)
    assert rig.graph.profiles_throttle.stopped_s() > 0
    attempts = sorted(
        row[0] for row in await rig.database.read("SELECT attempts FROM participants WHERE state = 'pending'")
    )
    assert attempts == [0] * 16 + [1] * 4

    rig.server.behaviour = CALM
    rig.clock.now += 3_600_000
    assert await rig.fetch_due() == 20


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
    due = await rig.fetcher._next_due()
    assert due is not None
    rig.fetcher.wrote([KEY])

    await rig.fetcher._fetch(due)

    assert (await rig.row())[::3] == ("no_consent", 0)
    await wrote(rig, ANA)
    assert (await rig.row())[::3] == ("no_consent", 0), "writing once more puts nothing off"


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
async def test_trouble_with_the_account_blames_nobody(rig: Rig, behaviour: Behaviour) -> None:
    rig.server.behaviour = behaviour
    await rig.know(*(igsid(number) for number in range(12)))

    due = await rig.fetcher._next_due()
    assert due is not None
    await rig.fetcher._fetch(due)
    rows = await rig.database.read("SELECT DISTINCT state, attempts, next_attempt_at FROM participants")
    assert rows == [("pending", 0, rig.clock.now)]


async def test_an_account_that_may_not_be_asked_about_asks_about_nobody(rig: Rig) -> None:
    await rig.know(ANA)
    rig.served.account = msgspec.structs.replace(rig.served.account, state=AccountState.NEEDS_LOGIN)
    assert await rig.fetch_due() == 0
    assert rig.server.calls == []


async def test_an_old_profile_is_fetched_again_when_they_write(rig: Rig) -> None:
    await rig.know(ANA)
    await rig.fetch_due()
    rig.clock.now += 86_400_000
    assert await rig.fetch_due() == 0

    await rig.database.write(lambda connection: profiles.wrote(connection, [KEY], rig.clock.now, 86_400_000))

    assert await rig.fetch_due() == 1


async def wrote(rig: Rig, *people: str) -> None:
    keys = [ConversationKey(ACCOUNT, who) for who in people]
    await rig.database.write(lambda connection: profiles.wrote(connection, keys, rig.clock.now, 86_400_000))
    rig.fetcher.wrote(keys)


async def test_a_bad_parameter_is_nobodys_end(rig: Rig) -> None:
    rig.server.behaviour = Behaviour(latency_ms=0, error_rate=1, error_code=100)
    await rig.know(ANA)
    await rig.fetch_due()
    state, _, _, next_at = await rig.row()
    assert (state, next_at) == ("pending", 1000)

    people = [igsid(number) for number in range(20, 40)]
    await rig.know(*people)
    for _ in range(MANY_PEOPLE - 1):
        due = await rig.fetcher._next_due()
        assert due is not None
        await rig.fetcher._fetch(due)
    assert rig.graph.profiles_throttle.stopped_s() > 0, "it is said of everybody, so it is not about them"
    rows = await rig.database.read("SELECT DISTINCT state FROM participants")
    assert rows == [("pending",)]

    rig.server.behaviour = CALM
    rig.clock.now += 3_600_000
    assert await rig.fetch_due() == 21


async def test_the_ambiguous_said_for_ever_is_still_no_proof(rig: Rig) -> None:
    rig.server.behaviour = Behaviour(latency_ms=0, error_rate=1, error_code=100)
    await rig.know(ANA)
    for _ in range(20):
        assert await rig.fetch_due() == 1
        state, _, _, next_at = await rig.row()
        assert state != "unavailable"
        assert next_at is not None
        assert next_at <= PROFILE_FETCH.longest_rest_s * 1000
        rig.clock.now += next_at


async def test_whoever_writes_is_asked_about_again_however_surely_they_were_gone(rig: Rig) -> None:
    rig.server.behaviour = Behaviour(latency_ms=0, error_rate=1, error_code=9010)
    await rig.know(ANA)
    assert await rig.fetch_due() == 1
    assert (await rig.row())[0] == "unavailable"
    rig.server.behaviour = CALM

    await wrote(rig, ANA)

    assert await rig.fetch_due() == 1
    assert (await rig.row())[0] == "complete"


async def test_whoever_writes_while_being_called_gone_is_asked_about_again(rig: Rig) -> None:
    rig.server.behaviour = Behaviour(latency_ms=0, error_rate=1, error_code=9010)
    await rig.know(ANA)
    due = await rig.fetcher._next_due()
    assert due is not None
    await wrote(rig, ANA)
    await rig.fetcher._fetch(due)
    assert (await rig.row())[3] == 0


async def test_somebody_gone_who_writes_and_writes_does_not_use_up_the_budget(rig: Rig) -> None:
    rig.server.behaviour = Behaviour(latency_ms=0, error_rate=1, error_code=9010)
    await rig.know(ANA)
    for _ in range(3600):
        await wrote(rig, ANA)
        await rig.fetch_due()
        rig.clock.now += 1000
    assert 6 <= len(rig.server.calls) <= 3 + 3600 // REOPEN_REST_S


async def test_whoever_writes_does_not_wait_a_week_for_the_next_round(rig: Rig) -> None:
    rig.server.behaviour = Behaviour(latency_ms=0, error_rate=1, error_code=2)
    await rig.know(ANA)
    for _ in range(3):
        await rig.fetch_due()
        rig.clock.now += (await rig.row())[3] or 0
        if (await rig.row())[0] == "failed":
            break
    rig.clock.now -= 5 * 3_600_000
    await wrote(rig, ANA)
    next_at = (await rig.row())[3]
    assert next_at is not None
    assert next_at <= REOPEN_REST_S * 1000


async def test_whoever_was_only_registered_is_asked_about_when_they_write(rig: Rig) -> None:
    await rig.database.write(lambda connection: profiles.register(connection, KEY, None, None, rig.clock.now))
    assert await rig.fetch_due() == 0
    await wrote(rig, ANA)
    assert await rig.fetch_due() == 1


async def test_the_account_itself_is_never_asked_about(rig: Rig) -> None:
    await rig.know(ACCOUNT)
    await wrote(rig, ACCOUNT)
    assert await rig.fetch_due() == 0


async def test_writing_hastens_no_retry_that_is_planned(rig: Rig) -> None:
    """Who writes every second while Meta fails would else use up the budget and the attempts."""
    rig.server.behaviour = Behaviour(latency_ms=0, error_rate=1)
    await rig.know(ANA)
    for retry_in_ms in (1000, 2000):
        assert await rig.fetch_due() == 1
        await wrote(rig, ANA)
        assert (await rig.row())[::3] == ("pending", retry_in_ms)
        assert await rig.fetch_due() == 0
        rig.clock.now += retry_in_ms


async def test_writing_does_not_end_the_rest_after_what_was_said_of_everybody(rig: Rig) -> None:
    rig.server.behaviour = Behaviour(latency_ms=0, error_rate=1, error_code=100)
    people = [igsid(number) for number in range(MANY_PEOPLE)]
    await rig.know(*people)
    for _ in range(MANY_PEOPLE):
        due = await rig.fetcher._next_due()
        assert due is not None
        await rig.fetcher._fetch(due)
    resting = "SELECT participant_id FROM participants WHERE state = 'pending' AND next_attempt_at = ?"
    rests = [row[0] for row in await rig.database.read(resting, (rig.clock.now + AMBIGUOUS_REST_MS,))]
    assert rests
    await wrote(rig, *rests)
    assert [row[0] for row in await rig.database.read(resting, (rig.clock.now + AMBIGUOUS_REST_MS,))] == rests


async def test_what_is_stored_with_a_profile_is_stored_with_it_or_not_at_all(rig: Rig) -> None:
    """A process may end between two transactions: a run would ask again, or count somebody who has no profile."""

    def refuse(_connection: sqlite3.Connection) -> None:
        msg = "the run's row cannot be written"
        raise ValueError(msg)

    await rig.know(ANA)
    before = await rig.row()
    error = await rig.sync.fetch(ANA, Priority.BACKFILL, also=refuse)
    assert error is not None
    assert await rig.row() == before
    assert rig.cache.get(KEY) is None
    with pytest.raises(ValueError, match="cannot be written"):
        await rig.sync.record_failure(ANA, 1, error, refuse)
    assert await rig.row() == before

    def note(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO schedules VALUES ('the run', 1)")

    assert await rig.sync.fetch(ANA, Priority.BACKFILL, also=note) is None
    assert (await rig.row())[0] == "complete"
    assert await rig.database.read("SELECT begun_at FROM schedules WHERE name = 'the run'") == [(1,)]


async def test_who_was_forgotten_while_meta_was_asked_is_kept_in_no_memory_and_told_to_nobody(rig: Rig) -> None:
    await rig.know(ANA)
    due = await rig.fetcher._next_due()
    assert due is not None
    await rig.database.execute("DELETE FROM participants")
    await rig.fetcher._fetch(due)
    assert (rig.cache.get(KEY), rig.pictures, await told(rig.database)) == (None, 0, [])


async def test_the_conversation_of_a_fetched_profile_counts_as_updated(rig: Rig) -> None:
    async def updated_at() -> int:
        ((at,),) = await rig.database.read("SELECT updated_at FROM conversations WHERE participant_id = ?", (ANA,))
        return int(at)

    await rig.database.execute(
        "INSERT INTO conversations (account_id, participant_id, created_at, updated_at) VALUES (?, ?, 1, 1)", KEY
    )
    await rig.know(ANA)
    assert await rig.fetch_due() == 1
    assert await updated_at() == rig.clock.now
    await rig.database.write(lambda connection: profiles.refresh(connection, KEY, rig.clock.now))
    assert await rig.fetch_due() == 1
    assert await updated_at() == rig.clock.now + 1, "it moves even when the clock has not"


async def test_a_blank_username_is_refused_and_what_was_known_stays(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    async def blank(*_: object, **__: object) -> Profile:
        return Profile("  ")

    await rig.know(ANA)
    assert await rig.fetch_due() == 1
    before = await rig.row()
    monkeypatch.setattr(rig.graph, "user_profile", blank)
    await rig.database.write(lambda connection: profiles.refresh(connection, KEY, rig.clock.now))
    assert await rig.fetch_due() == 1
    assert (await rig.row())[:2] == before[:2]
