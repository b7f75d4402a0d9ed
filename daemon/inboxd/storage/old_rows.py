"""Removes rows by age, for the expiries of the features."""

import sqlite3
from collections.abc import Callable, Sequence
from functools import partial

from inboxd.runtime import logs
from inboxd.runtime.errors import StorageError
from inboxd.storage.connection import Row
from inboxd.storage.database import Database
from inboxd.storage.personal_data import ExpiredRows

Delete = Callable[[sqlite3.Connection, Sequence[Row]], None]
"""Deletes rows in a transaction. Each row begins with its id and its time (ms)."""


async def remove_old(database: Database, table: str, rows: Sequence[Row], before: int, delete: Delete) -> ExpiredRows:
    """Delete those of `rows` whose time is before `before` (ms). Raises StorageError.

    They are deleted together. If one of them cannot be deleted, they are deleted one by one, and that one is logged.
    """
    old, last_id = [row for row in rows if row[1] < before], rows[-1][0] if rows else None
    if not old:
        return ExpiredRows(0, last_id)
    try:
        await database.write(partial(_call, delete, old))
    except StorageError:
        raise
    except Exception:  # noqa: BLE001 - one of them cannot be deleted: the others must not stay because of it
        return ExpiredRows(await _one_by_one(database, table, old, delete), last_id)
    return ExpiredRows(len(old), last_id)


async def _one_by_one(database: Database, table: str, old: Sequence[Row], delete: Delete) -> int:
    removed = 0
    for row in old:
        try:
            await database.write(partial(_call, delete, [row]))
            removed += 1
        except StorageError:
            raise
        except Exception as error:  # noqa: BLE001 - see above
            logs.get("retention").error(
                "row_not_removed", table=table, id=row[0], error=f"{type(error).__name__}: {error}"
            )
    return removed


def _call(delete: Delete, rows: Sequence[Row], connection: sqlite3.Connection) -> None:
    delete(connection, rows)
