"""What backfill runs need of the database beside the runs themselves: the conversations that lack a profile."""

import sqlite3
from typing import Final, NamedTuple

from inboxd.domain.backfill import BackfillRun
from inboxd.domain.paging import Place
from inboxd.domain.profile import ProfileState
from inboxd.domain.run import RunKind
from inboxd.events.log import EventLog
from inboxd.runs.store import RunStore
from inboxd.storage.connection import Row
from inboxd.storage.database import Database

_MISSING: Final = """
FROM conversations AS c
JOIN participants AS p ON p.account_id = c.account_id AND p.participant_id = c.participant_id
WHERE +c.account_id = :account AND c.participant_id <> c.account_id
  AND (p.fetched_at IS NULL OR p.fetched_at < :refresh_before)
"""
_COUNT_MISSING: Final = f"""
SELECT count(*), coalesce(sum(p.state = 'no_consent' OR (p.state = 'unavailable'
           AND (p.next_attempt_at IS NULL OR p.next_attempt_at > :now))), 0)
{_MISSING}
"""
_NOT_TRIED: Final = """
  AND NOT EXISTS (SELECT 1 FROM run_items AS a WHERE a.run_id = :run AND a.item = +c.id)
"""
_CANDIDATE: Final = "SELECT c.id, c.participant_id, c.last_message_at, p.state, p.reason, p.next_attempt_at"
_ORDER: Final = " ORDER BY c.last_message_at DESC, c.id DESC LIMIT :limit"
_DATED: Final = f"""
{_CANDIDATE} {_MISSING} {_NOT_TRIED} AND (c.last_message_at, c.id) < (:at, :id) {_ORDER}
"""
_UNDATED: Final = f"""
{_CANDIDATE} {_MISSING} {_NOT_TRIED} AND c.last_message_at IS NULL AND c.id < :id {_ORDER}
"""
_HAS: Final = """
SELECT 1 FROM participants WHERE account_id = ? AND participant_id = ? AND fetched_at IS NOT NULL AND fetched_at >= ?
"""

TOP: Final = Place(2**62, 2**62)
"""Before the first conversation."""


class Missing(NamedTuple):
    """Conversations without the profile that is wanted."""

    missing: int
    skipped: int
    """Those of them that a run would skip: the person must write first, or is known to have no profile."""


class Candidate(NamedTuple):
    """A conversation that lacks a profile. Times are ms, UTC."""

    conversation_id: int
    participant_id: str
    last_message_at: int | None
    state: ProfileState
    reason: str | None
    next_attempt_at: int | None


class BackfillStore(RunStore[BackfillRun]):
    """Reads and writes backfill runs. Every method raises StorageError."""

    def __init__(self, database: Database, event_log: EventLog) -> None:
        super().__init__(database, event_log, RunKind.BACKFILL, BackfillRun)

    async def missing(self, account_id: str, refresh_before: int) -> int:
        """How many conversations of the account lack a profile, or have one fetched before `refresh_before` (ms)."""
        return (await self.count(account_id, refresh_before, 0)).missing

    async def count(self, account_id: str, refresh_before: int, now: int) -> Missing:
        """The same count, and how many of those a run would skip at the moment `now` (ms)."""
        values = {"account": account_id, "refresh_before": _wanted_since(refresh_before), "now": now}
        return Missing(
            *await self._database.reading(lambda connection: connection.execute(_COUNT_MISSING, values).fetchone())
        )

    async def has_profile(self, run: BackfillRun, participant_id: str) -> bool:
        """Whether the participant has the profile that the run wants by now."""
        return bool(
            await self._database.read(_HAS, (run.account_id, participant_id, _wanted_since(run.refresh_before)))
        )

    async def candidates(self, run: BackfillRun, after: Place | None, limit: int) -> list[Candidate]:
        """The next conversations of a run, the latest activity first; those without any message come last."""
        place = after or TOP
        values = {
            "account": run.account_id, "refresh_before": _wanted_since(run.refresh_before), "run": run.id,
            "at": place.at, "id": place.id, "limit": limit,
        }  # fmt: skip

        def query(connection: sqlite3.Connection) -> list[Row]:
            found = connection.execute(_DATED, values).fetchall() if place.at is not None else []
            if len(found) < limit:
                rest = values | {"limit": limit - len(found), "id": TOP.id if place.at is not None else place.id}
                found += connection.execute(_UNDATED, rest).fetchall()
            return found

        rows = await self._database.reading(query)
        return [Candidate(row[0], row[1], row[2], ProfileState(row[3]), row[4], row[5]) for row in rows]


def _wanted_since(refresh_before: int) -> int:
    """Profiles fetched before this are fetched again: also imported ones, which count as fetched at 0."""
    return max(refresh_before, 1)
