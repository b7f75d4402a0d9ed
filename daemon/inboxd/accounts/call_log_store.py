"""Stores the calls of the last hour and the stops, so that a restart does not reset the budget.

Times are stored as readings of the monotonic clock, together with the id of the boot. These readings cannot be compared
between boots. A call of an earlier boot therefore counts as made at the start of this boot, the latest possible time.
"""

import sqlite3
from typing import Final

from inboxd.domain.budget import Stop
from inboxd.runtime.clock import Clock
from inboxd.storage.database import Database

HOUR_MS: Final = 3_600_000
_CALLS: Final = "SELECT boot, at FROM graph_calls WHERE account_id = ?"
_RECORD: Final = "INSERT INTO graph_calls (account_id, boot, at) VALUES (?, ?, ?)"
_FORGET: Final = "DELETE FROM graph_calls WHERE account_id = ?1 AND boot = ?2 AND at < ?3"
_FORGET_BOOTS: Final = "DELETE FROM graph_calls WHERE account_id = ?1 AND boot <> ?2"
_STOPS: Final = "SELECT scope, boot, at, length, strikes, reason, code, subcode FROM graph_stops"
_SAVE_STOP: Final = """
INSERT INTO graph_stops (scope, boot, at, length, strikes, reason, code, subcode) VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (scope) DO UPDATE SET
    boot = excluded.boot, at = excluded.at, length = excluded.length, strikes = excluded.strikes,
    reason = excluded.reason, code = excluded.code, subcode = excluded.subcode
"""
_DROP_STOP: Final = "DELETE FROM graph_stops WHERE scope = ?"


class SqliteCallLog:
    """Stores what `meta.budget` needs after a restart. `at` is in seconds of the monotonic clock."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._boot = clock.boot()

    async def calls(self, account_id: str) -> list[float]:
        """When the account's calls of the last hour began, earliest first. The list may include a few older calls."""
        rows = await self._database.read(_CALLS, (account_id,))
        return sorted(self._since_boot(boot, at) / 1000 for boot, at in rows)

    async def record(self, account_id: str, at: float) -> None:
        """Record durably that a call is about to be made. Calls older than two hours are deleted."""
        now = int(at * 1000)

        def transaction(connection: sqlite3.Connection) -> None:
            connection.execute(_RECORD, (account_id, self._boot, now))
            # Twice the window of one hour, because a call counts from its end and may take long.
            connection.execute(_FORGET, (account_id, self._boot, now - 2 * HOUR_MS))
            if now > 2 * HOUR_MS:
                connection.execute(_FORGET_BOOTS, (account_id, self._boot))

        await self._database.write(transaction)

    async def stops(self) -> dict[str, Stop]:
        """The stored stops, by scope. An expired stop is included, because its number of strikes still counts."""
        now = int(self._clock.monotonic() * 1000)
        found = {}
        for scope, boot, at, length, strikes, *why in await self._database.read(_STOPS):
            remaining = self._since_boot(boot, at) + length - now
            found[scope] = Stop(max(0, min(remaining, length)) / 1000, strikes, *why)
        return found

    async def save_stop(self, scope: str, stop: Stop | None) -> None:
        """Store the stop of a scope, or delete it when `stop` is None."""
        if stop is None:
            await self._database.execute(_DROP_STOP, (scope,))
            return
        now = int(self._clock.monotonic() * 1000)
        why = (stop.reason, stop.code, stop.subcode)
        row = (scope, self._boot, now, int(stop.remaining_s * 1000), stop.strikes, *why)
        await self._database.execute(_SAVE_STOP, row)

    def _since_boot(self, boot: str, at: int) -> int:
        return at if boot == self._boot else 0
