"""What forwarding keeps of people: the answers of receivers may say something of anybody."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from inboxd.storage.connection import Row
from inboxd.storage.database import Database
from inboxd.storage.old_rows import remove_old
from inboxd.storage.personal_data import ExpiredRows, Expiry, PersonalData, Subject

KEEP_ATTEMPTS_DAYS: Final = 7
# An answer may name anybody of the account, so all answers to what was of the account go, or of no one account.
_ERASE_ANSWERS: Final = """
UPDATE webhook_attempts SET response = NULL
WHERE id IN (
    SELECT id FROM webhook_attempts WHERE response IS NOT NULL AND account_id IN (:account, '') LIMIT :step
)
"""
_ERASE_ATTEMPTS: Final = """
DELETE FROM webhook_attempts WHERE id IN (SELECT id FROM webhook_attempts WHERE account_id = :account LIMIT :step)
"""
_BY_ID: Final = "SELECT id, at FROM webhook_attempts WHERE id > ? ORDER BY id LIMIT ?"
_EXPIRE: Final = "DELETE FROM webhook_attempts WHERE id = ? AND at < ?"


def personal_data(*, forget: Callable[[Subject], None] | None = None) -> tuple[PersonalData, ...]:
    """Attempts and retries. `forget` drops what workers have in memory."""
    return (
        PersonalData(
            tables=frozenset({"webhook_endpoints"}),
            reason="where the user's own systems are; account ids in it are chosen by the user",
        ),
        PersonalData(
            tables=frozenset({"webhook_retries"}),
            reason="ids and times; whatever is pushed is read from the event log or the deliveries, which are erased",
        ),
        PersonalData(tables=frozenset({"webhook_attempts"}), erase=_erase, forget=forget),
    )


def expiries(database: Database) -> tuple[Expiry, ...]:
    """How long attempts are kept."""
    return (Expiry(name="webhook_attempts", days=lambda: KEEP_ATTEMPTS_DAYS, remove=partial(_expire, database)),)


def _erase(connection: sqlite3.Connection, subject: Subject, step: int) -> Counter[str]:
    values = {**subject.values, "step": step}
    if subject.participant_id is None:
        rows = connection.execute(_ERASE_ATTEMPTS, values).rowcount
        if rows:
            return Counter(webhook_attempts=rows)
    return +Counter(webhook_answers=connection.execute(_ERASE_ANSWERS, values).rowcount)


async def _expire(database: Database, before: int, after: int, step: int) -> ExpiredRows:
    rows = await database.read(_BY_ID, (after, step))

    def delete(connection: sqlite3.Connection, old: Sequence[Row]) -> None:
        connection.executemany(_EXPIRE, [(row[0], before) for row in old])

    return await remove_old(database, "webhook_attempts", rows, before, delete)
