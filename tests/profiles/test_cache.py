import sqlite3

import pytest
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.profile import Profile, ProfileState
from inboxd.profiles import store as profiles
from inboxd.profiles.cache import ProfileCache
from inboxd.profiles.store import ProfileStore
from inboxd.storage.database import Database

from tests.support import ACCOUNT, ANA, BRUNO, ManualClock

KEY = ConversationKey(ACCOUNT, ANA)
PROFILE = Profile(username="ana_x")
DAY_S = 86_400


def test_an_entry_is_fresh_for_its_ttl_and_no_longer() -> None:
    clock = ManualClock()
    cache = ProfileCache(clock, ttl_s=DAY_S, size=10)
    cache.put(KEY, clock.now)

    clock.now += DAY_S * 1000 - 1
    assert cache.get(KEY) == clock.now - DAY_S * 1000 + 1
    clock.now += 1
    assert cache.get(KEY) is None


def test_an_entry_that_is_old_when_it_comes_in_keeps_its_age() -> None:
    clock = ManualClock()
    cache = ProfileCache(clock, ttl_s=DAY_S, size=10)
    cache.put(KEY, clock.now - 20 * 3_600_000)

    assert cache.get(KEY) == clock.now - 20 * 3_600_000
    clock.now += 4 * 3_600_000
    assert cache.get(KEY) is None


def test_the_cache_is_bounded() -> None:
    clock = ManualClock()
    cache = ProfileCache(clock, ttl_s=DAY_S, size=3)
    for number in range(10):
        cache.put(ConversationKey(ACCOUNT, str(number)), clock.now)

    assert len(cache) == 3


@pytest.fixture
async def two(database: Database) -> Database:
    await database.write(lambda connection: profiles.ensure(connection, [KEY, ConversationKey(ACCOUNT, BRUNO)], 1000))
    return database


async def due(database: Database, now: int) -> list[str]:
    return [one.participant_id for one in await ProfileStore(database).due(ACCOUNT, now, 10)]


async def test_new_participants_are_due_at_once(two: Database) -> None:
    assert await due(two, 1000) == [ANA, BRUNO]


async def test_the_account_itself_is_nobody_to_ask_about(database: Database) -> None:
    await database.write(lambda connection: profiles.ensure(connection, [ConversationKey(ACCOUNT, ACCOUNT)], 1000))

    assert await due(database, 9999) == []


async def test_a_fresh_profile_is_not_due_again_until_it_is_old(two: Database) -> None:
    ttl = DAY_S * 1000

    await two.write(lambda connection: profiles.complete(connection, KEY, PROFILE, 2000))
    fresh = await two.write(lambda connection: profiles.wrote(connection, [KEY], 3000, ttl))
    assert fresh == {KEY: 2000}
    assert await due(two, 3000) == [BRUNO]

    assert await two.write(lambda connection: profiles.wrote(connection, [KEY], 2000 + ttl, ttl)) == {}
    assert await due(two, 2000 + ttl) == [ANA, BRUNO], "whoever wrote last is looked at first"


async def test_missing_consent_waits_for_the_person(two: Database) -> None:
    def refused(connection: sqlite3.Connection) -> None:
        profiles.fail(
            connection, KEY, state=ProfileState.NO_CONSENT, reason="230", attempts=0, next_attempt_at=None, now=2000
        )

    await two.write(refused)
    assert await due(two, 10**12) == [BRUNO]

    await two.write(lambda connection: profiles.wrote(connection, [KEY], 5000, 1))
    assert ANA in await due(two, 5000)


async def test_a_failed_refresh_keeps_what_was_known(two: Database) -> None:
    def refresh(connection: sqlite3.Connection) -> None:
        profiles.complete(connection, KEY, PROFILE, 2000)
        profiles.fail(
            connection, KEY, state=ProfileState.FAILED, reason="down", attempts=0, next_attempt_at=9000, now=3000
        )

    await two.write(refresh)

    assert await two.read("SELECT state, username, reason FROM participants WHERE participant_id = ?", (ANA,)) == [
        ("complete", "ana_x", "down")
    ]
