"""The one event that an erasure leaves."""

import json
import sqlite3
from contextlib import closing
from pathlib import Path


def take_receipts(database: Path) -> list[str]:
    """Whose erasure the event log tells of. These events are removed from the file, so that anything else is seen."""
    with closing(sqlite3.connect(database, timeout=10)) as connection:
        found = connection.execute("SELECT data FROM events WHERE type = 'participant.erased' ORDER BY seq").fetchall()
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("DELETE FROM events WHERE type = 'participant.erased'")
        connection.commit()
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    return [json.loads(data)["participantPlatformId"] for (data,) in found]
