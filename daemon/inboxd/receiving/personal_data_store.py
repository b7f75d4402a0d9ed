"""The personal data in deliveries and webhook events: how it is erased and exported, and when it expires."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from inboxd.storage.account_rows import has_account, has_others
from inboxd.storage.connection import Row
from inboxd.storage.database import Database
from inboxd.storage.export_rows import Columns, exported
from inboxd.storage.old_rows import remove_old
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

_LOOK_AT_DELIVERIES: Final = """
SELECT id, state = 'pending', mentioned(body) FROM deliveries WHERE id > ? ORDER BY id LIMIT ?
"""
_LOOK_AT_EVENTS: Final = "SELECT id, 0, mentioned(payload) FROM webhook_events WHERE id > ? ORDER BY id LIMIT ?"
_LOOK_AT_UNFILED_EVENTS: Final = """
SELECT id, 0, participant_id IS NULL AND mentioned(payload) FROM webhook_events WHERE id > ? ORDER BY id LIMIT ?
"""
"""Events that are filed under nobody: comments, and what could not be processed."""
_ERASE_DELIVERY: Final = "DELETE FROM deliveries WHERE id = ? AND state <> 'pending'"
_ERASE_EVENT: Final = "DELETE FROM webhook_events WHERE id = ?"
_NEWEST_DELIVERY: Final = "SELECT coalesce(max(id), 0) FROM deliveries"
_NEWEST_EVENT: Final = "SELECT coalesce(max(id), 0) FROM webhook_events"
_MORE_DELIVERIES: Final = "SELECT 1 FROM deliveries WHERE id > ? LIMIT 1"
_MORE_EVENTS: Final = "SELECT 1 FROM webhook_events WHERE id > ? LIMIT 1"
_EVENTS_OF_PARTICIPANT: Final = """
DELETE FROM webhook_events WHERE id IN (
    SELECT id FROM webhook_events WHERE account_id = :account AND participant_id = :participant LIMIT :step
)
"""
_EVENTS_OF_ACCOUNT: Final = """
DELETE FROM webhook_events WHERE id IN (SELECT id FROM webhook_events WHERE account_id = :account LIMIT :step)
"""
_EVENT: Final = """
SELECT kind, strftime('%Y-%m-%dT%H:%M:%fZ', happened_at / 1000.0, 'unixepoch') AS happened_at, payload
FROM webhook_events
"""
_EXPORT: Final = f"{_EVENT} WHERE account_id = ? AND participant_id = ? ORDER BY id"
_EXPORT_ONE: Final = f"{_EVENT} WHERE id = ?"
_COLUMNS: Final = Columns(json=frozenset({"payload"}))
_UNPROCESSED: Final = "SELECT EXISTS (SELECT 1 FROM deliveries WHERE state <> 'done')"
_DELIVERIES_BY_STATE: Final = "SELECT id, received_at FROM deliveries WHERE state = ? AND id > ? ORDER BY id LIMIT ?"
_EXPIRE_DELIVERY: Final = "DELETE FROM deliveries WHERE id = ? AND received_at < ? AND state = ?"
_EVENTS_BY_ID: Final = "SELECT id, created_at FROM webhook_events WHERE id > ? ORDER BY id LIMIT ?"
_EXPIRE_EVENT: Final = "DELETE FROM webhook_events WHERE id = ? AND created_at < ?"
_STEP: Final = 200
"""Rows that an export looks at in one read."""


def personal_data(database: Database) -> tuple[PersonalData, ...]:
    """Deliveries and webhook events. Both may mention anybody; some webhook events are filed under a participant."""
    return (
        PersonalData(
            tables=frozenset({"deliveries"}),
            scan=Scan(name="deliveries", look=_look_at_deliveries, erase=_erase_deliveries, more=_more_deliveries),
            keeps_others=lambda connection, _accounts: bool(connection.execute(_UNPROCESSED).fetchone()[0]),
        ),
        PersonalData(
            tables=frozenset({"webhook_events"}),
            scan=Scan(name="webhook_events", look=_look_at_events, erase=_erase_events, more=_more_events),
            erase=_erase_filed_events,
            export=partial(_export, database),
            keeps_others=lambda connection, accounts: has_others(connection, "webhook_events", accounts),
            knows=lambda connection, account_id: has_account(connection, "webhook_events", account_id),
        ),
    )


def expiries(
    database: Database, *, deliveries: Callable[[], int], failed: Callable[[], int], events: Callable[[], int]
) -> tuple[Expiry, ...]:
    """How long processed and failed deliveries, and webhook events, are kept (days)."""
    return (
        Expiry(name="deliveries", days=deliveries, remove=partial(_expire_deliveries, database, "done")),
        Expiry(name="failed_deliveries", days=failed, remove=partial(_expire_deliveries, database, "failed")),
        Expiry(name="webhook_events", days=events, remove=partial(_expire_events, database)),
    )


def _look_at_deliveries(connection: sqlite3.Connection, mentioned: Mentioned, after: int, step: int) -> MentionedRows:
    return _look(connection, _LOOK_AT_DELIVERIES, mentioned, after, step)


def _look_at_events(connection: sqlite3.Connection, mentioned: Mentioned, after: int, step: int) -> MentionedRows:
    return _look(connection, _LOOK_AT_EVENTS, mentioned, after, step)


def _look(connection: sqlite3.Connection, sql: str, mentioned: Mentioned, after: int, step: int) -> MentionedRows:
    connection.create_function("mentioned", 1, mentioned)
    rows = connection.execute(sql, (after, step)).fetchall()
    return MentionedRows(
        processed=[number for number, waits, found in rows if found and not waits],
        waiting=sum(found and waits for _, waits, found in rows),
        last_id=rows[-1][0] if rows else None,
    )


def _erase_deliveries(connection: sqlite3.Connection, numbers: Sequence[int]) -> ErasedRows:
    """A delivery may mention others too: what it said of them was processed, and stays."""
    rows = _delete(connection, _ERASE_DELIVERY, numbers)
    ((newest_id,),) = connection.execute(_NEWEST_DELIVERY).fetchall()
    return ErasedRows(rows, newest_id, waiting=len(numbers) - rows)


def _erase_events(connection: sqlite3.Connection, numbers: Sequence[int]) -> ErasedRows:
    rows = _delete(connection, _ERASE_EVENT, numbers)
    ((newest_id,),) = connection.execute(_NEWEST_EVENT).fetchall()
    return ErasedRows(rows, newest_id)


def _delete(connection: sqlite3.Connection, sql: str, numbers: Sequence[int]) -> int:
    return connection.executemany(sql, [(number,) for number in numbers]).rowcount if numbers else 0


def _more_deliveries(connection: sqlite3.Connection, after: int) -> bool:
    return connection.execute(_MORE_DELIVERIES, (after,)).fetchone() is not None


def _more_events(connection: sqlite3.Connection, after: int) -> bool:
    return connection.execute(_MORE_EVENTS, (after,)).fetchone() is not None


def _erase_filed_events(connection: sqlite3.Connection, subject: Subject, step: int) -> Counter[str]:
    sql = _EVENTS_OF_ACCOUNT if subject.participant_id is None else _EVENTS_OF_PARTICIPANT
    return +Counter(webhook_events=connection.execute(sql, {**subject.values, "step": step}).rowcount)


async def _export(database: Database, subject: Subject, mentioned: Mentioned) -> dict[str, Any]:
    """The participant's webhook events that are no messages, and those filed under nobody that mention them."""
    found = await exported(database, _COLUMNS, _EXPORT, (subject.account_id, subject.participant_id))
    for number in await _unfiled_events(database, mentioned):
        found += await exported(database, _COLUMNS, _EXPORT_ONE, (number,))
    return {"webhookEvents": found}


async def _unfiled_events(database: Database, mentioned: Mentioned) -> list[int]:
    found: list[int] = []
    after: int | None = 0
    while after is not None:
        look = partial(_look, sql=_LOOK_AT_UNFILED_EVENTS, mentioned=mentioned, after=after, step=_STEP)
        some = await database.reading(look)
        found += some.processed
        after = some.last_id
    return found


async def _expire_deliveries(database: Database, state: str, before: int, after: int, step: int) -> ExpiredRows:
    rows = await database.read(_DELIVERIES_BY_STATE, (state, after, step))

    def delete(connection: sqlite3.Connection, old: Sequence[Row]) -> None:
        connection.executemany(_EXPIRE_DELIVERY, [(row[0], before, state) for row in old])

    return await remove_old(database, "deliveries", rows, before, delete)


async def _expire_events(database: Database, before: int, after: int, step: int) -> ExpiredRows:
    rows = await database.read(_EVENTS_BY_ID, (after, step))

    def delete(connection: sqlite3.Connection, old: Sequence[Row]) -> None:
        connection.executemany(_EXPIRE_EVENT, [(row[0], before) for row in old])

    return await remove_old(database, "webhook_events", rows, before, delete)
