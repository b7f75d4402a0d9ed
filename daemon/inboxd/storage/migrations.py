"""Migrates a database file in numbered steps. Each step is committed together with its version number."""

import importlib.resources
import re
import sqlite3
from pathlib import Path
from typing import Final, NamedTuple

from inboxd.runtime.errors import DatabaseTooNewError, NotOurDatabaseError, StorageError, StorageUnavailableError

APPLICATION_ID: Final = 0x696E6278  # "inbx": file(1) and inboxd recognise the file by it
_NAME: Final = re.compile(r"(\d{4})_[a-z0-9_]+\.sql")


class Step(NamedTuple):
    """One migration."""

    version: int
    name: str
    sql: str


def steps() -> list[Step]:
    """All migrations, in order."""
    folder = importlib.resources.files("inboxd.storage") / "schema"
    found = [(_NAME.fullmatch(item.name), item) for item in folder.iterdir()]
    return sorted(Step(int(match[1]), item.name, item.read_text()) for match, item in found if match is not None)


def newest() -> int:
    """The version to which this program migrates a file."""
    return steps()[-1].version


def recognise(connection: sqlite3.Connection, path: Path) -> int:
    """The version of the file; 0 for an empty one.

    Raises DatabaseTooNewError for a file of a newer inboxd and NotOurDatabaseError for a file of another program.
    """
    version = _number(connection, "PRAGMA user_version")
    application = _number(connection, "PRAGMA application_id")
    tables = _number(connection, "SELECT count(*) FROM sqlite_schema")
    if application != APPLICATION_ID and tables:
        msg = f"{path} is a database, but not one of inboxd's"
        raise NotOurDatabaseError(msg)
    if version > newest():
        msg = (
            f"{path} was written by a newer inboxd (schema {version}, this one knows up to {newest()}): "
            "upgrade inboxd, or restore a backup from before the upgrade"
        )
        raise DatabaseTooNewError(msg)
    return version


def migrate(connection: sqlite3.Connection, path: Path) -> None:
    """Migrate the file at `path` to the newest version.

    Raises DatabaseTooNewError for a file of a newer inboxd and NotOurDatabaseError for a file of another program.
    """
    version = recognise(connection, path)
    for step in steps():
        if step.version > version:
            # executescript first commits an open transaction, so BEGIN and COMMIT are inside the script.
            connection.executescript(
                f"BEGIN IMMEDIATE;\n{step.sql}\nPRAGMA application_id = {APPLICATION_ID};\n"
                f"PRAGMA user_version = {step.version};\nCOMMIT;"
            )


def require_current(connection: sqlite3.Connection, path: Path) -> None:
    """Check that the file is an inboxd database of the newest version.

    Raises DatabaseTooNewError for a newer version, and NotOurDatabaseError for an older one or another program's file.
    """
    version = recognise(connection, path)
    if version < newest():
        msg = f"{path} is of an older inboxd (schema {version}, this one has {newest()}): start the daemon once"
        raise NotOurDatabaseError(msg)


def opening_error(path: Path, error: sqlite3.Error) -> StorageError:
    """The typed error for a file that SQLite could not open."""
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_NOTADB:
        return NotOurDatabaseError(f"{path} is not a database")
    return StorageUnavailableError(f"cannot open the database {path}: {error}")


def _number(connection: sqlite3.Connection, sql: str) -> int:
    (number,) = connection.execute(sql).fetchone()
    return int(number)
