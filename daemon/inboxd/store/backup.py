"""Copies of the database: made while it is in use, checked, and put back.

A copy is made in one read transaction of SQLite's backup API, so it is one moment of the file however long it takes,
and nobody who writes has to wait. It is a file without a journal, and takes its name only when it is whole and checked.
"""

import fcntl
import os
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from inboxd.errors import StorageError, StorageUnavailableError
from inboxd.store import migrations
from inboxd.store.lock import lock

_NAME: Final = re.compile(r"inboxd-\d{8}T\d{6}Z\.sqlite3")
_FORMAT: Final = "inboxd-%Y%m%dT%H%M%SZ.sqlite3"
_ROOM: Final = 1.1
"""How much more room is asked for than the copy will take."""


class BackupError(StorageError):
    """A backup could not be made, or cannot be used."""


def snapshot(source: Path, target: Path) -> int:
    """Copy the database at `source`, which may be in use, to `target`; returns the size in bytes.

    Raises BackupError when there is no room, the copy is damaged, or the file cannot be read or written.
    """
    if not source.exists():
        raise BackupError(f"there is no database at {source}")
    _require_room(source, target.parent)
    partial = target.with_name(target.name + ".partial")
    try:
        partial.unlink(missing_ok=True)
        partial.touch(mode=0o600)
        uri = f"{source.absolute().as_uri()}?mode=ro"
        with closing(sqlite3.connect(uri, uri=True)) as original, closing(sqlite3.connect(partial)) as copy:
            original.backup(copy, pages=-1)
            copy.execute("PRAGMA journal_mode = DELETE")
        check(partial)
        _make_durable(partial)
        partial.rename(target)
        _make_durable(target.parent)
    except (sqlite3.Error, OSError) as error:
        raise BackupError(f"cannot back up {source} to {target}: {error}") from error
    finally:
        partial.unlink(missing_ok=True)
    return target.stat().st_size


def check(path: Path) -> int:
    """Look a backup over, from its first to its last page; returns its schema version. Raises InboxdError."""
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as connection:
            version = migrations.recognise(connection, path)
            faults = [row[0] for row in connection.execute("PRAGMA integrity_check(10)") if row[0] != "ok"]
            faults += [f"a row of {row[0]} refers to nothing" for row in connection.execute("PRAGMA foreign_key_check")]
    except sqlite3.DatabaseError as error:
        raise BackupError(f"{path} is no database, or a damaged one: {error}") from error
    if faults:
        raise BackupError(f"{path} is damaged: {faults[0]}")
    if version == 0:
        raise BackupError(f"{path} is an empty database")
    return version


def make(source: Path, folder: Path, *, keep: int, now: datetime | None = None) -> Path:
    """Make a backup named by its time in `folder`, then remove all but the latest `keep`. Raises BackupError."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BackupError(f"cannot make the folder {folder}: {error.strerror}") from error
    target = folder / (now or datetime.now(UTC)).strftime(_FORMAT)
    snapshot(source, target)
    for old in _all(folder)[:-keep]:
        old.unlink(missing_ok=True)
    return target


def latest_at(folder: Path) -> int | None:
    """When the latest backup in `folder` was made (ms), or None."""
    found = _all(folder)
    if not found:
        return None
    return int(datetime.strptime(found[-1].name, _FORMAT).replace(tzinfo=UTC).timestamp() * 1000)


def restore(backup: Path, target: Path) -> Path | None:
    """Put `backup` in the place of the database at `target`; where the old one is now, if there was one.

    Raises DatabaseLockedError while an inboxd uses the database, BackupError or another InboxdError when the backup
    cannot be used; nothing has changed then.
    """
    check(backup)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _held(target):
        _require_room(backup, target.parent)
        partial = target.with_name(target.name + ".restoring")
        try:
            shutil.copyfile(backup, partial)
            partial.chmod(0o640)
            _give_to_owner(partial)
            _make_durable(partial)
            aside = _put_aside(target) if target.exists() else None
            partial.rename(target)
            _make_durable(target.parent)
        except OSError as error:
            raise BackupError(f"cannot put {backup} in the place of {target}: {error.strerror}") from error
        finally:
            partial.unlink(missing_ok=True)
    return aside


def before_migration(connection: sqlite3.Connection, path: Path) -> None:
    """Keep a copy of a database that is about to be brought forward, beside it; earlier such copies go.

    Raises StorageUnavailableError when that is impossible: nothing is brought forward without a way back.
    """
    version = migrations.recognise(connection, path)
    if version in {0, migrations.newest()}:
        return
    target = path.with_name(f"{path.name}.schema-{version:04d}")
    try:
        snapshot(path, target)
    except BackupError as error:
        msg = f"{error}. Without a copy the database is not brought from schema {version} to {migrations.newest()}"
        raise StorageUnavailableError(msg) from error
    for old in path.parent.glob(f"{path.name}.schema-[0-9][0-9][0-9][0-9]"):
        if old != target:
            old.unlink()


def _all(folder: Path) -> list[Path]:
    """Our backups in `folder`, the oldest first."""
    return sorted(path for path in folder.glob("inboxd-*.sqlite3") if _NAME.fullmatch(path.name))


def _require_room(source: Path, folder: Path) -> None:
    try:
        free, needed = shutil.disk_usage(folder).free, int(source.stat().st_size * _ROOM)
    except OSError as error:
        raise BackupError(f"cannot write to {folder}: {error.strerror}") from error
    if free < needed:
        raise BackupError(f"{folder} has {free >> 20} MiB free, and {needed >> 20} MiB are needed: make room")


@contextmanager
def _held(target: Path) -> Iterator[None]:
    descriptor = lock(target)
    try:
        _give_to_owner(target.with_name(target.name + ".lock"))
        yield
    finally:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
        os.close(descriptor)


def _put_aside(target: Path) -> Path:
    """Rename the old database with its journal, so that neither is mistaken for the new one's."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = target.with_name(f"{target.name}.before-restore-{stamp}")
    for suffix in ("-wal", "-shm"):
        journal = target.with_name(target.name + suffix)
        if journal.exists():
            journal.rename(aside.with_name(aside.name + suffix))
    target.rename(aside)
    return aside


def _give_to_owner(path: Path) -> None:
    """Files that root puts into the daemon's folder belong to whom the folder belongs."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def _make_durable(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
