"""The personal data in the event log: how it is erased and exported, and when events expire."""

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from inboxd.events import store
from inboxd.events.store import PARTICIPANT_ERASED
from inboxd.storage.account_rows import has_account
from inboxd.storage.database import Database
from inboxd.storage.export_rows import Columns, exported
from inboxd.storage.personal_data import (
    ErasedRows,
    ExpiredRows,
    Expiry,
    Mentioned,
    MentionedRows,
    PersonalData,
    Scan,
    Subject,
)

# The log has no index by account or participant, so its columns are searched as its data is.
_LOOK: Final = f"""
SELECT seq, mentioned(CAST(account_id || CASE WHEN type = '{PARTICIPANT_ERASED}' THEN '' ELSE
    ' ' || coalesce(participant_id, '') || ' ' || coalesce(subject, '') || ' ' || data END AS BLOB))
FROM events WHERE seq > ? ORDER BY seq LIMIT ?
"""  # noqa: S608 - a constant
_ERASE: Final = "DELETE FROM events WHERE seq = ?"
_NEWEST: Final = "SELECT coalesce(max(seq), 0) FROM events"
_MORE: Final = "SELECT 1 FROM events WHERE seq > ? LIMIT 1"
_EXPORT: Final = """
SELECT type, strftime('%Y-%m-%dT%H:%M:%fZ', occurred_at / 1000.0, 'unixepoch') AS occurred_at,
       strftime('%Y-%m-%dT%H:%M:%fZ', recorded_at / 1000.0, 'unixepoch') AS recorded_at, data
FROM events WHERE seq = ?
"""
_OTHERS: Final = """
SELECT EXISTS (
    SELECT 1 FROM events WHERE participant_id IS NOT NULL AND account_id NOT IN (SELECT value FROM json_each(?))
)
"""
"""Events without a participant are about accounts, runs and deliveries."""
_COLUMNS: Final = Columns(json=frozenset({"data"}))
_STEP: Final = 200
"""Events that an export looks at in one read."""


def personal_data(database: Database) -> tuple[PersonalData, ...]:
    """Events. Each may mention anybody: by a column, in a text, or by the mid of a message."""
    return (
        PersonalData(
            tables=frozenset({"events"}),
            scan=Scan(name="events", look=_look, erase=_erase, more=_more),
            export=partial(_export, database),
            keeps_others=_keeps_others,
            knows=lambda connection, account_id: has_account(connection, "events", account_id),
        ),
        PersonalData(
            tables=frozenset({"event_log"}),
            reason="it holds the number of the last event that was removed, and no more",
        ),
    )


def expiries(database: Database, *, days: Callable[[], int]) -> tuple[Expiry, ...]:
    """How long events are kept (days)."""
    return (Expiry(name="events", days=days, remove=partial(_expire, database)),)


async def _expire(database: Database, before: int, after: int, step: int) -> ExpiredRows:
    """Remove the oldest events, up to the last old one that is found behind `after`.

    Readers are told up to where the log was pruned, so an event never goes before those that were recorded earlier.
    """
    return await database.write(lambda connection: store.expire(connection, before=before, after=after, step=step))


def _look(connection: sqlite3.Connection, mentioned: Mentioned, after: int, step: int) -> MentionedRows:
    connection.create_function("mentioned", 1, mentioned)
    rows = connection.execute(_LOOK, (after, step)).fetchall()
    return MentionedRows(
        processed=[number for number, found in rows if found], waiting=0, last_id=rows[-1][0] if rows else None
    )


def _erase(connection: sqlite3.Connection, numbers: Sequence[int]) -> ErasedRows:
    rows = connection.executemany(_ERASE, [(number,) for number in numbers]).rowcount if numbers else 0
    ((newest_id,),) = connection.execute(_NEWEST).fetchall()
    return ErasedRows(rows, newest_id)


def _more(connection: sqlite3.Connection, after: int) -> bool:
    return connection.execute(_MORE, (after,)).fetchone() is not None


def _keeps_others(connection: sqlite3.Connection, accounts: frozenset[str]) -> bool:
    return bool(connection.execute(_OTHERS, (msgspec.json.encode(sorted(accounts)).decode(),)).fetchone()[0])


async def _export(database: Database, _subject: Subject, mentioned: Mentioned) -> dict[str, Any]:
    """The events that mention the participant, as they are kept: also texts that were edited later."""
    found: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        some = await database.reading(partial(_look, mentioned=mentioned, after=after, step=_STEP))
        for number in some.processed:
            found += await exported(database, _COLUMNS, _EXPORT, (number,))
        after = some.last_id
    return {"events": found}
