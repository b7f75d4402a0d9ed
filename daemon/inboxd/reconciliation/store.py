"""What reconciliation keeps of each account: how far it was compared, which conversations are due, and its checks."""

import hashlib
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from typing import Final, NamedTuple

import msgspec

from inboxd.domain.mailbox import ListedConversation, Party
from inboxd.domain.reconciliation import (
    LONGEST_WAIT_MS,
    RENEW_AFTER_MS,
    UNSERVED_MESSAGES,
    UNSERVED_MS,
    Cause,
    Gap,
)
from inboxd.storage.database import Database

_STATE: Final = """
SELECT since, checked_to, checked_at, next_check_at, quiet_checks, failures, error, walked_at, walked_pages
FROM reconciled_accounts WHERE account_id = ?
"""
_HEALED_SINCE: Final = "SELECT since FROM reconciled_accounts WHERE account_id = ? AND checked_at > ?"
_AT_WORK_MS: Final = 86_400_000
"""Whoever was checked within this time is checked again."""
_BEGIN: Final = """
INSERT INTO reconciled_accounts (account_id, since, checked_to) VALUES (?1, ?2, ?2)
ON CONFLICT DO UPDATE SET since = excluded.since, checked_to = excluded.checked_to
"""
_LISTED: Final = """
INSERT INTO listed_conversations
    (account_id, api_key, api_id, participant_id, participants, updated_time, read_to)
VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET
    api_id = excluded.api_id, participant_id = excluded.participant_id, participants = excluded.participants,
    updated_time = excluded.updated_time,
    read_to = CASE
        WHEN excluded.updated_time < updated_time THEN min(read_to, excluded.read_to) ELSE read_to
    END, -- a time that was too late told nothing of how far it was read
    not_before = CASE WHEN attempts = 0 THEN 0 ELSE not_before END
WHERE (erased_at IS NULL OR excluded.updated_time > erased_at)
  AND (updated_time <> excluded.updated_time OR participants IS NOT excluded.participants)
"""
_DUE: Final = """
SELECT l.api_key, l.api_id, l.participants, l.updated_time, l.read_to, l.attempts, l.erased_at
FROM listed_conversations AS l INDEXED BY listed_conversations_due
LEFT JOIN conversations AS c ON c.account_id = l.account_id AND c.participant_id = l.participant_id
WHERE l.account_id = ?1 AND l.updated_time > l.read_to AND l.api_id IS NOT NULL
  AND (l.not_before <= ?2 OR l.not_before > ?4) -- the latter is from a clock that was wrong
ORDER BY l.updated_time > coalesce(c.last_message_at, 0) DESC, l.attempts, l.updated_time LIMIT ?3
"""
_WAITING: Final = """
SELECT count(*), coalesce(sum(attempts > 0), 0) FROM listed_conversations INDEXED BY listed_conversations_due
WHERE account_id = ? AND updated_time > read_to AND api_id IS NOT NULL
"""
_PARTIES: Final = """
SELECT participants FROM listed_conversations WHERE account_id = ? AND participants IS NOT NULL LIMIT 50
"""
_READ: Final = """
UPDATE listed_conversations SET read_to = ?, not_before = ?, attempts = 0, error = NULL
WHERE account_id = ? AND api_key = ?
"""
_MARK_ERASED: Final = """
UPDATE listed_conversations SET
    api_id = NULL, participant_id = NULL, participants = NULL, error = NULL, attempts = 0,
    erased_at = max(updated_time, ?), read_to = max(read_to, updated_time)
WHERE account_id = ? AND api_key = ?
"""
_FAILED: Final = """
UPDATE listed_conversations SET attempts = attempts + 1, not_before = ?, error = ? WHERE account_id = ? AND api_key = ?
"""
_WALKED: Final = """
UPDATE reconciled_accounts SET
    checked_to = max(checked_to, ?), walked_at = coalesce(?, walked_at), walked_pages = coalesce(?, walked_pages)
WHERE account_id = ?
"""
_OPEN: Final = "SELECT id, reason, started_at FROM reconciliation_checks WHERE account_id = ? AND finished_at IS NULL"
_OPENED: Final = "INSERT INTO reconciliation_checks (account_id, reason, started_at) VALUES (?, ?, ?)"
_COUNTED: Final = """
UPDATE reconciliation_checks SET calls = calls + ?, read = read + ?, healed = healed + ? WHERE id = ?
"""
_FINISHED: Final = "UPDATE reconciliation_checks SET finished_at = ?, calls = calls + ? WHERE id = ?"
_SCHEDULED: Final = """
UPDATE reconciled_accounts SET checked_at = ?, next_check_at = ?, quiet_checks = ?, failures = 0, error = NULL
WHERE account_id = ?
"""
_POSTPONED: Final = """
UPDATE reconciled_accounts SET next_check_at = ?, failures = failures + 1, quiet_checks = 0, error = ?
WHERE account_id = ?
"""
_UNSERVED: Final = """
SELECT count(*) >= ?3 OR max(sent_at) - min(sent_at) >= ?4 FROM (
    SELECT x.sent_at FROM reconciled_accounts AS a CROSS JOIN missed_messages AS x
        ON x.account_id = a.account_id AND x.sent_at > max(coalesce(a.last_delivered_at, 0), coalesce(a.renewed_at, 0))
    WHERE a.account_id = ?1 AND coalesce(a.renewed_at, 0) < ?2 AND x.cause = 'not_delivered' AND x.delivered_at IS NULL
    LIMIT ?3
)
"""
_RENEWED: Final = "UPDATE reconciled_accounts SET renewed_at = ? WHERE account_id = ?"
_ERASED: Final = """
SELECT l.api_key, l.erased_at FROM json_each(?2) AS k
CROSS JOIN listed_conversations AS l ON l.account_id = ?1 AND l.api_key = k.value
WHERE l.erased_at IS NOT NULL
"""
_ARRIVED: Final = """
UPDATE reconciled_accounts SET last_delivered_at = max(coalesce(last_delivered_at, 0), ?) WHERE account_id = ?
"""
_GAPS: Final = "SELECT cause, since, until FROM delivery_gaps WHERE account_id IN ('', ?) AND until >= ?"
_GAP: Final = "INSERT INTO delivery_gaps (account_id, cause, since, until) VALUES (?, ?, ?, ?)"
_ALIVE: Final = """
INSERT INTO daemon_heartbeat (one, alive_at) VALUES (1, ?)
ON CONFLICT DO UPDATE SET alive_at = max(alive_at, excluded.alive_at)
"""
_LAST_ALIVE: Final = "SELECT alive_at FROM daemon_heartbeat"
_OTHER_CLOCK: Final = "UPDATE daemon_heartbeat SET alive_at = ?"
_OLD_GAPS: Final = "DELETE FROM delivery_gaps WHERE until < ?"
MAX_ERROR: Final = 300
KEEP_GAPS_MS: Final = 35 * 86_400_000
_parties: Final = msgspec.json.Decoder(tuple[Party, ...]).decode


