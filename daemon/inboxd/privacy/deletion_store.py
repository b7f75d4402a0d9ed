"""What accounts' owners asked Meta to have deleted: requested at once, carried out in steps, told on a page."""

from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from inboxd.storage.database import Database

_REQUEST: Final = """
INSERT INTO deletions (code, account_id, requested_at, completed_at, outcome) VALUES (?1, ?2, ?3, ?4, ?5)
ON CONFLICT (code) DO UPDATE SET
    account_id = excluded.account_id, completed_at = excluded.completed_at, outcome = excluded.outcome
WHERE outcome IS NOT NULL
"""
_ONE: Final = "SELECT requested_at, completed_at, outcome, waits_for FROM deletions WHERE code = ?"
_OPEN: Final = """
SELECT code, account_id, requested_at, waits_for IS NOT NULL FROM deletions
WHERE completed_at IS NULL ORDER BY requested_at LIMIT 1000
"""
_WAITS: Final = "UPDATE deletions SET waits_for = ?1 WHERE code = ?2 AND waits_for IS NOT ?1"
_COMPLETE: Final = """
UPDATE deletions SET account_id = NULL, completed_at = ?, outcome = ?, waits_for = NULL WHERE code = ?
"""
_EXPIRE: Final = "DELETE FROM deletions WHERE completed_at < ?"
_KEPT: Final = """
WITH RECURSIVE kept (account_id) AS (
    SELECT min(account_id) FROM {table}
    UNION ALL
    SELECT (SELECT min(t.account_id) FROM {table} AS t WHERE t.account_id > kept.account_id) FROM kept
    WHERE kept.account_id IS NOT NULL
)
SELECT EXISTS (
    SELECT 1 FROM kept WHERE account_id IS NOT NULL AND account_id NOT IN (SELECT value FROM json_each(?1))
)
"""
"""From account to account along the index, however many rows each has."""
_KNOWN: Final = """
SELECT EXISTS (SELECT 1 FROM accounts WHERE id = ?1) OR EXISTS (SELECT 1 FROM conversations WHERE account_id = ?1)
    OR EXISTS (SELECT 1 FROM participants WHERE account_id = ?1)
"""
_KNOWN_BY_EVENTS: Final = "SELECT EXISTS (SELECT 1 FROM events WHERE account_id = ?)"
"""Looks through all of them, as the erasure itself does."""
_UNDERSTOOD: Final = "SELECT EXISTS (SELECT 1 FROM deliveries WHERE state <> 'done')"


class DeletionOutcome(StrEnum):
    """Why a request is not carried out."""

    NOTHING_KEPT = "nothing_kept"
    """There was nothing that could be theirs."""
    NOT_MATCHED = "not_matched"
    """Nobody can tell whose data is meant."""


class OpenDeletion(NamedTuple):
    """A deletion that is not completed."""

    code: str
    account_id: str
    requested_at: int
    waited: bool
    """Whether it was tried before, and could not be completed."""


class Receipt(NamedTuple):
    """How a deletion stands. Times in ms."""

    requested_at: int
    completed_at: int | None
    outcome: DeletionOutcome | None = None
    waits_for: str | None = None
    """Why it is not completed yet: `deliveries`, `journal`, `files` or `error`."""


class DeletionStore:
    """Requests for deletion."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def request(
        self, code: str, account_id: str | None, now: int, outcome: DeletionOutcome | None = None
    ) -> None:
        """Note a request, once; without an account `outcome` says why there is nothing to do. Raises StorageError.

        A copy of a request that was not matched may be matched now.
        """
        row = (code, account_id, now, now if account_id is None else None, outcome)
        await self._database.execute(_REQUEST, row)

    async def receipt(self, code: str) -> Receipt | None:
        """How the request of this code stands."""
        rows = await self._database.read(_ONE, (code,))
        if not rows:
            return None
        requested_at, completed_at, outcome, waits_for = rows[0]
        return Receipt(requested_at, completed_at, None if outcome is None else DeletionOutcome(outcome), waits_for)

    async def keeps_anything(self, others: frozenset[str]) -> bool:
        """Whether anything is kept that is not of one of these accounts."""
        known = (msgspec.json.encode(sorted(others)).decode(),)
        for table in ("conversations", "participants", "events"):
            ((found,),) = await self._database.read(_KEPT.format(table=table), known)
            if found:
                return True
        ((waiting,),) = await self._database.read(_UNDERSTOOD)
        return bool(waiting)

    async def knows(self, account_id: str) -> bool:
        """Whether there is such an account, or anything that is filed under it."""
        for sql in (_KNOWN, _KNOWN_BY_EVENTS):
            ((found,),) = await self._database.read(sql, (account_id,))
            if found:
                return True
        return False

    async def open(self) -> list[OpenDeletion]:
        """The requests that are not completed, the oldest first."""
        return [OpenDeletion(row[0], row[1], row[2], bool(row[3])) for row in await self._database.read(_OPEN)]

    async def waits(self, code: str, reason: str) -> None:
        """The request could not be completed yet."""
        await self._database.execute(_WAITS, (reason, code))

    async def complete(self, code: str, now: int, outcome: DeletionOutcome | None = None) -> None:
        """The request is carried out; from now on its receipt names nobody."""
        await self._database.execute(_COMPLETE, (now, outcome, code))

    async def expire(self, before: int) -> int:
        """Forget receipts of requests completed before `before` (ms); how many."""
        return await self._database.write(lambda connection: connection.execute(_EXPIRE, (before,)).rowcount)
