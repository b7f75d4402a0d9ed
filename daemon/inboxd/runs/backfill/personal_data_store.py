"""What backfill runs keep of people: how it is erased, and when it expires."""

import sqlite3
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import Final

from inboxd.runs.backfill.store import BackfillStore
from inboxd.storage.personal_data import ExpiredRows, Expiry, PersonalData, Subject

_ATTEMPTS_OF_PARTICIPANT: Final = """
DELETE FROM backfill_attempts
WHERE run_id IN (SELECT id FROM backfill_runs WHERE account_id = :account) AND participant_id = :participant
"""
_OF_ACCOUNT: Final = {
    "backfill_attempts": """
        DELETE FROM backfill_attempts WHERE (run_id, conversation_id) IN (
            SELECT a.run_id, a.conversation_id
            FROM backfill_runs AS r CROSS JOIN backfill_attempts AS a ON a.run_id = r.id
            WHERE r.account_id = :account LIMIT :step
        )
    """,
    "backfill_runs": """
        DELETE FROM backfill_runs WHERE id IN (SELECT id FROM backfill_runs WHERE account_id = :account LIMIT :step)
    """,
}


def personal_data() -> tuple[PersonalData, ...]:
    """Runs with their batches and attempts. An attempt has no more of a participant than an id and an error code."""
    return (
        PersonalData(tables=frozenset({"backfill_runs", "backfill_batches", "backfill_attempts"}), erase=_erase),
        PersonalData(tables=frozenset({"schedules"}), reason="names of schedules and times, of nobody"),
    )


def expiries(backfills: BackfillStore, *, days: Callable[[], int]) -> tuple[Expiry, ...]:
    """How long finished runs are kept (days)."""
    return (Expiry(name="backfill_runs", days=days, remove=partial(_expire, backfills)),)


def _erase(connection: sqlite3.Connection, subject: Subject, step: int) -> Counter[str]:
    values = {**subject.values, "step": step}
    if subject.participant_id is not None:
        return +Counter(backfill_attempts=connection.execute(_ATTEMPTS_OF_PARTICIPANT, values).rowcount)
    for name, sql in _OF_ACCOUNT.items():
        rows = connection.execute(sql, values).rowcount
        if rows:
            return Counter({name: rows})
    return Counter()


async def _expire(backfills: BackfillStore, before: int, _after: int, step: int) -> ExpiredRows:
    return ExpiredRows(await backfills.expire(before, step), None)
