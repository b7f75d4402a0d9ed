"""Participants and their profiles: what was fetched, and when what is fetched next."""

import sqlite3
from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

import msgspec

from inboxd.domain.conversation import ConversationKey
from inboxd.domain.profile import Profile, ProfileState, is_fresh
from inboxd.domain.retry import reopened_at
from inboxd.storage.connection import Row, fetch, fetch_packed, insert_many
from inboxd.storage.database import Database

_ENSURE: Final = """
INSERT INTO participants (account_id, participant_id, state, reason, next_attempt_at, created_at, updated_at)
{rows} ON CONFLICT (account_id, participant_id) DO NOTHING
"""
_REGISTER: Final = """
INSERT INTO participants (account_id, participant_id, created_at, updated_at) VALUES (?1, ?2, ?3, ?3)
ON CONFLICT DO NOTHING
"""
_NAME: Final = """
UPDATE participants SET state = 'complete', username = ?1, profile_pic = ?2, fetched_at = 0, updated_at = ?3
WHERE account_id = ?4 AND participant_id = ?5 AND fetched_at IS NULL
"""
_FIRST_NAMES: Final = """
UPDATE participants AS p SET username = k.value ->> 2, updated_at = ?
FROM json_each(?) AS k
WHERE p.account_id = k.value ->> 0 AND p.participant_id = k.value ->> 1 AND p.username IS NULL AND p.fetched_at IS NULL
"""
_REFRESH: Final = """
UPDATE participants SET attempts = 0, next_attempt_at = ?1
WHERE account_id = ?2 AND participant_id = ?3 AND account_id <> participant_id
"""
_WANT: Final = """
UPDATE participants AS p SET attempts = 0, next_attempt_at = ?
FROM json_each(?) AS k
WHERE p.account_id = k.value ->> 0 AND p.participant_id = k.value ->> 1
"""
_REOPEN: Final = """
UPDATE participants AS p SET
    next_attempt_at = k.value ->> 2, state = CASE WHEN p.state = 'unavailable' THEN 'pending' ELSE p.state END
FROM json_each(?) AS k
WHERE p.account_id = k.value ->> 0 AND p.participant_id = k.value ->> 1
"""
_LOOK_UP: Final = """
SELECT json_group_array(json_array(
    p.account_id, p.participant_id, p.state, p.next_attempt_at, p.fetched_at, p.attempts, p.updated_at
))
FROM json_each(?) AS k CROSS JOIN participants AS p
WHERE p.account_id = k.value ->> 0 AND p.participant_id = k.value ->> 1
"""
_DUE: Final = """
SELECT participant_id, attempts FROM participants
WHERE account_id = ? AND next_attempt_at <= ? ORDER BY next_attempt_at DESC LIMIT ?
"""
_NEXT_DUE: Final = """
SELECT min(next_attempt_at) FROM participants WHERE account_id = ? AND next_attempt_at > ?
"""
_COUNT_DUE: Final = """
SELECT count(*) FROM participants WHERE account_id IN (SELECT value FROM json_each(?)) AND next_attempt_at <= ?
"""
_COMPLETE: Final = """
UPDATE participants SET
    previous_usernames = CASE
        WHEN username IS NULL OR username = ?1 THEN previous_usernames
        ELSE json_remove(
            json_insert(previous_usernames, '$[#]', json_object('username', username, 'until', ?8)),
            CASE WHEN json_array_length(previous_usernames) >= 20 THEN '$[0]' ELSE '$[#]' END
        )
    END,
    state = 'complete', username = ?1, name = ?2, profile_pic = ?3, follower_count = ?4, is_verified_user = ?5,
    is_user_follow_business = ?6, is_business_follow_user = ?7, fetched_at = ?8, attempts = 0, next_attempt_at = NULL,
    reason = NULL, updated_at = ?8,
    avatar = CASE WHEN ?3 IS NULL THEN NULL ELSE avatar END,
    avatar_due_at = CASE WHEN ?3 IS NULL THEN NULL ELSE ?8 END,
    avatar_attempts = 0
WHERE account_id = ?9 AND participant_id = ?10
"""
_FAILED: Final = """
UPDATE participants SET
    -- 0: never fetched, but the name is known from another system
    state = CASE WHEN coalesce(fetched_at, 0) = 0 THEN ?1 ELSE 'complete' END,
    reason = ?2,
    attempts = ?3,
    next_attempt_at = ?4,
    updated_at = ?5
WHERE account_id = ?6 AND participant_id = ?7
"""


