"""What a fetched profile tells: that there is a name now, and what really changed later."""

import sqlite3

import msgspec
import pytest
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.profile import Profile, ProfileState
from inboxd.profiles import store as profiles
from inboxd.profiles.event_recording import record_failed, record_fetched
from inboxd.storage.database import Database

from tests.support import ACCOUNT, ANA, T0, event_log

KEY = ConversationKey(ACCOUNT, ANA)
ANAS = Profile(
    username="ana.b",
    name="Ana",
    profile_pic="https://scontent.example/v/1.jpg?oh=1&oe=1",
    follower_count=12,
    is_verified_user=False,
    is_user_follow_business=True,
    is_business_follow_user=False,
)


async def told(database: Database, *fetched: Profile) -> list[tuple[str, str | None]]:
    """The events of these fetches, one after the other: each with the username before."""
    log = event_log()

    def fetch(connection: sqlite3.Connection, profile: Profile) -> None:
        profiles.ensure(connection, [KEY], T0)
        before = profiles.one(connection, KEY)
        profiles.complete(connection, KEY, profile, T0)
        after = profiles.one(connection, KEY)
        assert after is not None
        record_fetched(connection, log, before, after, T0)

    for one in fetched:
        await database.write(lambda connection, one=one: fetch(connection, one))  # type: ignore[misc]
    rows = await database.read("SELECT type, data ->> '$.previousUsername' FROM events ORDER BY seq")
    return [(row[0], row[1]) for row in rows]


@pytest.mark.parametrize(
    "change",
    [
        {"profile_pic": "https://scontent.example/v/1.jpg?oh=2&oe=2"},
        {"follower_count": 13},
        {},
    ],
)
async def test_what_changes_with_every_fetch_is_not_told(database: Database, change: dict[str, object]) -> None:
    again = msgspec.structs.replace(ANAS, **change)
    assert await told(database, ANAS, again) == [("profile.completed", None)]


@pytest.mark.parametrize(
    ("change", "before"),
    [
        ({"profile_pic": "https://scontent.example/v/2.jpg?oh=1&oe=1"}, None),
        ({"profile_pic": None}, None),
        ({"name": "Ana B"}, None),
        ({"is_user_follow_business": False}, None),
        ({"username": "ana.c"}, "ana.b"),
    ],
)
async def test_what_really_changed_is_told(database: Database, change: dict[str, object], before: str | None) -> None:
    again = msgspec.structs.replace(ANAS, **change)
    assert await told(database, ANAS, again) == [("profile.completed", None), ("participant.updated", before)]


async def test_a_failure_is_told_once_for_each_state(database: Database) -> None:
    log = event_log()

    def fail(connection: sqlite3.Connection) -> None:
        profiles.ensure(connection, [KEY], T0)
        for state in (ProfileState.PENDING, ProfileState.NO_CONSENT, ProfileState.NO_CONSENT, ProfileState.UNAVAILABLE):
            before = profiles.one(connection, KEY)
            profiles.fail(connection, KEY, state=state, reason="refused", attempts=1, next_attempt_at=None, now=T0)
            after = profiles.one(connection, KEY)
            assert after is not None
            record_failed(connection, log, before, after, T0)

    await database.write(fail)
    rows = await database.read(
        "SELECT data ->> '$.profileState' FROM events WHERE type = 'profile.failed' ORDER BY seq"
    )
    assert [row[0] for row in rows] == ["no_consent", "unavailable"]
