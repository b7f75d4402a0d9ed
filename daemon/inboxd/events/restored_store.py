"""What a restore does to the event log: no sequence number is given twice, so that readers can go on."""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from inboxd.events.store import JUMP
from inboxd.runtime.clock import Clock
from inboxd.storage import migrations

_HAS_LOG: Final = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE name = 'event_log')"
_LAST: Final = "SELECT coalesce(max(seq), 0) FROM sqlite_sequence WHERE name = 'events'"
_FORGET: Final = "DELETE FROM sqlite_sequence WHERE name = 'events'"
_SET: Final = "INSERT INTO sqlite_sequence (name, seq) VALUES ('events', ?)"


def continue_numbers(copy: Path, replaced: Path) -> None:
    """Let the log in `copy`, which takes the place of `replaced`, go on with numbers that no reader has seen.

    The copy is older than what readers have read. Its next event would get the number of another event, and readers
    would take it for that one. When the database `replaced` cannot tell its last number, the time is used: it is more
    than any number of an earlier restore. Raises sqlite3.Error.
    """
    with closing(sqlite3.connect(copy)) as connection:
        told = _last_of(replaced)
        if not _has_log(connection):
            if not told:
                return  # there is no log yet, neither here nor there
            migrations.migrate(connection, copy)
        last = max(connection.execute(_LAST).fetchone()[0], told or 0) + JUMP
        if told is None:
            last = max(last, Clock().now_ms())
        with connection:
            connection.execute(_FORGET)
            connection.execute(_SET, (last,))


def _last_of(database: Path) -> int | None:
    """The last number that a database gave to an event. None when it cannot be read."""
    with suppress(sqlite3.Error), closing(_reading(database)) as connection:
        return int(connection.execute(_LAST).fetchone()[0]) if _has_log(connection) else 0
    return None


def _reading(database: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{database.absolute().as_uri()}?mode=ro", uri=True)


def _has_log(connection: sqlite3.Connection) -> bool:
    return bool(connection.execute(_HAS_LOG).fetchone()[0])
