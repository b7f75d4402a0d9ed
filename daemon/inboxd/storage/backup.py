"""Backups: copies the database while it is in use, checks copies and restores them.

SQLite's backup API makes a copy in one read transaction. So the copy shows the file at one moment, however long it
takes, and writers do not wait. A copy is a file without a journal. It gets its final name only when it is complete and
checked.

A process that makes or restores a copy may be killed at any moment. Then either a complete database is in place, the
old one or the new one; or `require_whole` refuses to open the database, and says what to do.
"""

import fcntl
import os
import re
import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from inboxd.runtime.errors import EX_DATAERR, InboxdError, StorageError, StorageUnavailableError
from inboxd.storage import migrations
from inboxd.storage.lock import lock

_NAME: Final = re.compile(r"inboxd-\d{8}T\d{6}Z\.sqlite3")
_FORMAT: Final = "inboxd-%Y%m%dT%H%M%SZ.sqlite3"
_PARTIAL: Final = ".partial"
_IN_FOLDER: Final = "inboxd-*.sqlite3.partial*"
_RESTORING: Final = ".restoring"
_PENDING: Final = ".restore-pending"
_ASIDE: Final = ".before-restore-"
_JOURNALS: Final = ("-wal", "-shm")
_NEVER: Final = datetime.min.replace(tzinfo=UTC)
_ROOM: Final = 1.1
"""Free space that is required, as a multiple of the size of the copy."""


class BackupError(StorageError):
    """A backup could not be made, or cannot be used."""


class HalfRestoredError(StorageError):
    """A restore was interrupted, or only the database that a restore put aside is left. A human must decide."""

    exit_code = EX_DATAERR


def snapshot(source: Path, target: Path) -> int:
    """Copy the database at `source`, which may be in use, to `target`. Returns the size in bytes.

    Raises BackupError when there is no room, the copy is damaged, or the file cannot be read or written.
    """
    if not source.exists():
        raise BackupError(f"there is no database at {source}")
    _require_room(source, target.parent)
    partial = target.with_name(target.name + _PARTIAL)
    try:
        with _claimed(partial):
            _copy(source, partial, mode=0o600)
            check(partial)
            _make_durable(partial)
            partial.rename(target)
            _make_durable(target.parent)
    except (sqlite3.Error, OSError) as error:
        raise BackupError(f"cannot back up {source} to {target}: {error}") from error
    return target.stat().st_size


def check(path: Path) -> int:
    """Check all pages of a backup. Returns its schema version. Raises InboxdError."""
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