class AccountState(NamedTuple):
    """How far an account was compared. Times in ms."""

    since: int
    checked_to: int
    checked_at: int | None
    next_check_at: int
    quiet_checks: int
    failures: int
    error: str | None
    walked_at: int | None
    walked_pages: int


class DueConversation(NamedTuple):
    """A conversation that changed and was not read since."""

    api_key: int
    listed: ListedConversation
    read_to: int
    attempts: int
    erased_at: int | None

    @property
    def updated_time(self) -> int:
        """When it last changed (ms)."""
        return self.listed.updated_time or 0


class OpenCheck(NamedTuple):
    """A check that has begun."""

    id: int
    reason: str
    started_at: int


class Waiting(NamedTuple):
    """Conversations that changed and were not read since."""

    conversations: int
    failed: int
    """How many of them could not be read."""


class ReconciliationStore:
    """The tables of reconciliation. Every method raises StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def healed_since(self, account_id: str, now: int) -> int | None:
        """Since when (ms) the messages of an account that webhooks do not bring are found by checks. `now` in ms.

        None when the account is not checked.
        """
        rows = await self._database.read(_HEALED_SINCE, (account_id, now - _AT_WORK_MS))
        return rows[0][0] if rows else None

    async def erased_to(self, account_id: str, api_ids: Collection[str]) -> Mapping[str, int]:
        """Up to when (ms) messages must not come back, by id of the conversation, where its participant was erased."""
        keys = {api_key(one): one for one in api_ids}
        rows = await self._database.read(_ERASED, (account_id, _json(sorted(keys))))
        return {keys[key]: at for key, at in rows}

    async def begin(self, account_id: str, since: int) -> AccountState:
        """The state of an account, which is compared from `since` on."""
        await self._database.execute(_BEGIN, (account_id, since))
        found = await self.state(account_id)
        if found is None:  # pragma: no cover - it was just inserted
            msg = "the account is gone"
            raise AssertionError(msg)
        return found

    async def state(self, account_id: str) -> AccountState | None:
        """The state of an account; None before its first check."""
        rows = await self._database.read(_STATE, (account_id,))
        return AccountState(*rows[0]) if rows else None

    async def listed(
        self, account_id: str, found: Sequence[tuple[ListedConversation, str | None]], *, read_to: int
    ) -> None:
        """Note conversations as they were listed, each with its participant's id.

        One that is not known counts as read up to `read_to`.
        """
        rows = [
            (account_id, api_key(one.id), one.id, participant_id, _json(one.participants), one.updated_time, read_to)
            for one, participant_id in found
            if one.updated_time is not None and one.updated_time > read_to
        ]
        if rows:

            def upsert(connection: sqlite3.Connection) -> None:
                connection.executemany(_LISTED, rows)

            await self._database.write(upsert)

    async def due(self, account_id: str, now: int, limit: int) -> list[DueConversation]:
        """Conversations to read: first those that have something which no webhook brought, then the longest due."""
        rows = await self._database.read(_DUE, (account_id, now, limit, now + LONGEST_WAIT_MS))
        return [
            DueConversation(key, ListedConversation(api_id, updated, _parties(parties)), read_to, attempts, erased_at)
            for key, api_id, parties, updated, read_to, attempts, erased_at in rows
        ]

    async def waiting(self, account_id: str) -> Waiting:
        """How many conversations are due, whenever they may be read."""
        (row,) = await self._database.read(_WAITING, (account_id,))
        return Waiting(*row)

    async def participants(self, account_id: str) -> list[tuple[Party, ...]]:
        """The participants of some listed conversations, to learn how the account is named."""
        return [_parties(text) for (text,) in await self._database.read(_PARTIES, (account_id,))]

    async def failed(self, account_id: str, due: DueConversation, error: str, not_before: int) -> None:
        """Note that a conversation could not be read. It stays due, from `not_before` on."""
        await self._database.execute(_FAILED, (not_before, error[:MAX_ERROR], account_id, due.api_key))

    async def walked(self, account_id: str, checked_to: int, *, whole: tuple[int, int] | None = None) -> None:
        """Note that all that changed up to `checked_to` was listed. `whole`: when, and in how many pages."""
        at, pages = whole or (None, None)
        await self._database.execute(_WALKED, (checked_to, at, pages, account_id))

    async def open_check(self, account_id: str) -> OpenCheck | None:
        """The check that has not ended, if there is one."""
        rows = await self._database.read(_OPEN, (account_id,))
        return OpenCheck(*rows[0]) if rows else None

    async def start_check(self, account_id: str, reason: str, now: int) -> OpenCheck:
        """A new check."""

        def insert(connection: sqlite3.Connection) -> int:
            return connection.execute(_OPENED, (account_id, reason, now)).lastrowid or 0

        return OpenCheck(await self._database.write(insert), reason, now)

    async def count_calls(self, check: OpenCheck, calls: int) -> None:
        """Note calls that a check made."""
        await self._database.execute(_COUNTED, (calls, 0, 0, check.id))

    async def postpone(self, account_id: str, error: str, next_check_at: int) -> None:
        """Note that a check could not be finished. It goes on at `next_check_at`."""
        await self._database.execute(_POSTPONED, (next_check_at, error[:MAX_ERROR], account_id))

    async def claim_renewal(self, account_id: str, now: int) -> bool:
        """Whether to subscribe again: messages in a row were missed, many or for long. True at most once a day."""

        def transaction(connection: sqlite3.Connection) -> bool:
            about = (account_id, now - RENEW_AFTER_MS, UNSERVED_MESSAGES, UNSERVED_MS)
            unserved = bool(connection.execute(_UNSERVED, about).fetchone()[0])
            if unserved:
                connection.execute(_RENEWED, (now, account_id))
            return unserved

        return await self._database.write(transaction)

    async def arrived(self, account_id: str, at: int) -> None:
        """Note that webhooks reached the account at `at` (ms)."""
        await self._database.write(lambda connection: note_arrival(connection, account_id, at))

    async def gaps(self, account_id: str, since: int) -> list[Gap]:
        """Times since `since` in which webhooks for the account could not arrive."""
        rows = await self._database.read(_GAPS, (account_id, since))
        return [Gap(Cause(cause), begun, until) for cause, begun, until in rows]

    async def note_gap(self, account_id: str, gap: Gap) -> None:
        """Note a time in which webhooks could not arrive. An empty `account_id` means all accounts."""

        def insert(connection: sqlite3.Connection) -> None:
            connection.execute(_GAP, (account_id, gap.cause.value, gap.since, gap.until))
            connection.execute(_OLD_GAPS, (gap.until - KEEP_GAPS_MS,))

        await self._database.write(insert)

    async def last_alive(self) -> int | None:
        """When the daemon was last alive before now; None when that is not known."""
        rows = await self._database.read(_LAST_ALIVE)
        return rows[0][0] if rows else None

    async def alive(self, now: int, *, clock_was_ahead: bool = False) -> None:
        """Note that the daemon is alive."""
        await self._database.execute(_OTHER_CLOCK if clock_was_ahead else _ALIVE, (now,))


def mark_read(connection: sqlite3.Connection, account_id: str, key: int, read_to: int, not_before: int) -> None:
    """Note that a conversation was read, in the caller's transaction."""
    connection.execute(_READ, (read_to, not_before, account_id, key))


