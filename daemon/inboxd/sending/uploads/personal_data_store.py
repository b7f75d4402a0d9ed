"""The personal data in uploaded files: what was sent to a participant goes with them."""

import sqlite3
from collections import Counter
from typing import Any, Final

from inboxd.sending.uploads.store import UploadStore
from inboxd.storage.database import Database
from inboxd.storage.export_rows import Columns, exported
from inboxd.storage.personal_data import Mentioned, PersonalData, Subject, SweptFiles

_ERASE: Final = """
DELETE FROM uploads WHERE id IN (
    SELECT u.upload_id FROM upload_uses AS u JOIN outbound_messages AS o ON o.id = u.outbound_id
    WHERE o.account_id = :account AND (:participant IS NULL OR o.participant_id = :participant) LIMIT :step
)
"""
_EXPORT: Final = """
SELECT DISTINCT f.type, f.content_type, f.bytes,
       strftime('%Y-%m-%dT%H:%M:%fZ', f.created_at / 1000.0, 'unixepoch') AS created_at
FROM uploads AS f JOIN upload_uses AS u ON u.upload_id = f.id JOIN outbound_messages AS o ON o.id = u.outbound_id
WHERE o.account_id = ? AND o.participant_id = ?
"""
_COLUMNS: Final = Columns()


def personal_data(database: Database, store: UploadStore) -> tuple[PersonalData, ...]:
    """Files that were sent to somebody. A file that was sent to several goes with the first of them."""

    async def export(subject: Subject, _mentioned: Mentioned) -> dict[str, Any]:
        return {"uploads": await exported(database, _COLUMNS, _EXPORT, (subject.account_id, subject.participant_id))}

    async def sweep() -> SweptFiles:
        removed, failed = await store.sweep()
        return SweptFiles("upload_files", removed, failed)

    return (
        PersonalData(tables=frozenset({"uploads"}), erase=_erase, export=export, sweep=sweep),
        PersonalData(
            tables=frozenset({"upload_uses"}), reason="it has ids of messages and of files, and goes with either"
        ),
    )


def _erase(connection: sqlite3.Connection, subject: Subject, step: int) -> Counter[str]:
    return +Counter(uploads=connection.execute(_ERASE, {**subject.values, "step": step}).rowcount)
