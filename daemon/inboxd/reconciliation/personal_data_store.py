"""How what reconciliation keeps of people is erased, and when it expires."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from inboxd.storage.account_rows import has_account
from inboxd.storage.connection import Row
from inboxd.storage.database import Database
from inboxd.storage.export_rows import Columns, exported
from inboxd.storage.old_rows import remove_old
from inboxd.storage.personal_data import ExpiredRows, Expiry, Mentioned, PersonalData, Subject

_OF_ACCOUNT: Final = {
    "listed_conversations": """
        DELETE FROM listed_conversations WHERE (account_id, api_key) IN (
            SELECT account_id, api_key FROM listed_conversations WHERE account_id = :account LIMIT :step
        )
    """,
    "missed_messages": """
        DELETE FROM missed_messages WHERE id IN (SELECT id FROM missed_messages WHERE account_id = :account LIMIT :step)
    """,
    "message_lookups": """
        DELETE FROM message_lookups WHERE (account_id, mid_key, mid) IN (
            SELECT account_id, mid_key, mid FROM message_lookups WHERE account_id = :account LIMIT :step
        )
    """,
    "reconciliation_checks": """
        DELETE FROM reconciliation_checks WHERE id IN (
            SELECT id FROM reconciliation_checks WHERE account_id = :account LIMIT :step
        )
    """,
    "completeness_hours": "DELETE FROM completeness_hours WHERE account_id = :account",
    "delivery_gaps": "DELETE FROM delivery_gaps WHERE account_id = :account",
    "reconciled_accounts": "DELETE FROM reconciled_accounts WHERE account_id = :account",
}
# The conversation goes on being listed: what is left of its row says that its messages up to now must not come back.
_OF_PARTICIPANT: Final = {
    "listed_conversations": """
        UPDATE listed_conversations SET
            api_id = NULL, participant_id = NULL, participants = NULL, error = NULL,
            erased_at = max(updated_time, coalesce((
                SELECT last_message_at FROM conversations WHERE account_id = :account AND participant_id = :participant
            ), 0)),
            read_to = max(read_to, updated_time)
        WHERE (account_id, api_key) IN (
            SELECT account_id, api_key FROM listed_conversations
            WHERE account_id = :account AND participant_id = :participant
            UNION ALL
            SELECT l.account_id, l.api_key FROM listed_conversations AS l CROSS JOIN json_each(l.participants) AS p
            WHERE l.account_id = :account AND l.participant_id IS NULL AND p.value ->> 'id' = :participant
        )
    """,
    "missed_messages": """
        DELETE FROM missed_messages WHERE id IN (
            SELECT id FROM missed_messages WHERE account_id = :account AND participant_id = :participant LIMIT :step
        )
    """,
    "message_lookups": """
        DELETE FROM message_lookups WHERE account_id = :account AND mid_key IN (
            SELECT m.mid_key FROM conversations AS c CROSS JOIN messages AS m ON m.conversation_id = c.id
            WHERE c.account_id = :account AND c.participant_id = :participant
        )
    """,
}
_EXPORT: Final = """
SELECT platform_message_id, cause, sent_at, found_at, healed_at, delivered_at FROM v1_missed_messages
WHERE client_account_id = ? AND participant_platform_id = ? ORDER BY sent_at
"""
_OLD: Final = {
    "missed_messages": "SELECT id, found_at FROM missed_messages WHERE id > ? ORDER BY id LIMIT ?",
    "reconciliation_checks": "SELECT id, started_at FROM reconciliation_checks WHERE id > ? ORDER BY id LIMIT ?",
}
_REMOVE: Final = {
    "missed_messages": "DELETE FROM missed_messages WHERE id = ? AND found_at < ?",
    "reconciliation_checks": """
        DELETE FROM reconciliation_checks WHERE id = ? AND started_at < ? AND finished_at IS NOT NULL
    """,
}
_OLD_HOURS: Final = """
DELETE FROM completeness_hours WHERE (account_id, hour) IN (
    SELECT account_id, hour FROM completeness_hours WHERE hour < ?1 / 3600000 LIMIT ?2
)
"""
_OLD_LOOKUPS: Final = """
DELETE FROM message_lookups WHERE (account_id, mid_key, mid) IN (
    SELECT account_id, mid_key, mid FROM message_lookups WHERE noticed_at < ?1 LIMIT ?2
)
"""
KEEP_DAYS: Final = 35
"""Days for which it is known what was missed. The API tells of 30."""


def personal_data(database: Database) -> tuple[PersonalData, ...]:
    """Which conversations and messages of a participant were compared."""
    return (
        PersonalData(
            tables=frozenset(_OF_ACCOUNT),
            erase=_erase,
            export=partial(_export, database),
            knows=lambda connection, account_id: has_account(connection, "reconciled_accounts", account_id),
        ),
        PersonalData(
            tables=frozenset({"daemon_heartbeat"}), reason="it holds when the daemon was last alive, and no more"
        ),
    )


def expiries(database: Database) -> tuple[Expiry, ...]:
    """What was missed, and the checks, are kept for KEEP_DAYS."""

    def days() -> int:
        return KEEP_DAYS

    return (
        Expiry(name="missed_messages", days=days, remove=partial(_expire, database, "missed_messages")),
        Expiry(name="reconciliation_checks", days=days, remove=partial(_expire, database, "reconciliation_checks")),
        Expiry(name="completeness_hours", days=days, remove=partial(_expire_at_once, database, _OLD_HOURS)),
        Expiry(name="message_lookups", days=days, remove=partial(_expire_at_once, database, _OLD_LOOKUPS)),
    )


def _erase(connection: sqlite3.Connection, subject: Subject, step: int) -> Counter[str]:
    for name, sql in (_OF_ACCOUNT if subject.participant_id is None else _OF_PARTICIPANT).items():
        rows = connection.execute(sql, {**subject.values, "step": step}).rowcount
        if rows:
            return Counter({name: rows})
    return Counter()


async def _export(database: Database, subject: Subject, _mentioned: Mentioned) -> dict[str, Any]:
    """The messages of the participant that no webhook had brought."""
    found = await exported(database, Columns(), _EXPORT, (subject.account_id, subject.participant_id))
    return {"missedMessages": found}


async def _expire(database: Database, table: str, before: int, after: int, step: int) -> ExpiredRows:
    rows = await database.read(_OLD[table], (after, step))

    def delete(connection: sqlite3.Connection, old: Sequence[Row]) -> None:
        connection.executemany(_REMOVE[table], [(row[0], before) for row in old])

    return await remove_old(database, table, rows, before, delete)


async def _expire_at_once(database: Database, sql: str, before: int, _after: int, step: int) -> ExpiredRows:
    """Rows that are found by their time alone."""

    def delete(connection: sqlite3.Connection) -> int:
        return connection.execute(sql, (before, step)).rowcount

    remove: Callable[[sqlite3.Connection], int] = delete
    return ExpiredRows(await database.write(remove), None)
