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
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from inboxd.errors import InboxdError, StorageError, StorageUnavailableError
from inboxd.store import migrations
from inboxd.store.lock import lock

_NAME: Final = re.compile(r"inboxd-\d{8}T\d{6}Z\.sqlite3")
_FORMAT: Final = "inboxd-%Y%m%dT%H%M%SZ.sqlite3"
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
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
        _copy(source, partial, mode=0o600)
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
    return int(_made_at(found[-1]).timestamp() * 1000) if found else None


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
            partial.unlink(missing_ok=True)
            _copy(backup, partial, mode=0o640)
            _give_to_owner(partial)
            _make_durable(partial)
            aside = _put_aside(target)
            partial.rename(target)
            _make_durable(target.parent)
        except (sqlite3.Error, OSError) as error:
            raise BackupError(f"cannot put {backup} in the place of {target}: {error}") from error
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
    found = [path for path in folder.glob("inboxd-*.sqlite3") if _NAME.fullmatch(path.name)]
    return sorted(path for path in found if _made_at(path) != _NEVER)


def _made_at(path: Path) -> datetime:
    try:
        return datetime.strptime(path.name, _FORMAT).replace(tzinfo=UTC)
    except ValueError:  # digits, but no moment
        return _NEVER


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


def _copy(source: Path, target: Path, *, mode: int) -> None:
    """Copy a database with what its journal holds into one file without a journal."""
    target.touch(mode=mode)
    uri = f"{source.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as original, closing(sqlite3.connect(target)) as copy:
        original.backup(copy, pages=-1)
        copy.execute("PRAGMA journal_mode = DELETE")


def _put_aside(target: Path) -> Path | None:
    """Rename the old database, if there is one, with its journal: neither must be mistaken for the new one's."""
    if target.exists():
        _empty_journal(target)
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    aside = target.with_name(f"{target.name}.before-restore-{stamp}")
    for suffix in ("-wal", "-shm"):
        journal = target.with_name(target.name + suffix)
        if journal.exists():
            journal.rename(aside.with_name(aside.name + suffix))
    if not target.exists():
        return None
    target.rename(aside)
    return aside


def _empty_journal(path: Path) -> None:
    """Bring what the journal holds into the database, so that one file is all of it; not if either is damaged."""
    try:
        check(path)
    except InboxdError:
        return
    with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


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