def make(
    source: Path,
    folder: Path,
    *,
    keep: int,
    now: datetime | None = None,
    on_stuck: Callable[[OSError], None] = lambda _error: None,
) -> Path:
    """Make a backup named by its time in `folder`, then remove all but the latest `keep`. Raises BackupError.

    Files that killed backups left behind take room, so they are removed first. `on_stuck` is called for each file that
    cannot be removed; the others are removed.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise BackupError(f"cannot make the folder {folder}: {error.strerror}") from error
    _remove(_abandoned(folder, _IN_FOLDER), on_stuck)
    target = folder / (now or datetime.now(UTC)).strftime(_FORMAT)
    snapshot(source, target)
    _remove(_all(folder)[:-keep], on_stuck)
    return target


def latest_at(folder: Path) -> int | None:
    """When the latest backup in `folder` was made (ms), or None."""
    found = _all(folder)
    return int(_made_at(found[-1]).timestamp() * 1000) if found else None


def restore(
    backup: Path, target: Path, *, prepare: Callable[[Path, Path], None] = lambda _copy, _replaced: None
) -> Path | None:
    """Replace the database at `target` by `backup`. Returns the new path of the old database; None if there was none.

    `prepare` is given the copy that takes the place of `target`, and `target`. It may change the copy, and leaves no
    journal.
    Raises DatabaseLockedError while an inboxd uses the database, BackupError or another InboxdError when the backup
    cannot be used. Then nothing has changed.
    """
    check(backup)
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _held(target):
        _require_room(backup, target.parent)
        partial = target.with_name(target.name + _RESTORING)
        try:
            with _claimed(partial):
                _copy(backup, partial, mode=0o640)
                prepare(partial, target)
                _give_to_owner(partial)
                _make_durable(partial)
                aside = _exchange(partial, target)
        except (sqlite3.Error, OSError) as error:
            raise BackupError(f"cannot put {backup} in the place of {target}: {error}") from error
    return aside


def require_whole(path: Path) -> None:
    """Check that no restore of the database at `path` was interrupted.

    Raises HalfRestoredError when one was, or when the database is missing and a restore has put one aside. In that case
    inboxd must not create a new, empty database.
    """
    pending = path.with_name(path.name + _PENDING)
    if pending.exists():
        msg = (
            f"a restore of {path} was interrupted: finish it with 'inboxd restore {pending}', "
            f"or delete {pending} to go on with the database as it was"
        )
        raise HalfRestoredError(msg)
    if path.exists():
        return
    aside = [one for one in sorted(path.parent.glob(f"{path.name}{_ASIDE}*")) if not one.name.endswith(_JOURNALS)]
    if aside:
        msg = (
            f"there is no database at {path}, but there was one before a restore: {aside[-1]}. Put that back with "
            f"'inboxd restore {aside[-1]}', or restore a backup; to begin with an empty database, move it away"
        )
        raise HalfRestoredError(msg)


def before_migration(connection: sqlite3.Connection, path: Path) -> None:
    """Copy a database before it is migrated. The copy is kept beside it; older copies of this kind are removed.

    The file `.upgrading` exists while a migration is not complete. If it already exists, a migration was interrupted,
    and the copy from before that migration is kept.
    Raises StorageUnavailableError when there can be no copy: a database is not migrated without one.
    """
    version = migrations.recognise(connection, path)
    if version in {0, migrations.newest()}:
        return
    target = path.with_name(f"{path.name}.schema-{version:04d}")
    copies = list(path.parent.glob(f"{path.name}.schema-[0-9][0-9][0-9][0-9]"))
    if copies and _upgrading(path).exists():
        return
    _remove(_abandoned(path.parent, f"{path.name}.schema-[0-9][0-9][0-9][0-9]{_PARTIAL}*"), _ignore)
    try:
        snapshot(path, target)
    except BackupError as error:
        msg = f"{error}. Without a copy the database is not brought from schema {version} to {migrations.newest()}"
        raise StorageUnavailableError(msg) from error
    _remove([old for old in copies if old != target], _ignore)
    _upgrading(path).touch()


def migration_completed(path: Path) -> None:
    """Record that the database has the newest version."""
    _upgrading(path).unlink(missing_ok=True)


def _upgrading(path: Path) -> Path:
    return path.with_name(f"{path.name}.upgrading")


def _all(folder: Path) -> list[Path]:
    """The backups in `folder` that inboxd made, the oldest first."""
    found = [path for path in folder.glob("inboxd-*.sqlite3") if _NAME.fullmatch(path.name)]
    return sorted(path for path in found if _made_at(path) != _NEVER)


def _made_at(path: Path) -> datetime:
    try:
        return datetime.strptime(path.name, _FORMAT).replace(tzinfo=UTC)
    except ValueError:  # the digits are no valid time
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


@contextmanager
def _claimed(partial: Path) -> Iterator[None]:
    """Create an empty file at `partial` for this process alone. At the end it is removed, unless it was renamed.

    A file that a killed process left there is emptied. Raises BackupError while another process uses it.
    """
    descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not _lock(descriptor):
            raise BackupError(f"another process is making {partial}: wait for it")
        _leftover_journal(partial).unlink(missing_ok=True)  # SQLite would apply it to the new copy
        os.truncate(descriptor, 0)
        yield
    finally:
        with suppress(OSError):
            if partial.exists() and os.path.samestat(partial.stat(), os.fstat(descriptor)):
                _leftover_journal(partial).unlink(missing_ok=True)
                partial.unlink()
        os.close(descriptor)


def _lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _leftover_journal(partial: Path) -> Path:
    return partial.with_name(partial.name + "-journal")


def _abandoned(folder: Path, pattern: str) -> list[Path]:
    """Unfinished copies in `folder` that no process uses any more, and their journals."""
    found = []
    for path in sorted(folder.glob(pattern)):
        whole = path.with_name(path.name.removesuffix("-journal"))
        try:
            descriptor = os.open(whole, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            found.append(path)  # a journal without its copy
            continue
        except OSError:
            continue
        if _lock(descriptor):
            found.append(path)
        os.close(descriptor)
    return found


def _remove(paths: Iterable[Path], on_stuck: Callable[[OSError], None]) -> None:
    """Remove files. `on_stuck` is called for each file that cannot be removed."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            on_stuck(error)


