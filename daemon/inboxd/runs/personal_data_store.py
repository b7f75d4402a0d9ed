"""What runs keep of people: how it is erased, and when it expires."""

import sqlite3
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final

from inboxd.runs.store import expire
from inboxd.storage.database import Database
from inboxd.storage.personal_data import ExpiredRows, Expiry, PersonalData, Subject

_ITEMS_OF_PARTICIPANT: Final = """
DELETE FROM run_items
WHERE run_id IN (SELECT id FROM runs WHERE account_id = :account) AND participant_id = :participant
"""
_IMPORTED_OF_PARTICIPANT: Final = """
UPDATE imported_conversations SET participant_id = NULL, erased_to = coalesce(imported_to, imported_at)
WHERE account_id = :account AND participant_id = :participant
"""
_OF_ACCOUNT: Final = {
    "run_items": """
        DELETE FROM run_items WHERE (run_id, item) IN (
            SELECT a.run_id, a.item
            FROM runs AS r CROSS JOIN run_items AS a ON a.run_id = r.id
            WHERE r.account_id = :account LIMIT :step
        )
    """,
    "imported_conversations": """
        DELETE FROM imported_conversations WHERE (account_id, api_key) IN (
            SELECT account_id, api_key FROM imported_conversations WHERE account_id = :account LIMIT :step
        )
    """,
    "runs": """
        DELETE FROM runs WHERE id IN (SELECT id FROM runs WHERE account_id = :account LIMIT :step)
    """,
}


def personal_data() -> tuple[PersonalData, ...]:
    """Runs with their batches and items, and the conversations that were imported.

    An item has no more of a participant than an id and an error code.
    """
    return (
        PersonalData(tables=frozenset({"runs", "run_batches", "run_items", "imported_conversations"}), erase=_erase),
        PersonalData(tables=frozenset({"schedules"}), reason="names of schedules and times, of nobody"),
    )


def expiries(database: Database, *, days: Callable[[], int]) -> tuple[Expiry, ...]:
    """How long finished runs are kept (days)."""
    return (Expiry(name="runs", days=days, remove=partial(_expire, database)),)


def _erase(connection: sqlite3.Connection, subject: Subject, step: int) -> Counter[str]:
    values = {**subject.values, "step": step}
    if subject.participant_id is not None:
        imported = connection.execute(_IMPORTED_OF_PARTICIPANT, values).rowcount
        items = connection.execute(_ITEMS_OF_PARTICIPANT, values).rowcount
        return +Counter(run_items=items, imported_conversations=imported)
    for name, sql in _OF_ACCOUNT.items():
        rows = connection.execute(sql, values).rowcount
        if rows:
            return Counter({name: rows})
    return Counter()


async def _expire(database: Database, before: int, _after: int, step: int) -> ExpiredRows:
    return ExpiredRows(await expire(database, before, step), None)
