"""The deletions that owners of accounts asked Meta for, and what is known about the accounts they may mean."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

from inboxd.storage.database import Database
from inboxd.storage.personal_data import PersonalData

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


class DeletionOutcome(StrEnum):
    """Why a request was not carried out."""

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
    """The state of a deletion. Times in ms."""

    requested_at: int
    completed_at: int | None
    outcome: DeletionOutcome | None = None
    waits_for: str | None = None
    """Why it is not completed yet: `deliveries`, `journal`, `files` or `error`."""


class DeletionStore:
    """Requests for deletion, and what the features know about accounts."""

    def __init__(self, database: Database, personal_data: Sequence[PersonalData]) -> None:
        self._database = database
        self._personal_data = tuple(reversed(personal_data))  # receiving last: it looks through all its rows

    async def request(
        self, code: str, account_id: str | None, now: int, outcome: DeletionOutcome | None = None
    ) -> None:
        """Store a request, once. Without an account, `outcome` says why there is nothing to do. Raises StorageError.

        A copy of a request that was not matched may be matched now.
        """
        row = (code, account_id, now, now if account_id is None else None, outcome)
        await self._database.execute(_REQUEST, row)

    async def receipt(self, code: str) -> Receipt | None:
        """The state of the request with this code."""
        rows = await self._database.read(_ONE, (code,))
        if not rows:
            return None
        requested_at, completed_at, outcome, waits_for = rows[0]
        return Receipt(requested_at, completed_at, None if outcome is None else DeletionOutcome(outcome), waits_for)

    async def keeps_anything(self, others: frozenset[str]) -> bool:
        """Whether anything is kept that does not belong to one of the accounts `others`. Raises StorageError."""
        questions = [one.keeps_others for one in self._personal_data if one.keeps_others is not None]
        return await self._database.reading(lambda connection: any(ask(connection, others) for ask in questions))

    async def knows(self, account_id: str) -> bool:
        """Whether there is such an account, or anything that is filed under it. Raises StorageError."""
        questions = [one.knows for one in self._personal_data if one.knows is not None]
        return await self._database.reading(lambda connection: any(ask(connection, account_id) for ask in questions))

    async def open(self) -> list[OpenDeletion]:
        """The requests that are not completed, the oldest first."""
        return [OpenDeletion(row[0], row[1], row[2], bool(row[3])) for row in await self._database.read(_OPEN)]

    async def waits(self, code: str, reason: str) -> None:
        """The request could not be completed yet."""
        await self._database.execute(_WAITS, (reason, code))

    async def complete(self, code: str, now: int, outcome: DeletionOutcome | None = None) -> None:
        """The request was carried out. From now on its receipt names nobody."""
        await self._database.execute(_COMPLETE, (now, outcome, code))

    async def expire(self, before: int) -> int:
        """Remove the receipts of requests completed before `before` (ms); how many."""
        return await self._database.write(lambda connection: connection.execute(_EXPIRE, (before,)).rowcount)