def _ignore(_error: OSError) -> None:
    """Do nothing: the next run tries again to remove the file."""


def _copy(source: Path, target: Path, *, mode: int) -> None:
    """Copy a database, with the contents of its journal, into one file without a journal."""
    target.chmod(mode)
    uri = f"{source.absolute().as_uri()}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as original, closing(sqlite3.connect(target)) as copy:
        original.backup(copy, pages=-1)
        copy.execute("PRAGMA journal_mode = DELETE")


def _exchange(whole: Path, target: Path) -> Path | None:
    """Replace the database at `target` by the copy `whole`. Returns the new path of the old one, or None.

    The old database keeps its name until one rename replaces it. Its journal cannot be removed in that same step, and
    SQLite must not apply it to the new database. So the copy is first renamed to `.restore-pending`, before anything
    else changes. A later start that finds this name knows that the restore was interrupted.
    """
    if target.exists():
        _empty_journal(target)
    pending = target.with_name(target.name + _PENDING)
    whole.rename(pending)
    aside = None
    try:
        _make_durable(target.parent)
        aside = _put_aside(target)
        _make_durable(target.parent)
    except OSError:
        pending.unlink()  # nothing has changed yet
        raise
    for journal in _journals(target):
        journal.unlink(missing_ok=True)
    _make_durable(target.parent)
    pending.rename(target)
    _make_durable(target.parent)
    return aside


def _put_aside(target: Path) -> Path | None:
    """Give the old database and its journal a second name. Returns that of the database; None if there is none."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    name, number = f"{target.name}{_ASIDE}{stamp}", 1
    while any(target.with_name(name + suffix).exists() for suffix in ("", *_JOURNALS)):
        number += 1
        name = f"{target.name}{_ASIDE}{stamp}-{number}"
    aside = target.with_name(name)
    for suffix in _JOURNALS:
        journal = target.with_name(target.name + suffix)
        if journal.exists():
            _second_name(journal, aside.with_name(aside.name + suffix))
    if not target.exists():
        return None
    _second_name(target, aside)
    return aside


def _second_name(path: Path, other: Path) -> None:
    """Make `other` a second name of the file `path`, or a copy of it where the file system has no hard links."""
    try:
        other.hardlink_to(path)
    except OSError:
        shutil.copy2(path, other)
        _give_to_owner(other)
        _make_durable(other)


def _journals(path: Path) -> list[Path]:
    return [path.with_name(path.name + suffix) for suffix in _JOURNALS]


def _empty_journal(path: Path) -> None:
    """Move the contents of the journal into the database file. Do nothing if one of the two is damaged."""
    try:
        check(path)
    except InboxdError:
        return
    with suppress(sqlite3.Error), closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def _give_to_owner(path: Path) -> None:
    """Give a file that root created in the daemon's folder to the owner of the folder."""
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(path, owner.st_uid, owner.st_gid)


def _make_durable(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