def mark_erased(connection: sqlite3.Connection, account_id: str, key: int, erased_at: int) -> None:
    """Note that a conversation has nothing but what was erased at `erased_at` (ms), in the caller's transaction."""
    connection.execute(_MARK_ERASED, (erased_at, account_id, key))


def note_arrival(connection: sqlite3.Connection, account_id: str, at: int) -> None:
    """Note that webhooks reached the account at `at` (ms), in the caller's transaction."""
    connection.execute(_ARRIVED, (at, account_id))


def count(connection: sqlite3.Connection, check_id: int, *, calls: int, read: int, healed: int) -> None:
    """Add to what a check did, in the caller's transaction."""
    connection.execute(_COUNTED, (calls, read, healed, check_id))


def finish(
    connection: sqlite3.Connection, account_id: str, check: OpenCheck, now: int, next_at: int, quiet: int
) -> None:
    """Note that a check ended, and when the next one is due, in the caller's transaction."""
    connection.execute(_FINISHED, (now, 0, check.id))
    connection.execute(_SCHEDULED, (now, next_at, quiet, account_id))


def api_key(api_id: str) -> int:
    """The key of a conversation: 64 bits of a hash of its id, as SQLite's signed integer."""
    return int.from_bytes(hashlib.blake2b(api_id.encode(), digest_size=8).digest(), "big", signed=True)


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
