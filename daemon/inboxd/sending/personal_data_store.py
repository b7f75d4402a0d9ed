"""How the outbox is erased and exported, and when what is finished expires."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from inboxd.runtime.clock import Clock
from inboxd.sending import store
from inboxd.storage.account_rows import has_account, has_others
from inboxd.storage.connection import Row
from inboxd.storage.database import Database
from inboxd.storage.export_rows import Columns, exported
from inboxd.storage.old_rows import remove_old
from inboxd.storage.personal_data import ExpiredRows, Expiry, Mentioned, PersonalData, Subject

# Parts and attempts go with their message. What is being sent finds nothing to settle, and nothing more is sent.
_ERASE: Final = """
DELETE FROM outbound_messages WHERE id IN (
    SELECT id FROM outbound_messages
    WHERE account_id = :account AND (:participant IS NULL OR participant_id = :participant) LIMIT :step
)
"""
_EXPORT: Final = """
SELECT id, kind, state, reason, sent_by, requested_by, comment_id, text, attachments, quick_replies, template, parts,
       created_at, settled_at
FROM v1_outbound_messages WHERE client_account_id = ? AND participant_platform_id = ? ORDER BY CAST(id AS INTEGER)
"""
_COLUMNS: Final = Columns(json=frozenset({"attachments", "quick_replies", "template", "parts"}))
_BY_ID: Final = "SELECT id, created_at, account_id, lane FROM outbound_messages WHERE id > ? ORDER BY id LIMIT ?"
_EXPIRE: Final = "DELETE FROM outbound_messages WHERE id = ? AND created_at < ? AND state NOT IN ('queued', 'sending')"


def personal_data(database: Database, *, forget: Callable[[Subject], None] | None = None) -> tuple[PersonalData, ...]:
    """What was sent to participants, or is to be sent. `forget` gives up what is just being sent to a subject."""
    return (
        PersonalData(
            tables=frozenset({"outbound_messages", "outbound_parts", "outbound_attempts"}),
            erase=_erase,
            export=partial(_export, database),
            forget=forget,
            keeps_others=lambda connection, accounts: has_others(connection, "outbound_messages", accounts),
            knows=lambda connection, account_id: has_account(connection, "outbound_messages", account_id),
        ),
    )


def expiries(database: Database, clock: Clock, *, days: Callable[[], int]) -> tuple[Expiry, ...]:
    """How long finished messages are kept, and with them what their idempotency keys brought."""
    return (Expiry(name="outbound_messages", days=days, remove=partial(_expire, database, clock)),)


def _erase(connection: sqlite3.Connection, subject: Subject, step: int) -> Counter[str]:
    rows = connection.execute(_ERASE, {**subject.values, "step": step}).rowcount
    return +Counter(outbound_messages=rows)


async def _export(database: Database, subject: Subject, _mentioned: Mentioned) -> dict[str, Any]:
    """The outbound messages to the participant."""
    found = await exported(database, _COLUMNS, _EXPORT, (subject.account_id, subject.participant_id))
    return {"outboundMessages": found}


async def _expire(database: Database, clock: Clock, before: int, after: int, step: int) -> ExpiredRows:
    rows = await database.read(_BY_ID, (after, step))

    def delete(connection: sqlite3.Connection, old: Sequence[Row]) -> None:
        connection.executemany(_EXPIRE, [(row[0], before) for row in old])
        for account_id, lane in {row[2:] for row in old}:
            store.release(connection, account_id, lane, clock.now_ms())

    return await remove_old(database, "outbound_messages", rows, before, delete)