_PARTICIPANTS: Final = """
SELECT account_id, participant_id, state, previous_usernames, avatar, fetched_at, reason, attempts, next_attempt_at,
       created_at, updated_at, username, name, profile_pic, follower_count, is_verified_user, is_user_follow_business,
       is_business_follow_user
FROM participants
"""


class DueFetch(NamedTuple):
    """A participant whose profile is to be fetched, after so many failed attempts."""

    participant_id: str
    attempts: int


class FormerUsername(msgspec.Struct, frozen=True):
    """A username that a participant had until `until` (ms)."""

    username: str
    until: int


class Participant(NamedTuple):
    """A participant: the profile as far as it is known, and how that stands. Times in ms."""

    key: ConversationKey
    state: ProfileState
    profile: Profile | None
    previous_usernames: list[FormerUsername]
    avatar: str | None
    fetched_at: int | None
    reason: str | None
    attempts: int
    next_attempt_at: int | None
    created_at: int
    updated_at: int


def ensure(connection: sqlite3.Connection, keys: Iterable[ConversationKey], now: int) -> None:
    """Create the participants among `keys` that are not known, with a fetch due at once.

    The account itself, in the conversation that it has with itself, gets none.
    """
    rows = [
        (*key, "unavailable", "the account itself", None, now, now)
        if key.account_id == key.participant_id
        else (*key, "pending", None, now, now, now)
        for key in sorted(keys)
    ]
    insert_many(connection, _ENSURE, rows)


def name(connection: sqlite3.Connection, usernames: Mapping[ConversationKey, str], now: int) -> None:
    """Store usernames that webhooks mentioned, where nothing else is known of the participant. The fetch stays due."""
    if usernames:
        packed = msgspec.json.encode([(*key, username) for key, username in sorted(usernames.items())]).decode()
        connection.execute(_FIRST_NAMES, (now, packed))


def register(
    connection: sqlite3.Connection, key: ConversationKey, username: str | None, profile_pic: str | None, now: int
) -> None:
    """Create a participant that another system knows. No fetch is due: backfill makes it.

    With a username the profile counts as fetched long ago: it is shown, and fetched when the participant writes.
    """
    connection.execute(_REGISTER, (*key, now))
    if username is not None:
        connection.execute(_NAME, (username, profile_pic, now, *key))


def refresh(connection: sqlite3.Connection, key: ConversationKey, now: int) -> bool:
    """Make a fetch due at once; False when there is no such participant."""
    return connection.execute(_REFRESH, (now, *key)).rowcount > 0


def wrote(
    connection: sqlite3.Connection, keys: Iterable[ConversationKey], now: int, ttl_ms: int
) -> dict[ConversationKey, int]:
    """These participants have written. Returns when their profiles were fetched (ms), of those that are fresh.

    For the others a fetch becomes due: at once for a participant who was never asked about, was refused for lack of
    consent, or was said not to exist. A fetch that is planned for later after a failure is brought forward
    (`reopened_at`); one that is due, or about to be tried again, keeps its time.
    """
    found: dict[ConversationKey, int] = {}
    wanted: list[ConversationKey] = []
    reopened: list[tuple[str, str, int]] = []
    rows = fetch_packed(connection, _LOOK_UP, (_keys(keys),))
    for account_id, participant_id, state, next_attempt_at, fetched_at, attempts, failed_at in rows:
        key = ConversationKey(account_id, participant_id)
        if fetched_at is not None and is_fresh(fetched_at, now, ttl_ms):
            found[key] = fetched_at
        elif account_id == participant_id:
            continue
        elif next_attempt_at is None and state != ProfileState.UNAVAILABLE:
            wanted.append(key)
        elif state != ProfileState.PENDING:
            at = reopened_at(attempts, failed_at, now, gone=state == ProfileState.UNAVAILABLE)
            if next_attempt_at is None or at < next_attempt_at:
                reopened.append((*key, at))
    if wanted:
        connection.execute(_WANT, (now, _keys(wanted)))
    if reopened:
        connection.execute(_REOPEN, (msgspec.json.encode(reopened).decode(),))
    return found


def complete(connection: sqlite3.Connection, key: ConversationKey, profile: Profile, now: int) -> bool:
    """Store a fetched profile. A username that it replaces becomes history (the last 20), a picture becomes due.

    False, and nothing is stored, when the participant was erased meanwhile.
    """
    return connection.execute(_COMPLETE, (*msgspec.structs.astuple(profile), now, *key)).rowcount > 0


def fail(
    connection: sqlite3.Connection,
    key: ConversationKey,
    *,
    state: ProfileState,
    reason: str,
    attempts: int,
    next_attempt_at: int | None,
    now: int,
) -> None:
    """Store a failed fetch, and when to retry (ms; None: not by itself). The profile that was known stays."""
    values = (state.value, reason, attempts, next_attempt_at, now)
    connection.execute(_FAILED, (*values, *key))


def one(connection: sqlite3.Connection, key: ConversationKey) -> Participant | None:
    """One participant, as this connection sees it; None when there is none."""
    rows = fetch(connection, f"{_PARTICIPANTS} WHERE account_id = ? AND participant_id = ?", key)
    return _participant(rows[0]) if rows else None


class ProfileStore:
    """Participants, their profiles, and which fetches are due. The functions above run in others' transactions."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def due(self, account_id: str, now: int, limit: int) -> list[DueFetch]:
        """Fetches of an account that are due at `now` (ms), the latest first: who has just written is fetched first."""
        return [DueFetch(*row) for row in await self._database.read(_DUE, (account_id, now, limit))]

    async def next_due_at(self, account_id: str, now: int) -> int | None:
        """When the account's next fetch after `now` is due (ms), or None."""
        ((next_at,),) = await self._database.read(_NEXT_DUE, (account_id, now))
        return None if next_at is None else int(next_at)

    async def count_due(self, account_ids: Iterable[str], now: int) -> int:
        """How many fetches of these accounts are due at `now` (ms)."""
        accounts = msgspec.json.encode(sorted(account_ids)).decode()
        ((count,),) = await self._database.read(_COUNT_DUE, (accounts, now))
        return int(count)

    async def refresh(self, key: ConversationKey, now: int) -> bool:
        """Make a fetch due at `now` (ms); False when there is no such participant. Raises StorageError."""
        return await self._database.write(lambda connection: refresh(connection, key, now))

    async def one(self, key: ConversationKey) -> Participant | None:
        """One participant; None when there is none."""
        return await self._database.reading(lambda connection: one(connection, key))

    async def page(
        self, *, account_id: str | None, state: ProfileState | None, limit: int, offset: int
    ) -> tuple[list[Participant], int]:
        """A page of participants by account and id, and how many there are in all."""
        conditions = {"account_id = ?": account_id, "state = ?": state}
        given = {sql: value for sql, value in conditions.items() if value is not None}
        where = " WHERE " + " AND ".join(given) if given else ""
        parameters = list(given.values())
        rows = await self._database.read(
            f"{_PARTICIPANTS}{where} ORDER BY account_id, participant_id LIMIT ? OFFSET ?", [*parameters, limit, offset]
        )
        ((total,),) = await self._database.read(f"SELECT count(*) FROM participants{where}", parameters)  # noqa: S608 - constants
        return [_participant(row) for row in rows], int(total)


def _keys(keys: Iterable[ConversationKey]) -> str:
    return msgspec.json.encode(sorted(keys)).decode()


def _participant(row: Row) -> Participant:
    (account_id, participant_id, state, usernames, avatar, fetched_at, *times), profile = row[:11], row[11:]
    reason, attempts, next_attempt_at, created_at, updated_at = times
    return Participant(
        key=ConversationKey(account_id, participant_id),
        state=ProfileState(state),
        profile=None if profile[0] is None else _profile(profile),
        previous_usernames=msgspec.json.decode(usernames, type=list[FormerUsername]),
        avatar=avatar,
        fetched_at=fetched_at,
        reason=reason,
        attempts=attempts,
        next_attempt_at=next_attempt_at,
        created_at=created_at,
        updated_at=updated_at,
    )


def _profile(row: Row) -> Profile:
    username, name, profile_pic, follower_count, *flags = row
    return Profile(
        username, name, profile_pic, follower_count, *(None if flag is None else bool(flag) for flag in flags)
    )
