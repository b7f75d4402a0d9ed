"""Checks of the disk, the database file and its backups."""

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from inboxd.maintenance.doctor.diagnosis import Diagnosis, Severity
from inboxd.maintenance.thresholds import BACKUP_MAX_AGE_MS, LITTLE_ROOM
from inboxd.runtime.clock import Clock, iso_utc
from inboxd.runtime.errors import (
    DatabaseLockedError,
    DatabaseTooNewError,
    InboxdError,
    NotOurDatabaseError,
)
from inboxd.storage import backup
from inboxd.storage.lock import lock

TOO_LITTLE_BYTES: Final = 256 * 1024 * 1024
"""With less room than this, the daemon may stop at any time."""


def check_storage(database: Path, backups: Path) -> list[Diagnosis]:
    """The disk, the database and its backups. It blocks: run it in a thread."""
    try:
        return [*_check_disk(database), _check_database(database), _check_backups(backups)]
    except OSError as error:
        remedy = "Ask as root or as the daemon's user, or correct storage.path."
        return [Diagnosis("storage", Severity.WRONG, f"{error.filename or database}: {error.strerror}", remedy)]


def _check_disk(database: Path) -> Iterator[Diagnosis]:
    folder = database.absolute().parent
    if not folder.is_dir():
        yield Diagnosis("disk", Severity.WRONG, f"there is no folder {folder}", f"install -d -m 0700 {folder}")
        return
    usage = shutil.disk_usage(folder)
    room = f"{usage.free >> 20} MiB of {usage.total >> 20} are free in {folder}"
    remedy = "Make room: remove old backups, shorten storage.keep_… days, or enlarge the disk."
    if usage.free < TOO_LITTLE_BYTES:
        yield Diagnosis("disk", Severity.WRONG, room, remedy)
    elif usage.free < usage.total * LITTLE_ROOM:
        yield Diagnosis("disk", Severity.WARNING, room, remedy)
    else:
        yield Diagnosis("disk", Severity.OK, room)
    if database.exists() and database.stat().st_mode & stat.S_IRWXO:
        yield Diagnosis("permissions", Severity.WRONG, f"{database} can be read by everybody", f"chmod 640 {database}")
    if not os.access(folder, os.W_OK):
        detail = f"{folder} cannot be written by this user"
        yield Diagnosis("permissions", Severity.WARNING, detail, "Ask as the daemon's user or as root.")


def _check_database(path: Path) -> Diagnosis:
    if not path.exists():
        if is_running(path):
            remedy = "Put it back; or stop the daemon, 'inboxd restore' a backup, and start it."
            return Diagnosis(
                "database", Severity.WRONG, f"{path} was deleted or moved under the running daemon", remedy
            )
        return Diagnosis(
            "database", Severity.WARNING, f"{path} does not exist yet", "The daemon makes it when it starts."
        )
    try:
        version = backup.check(path)
    except DatabaseTooNewError as error:
        return Diagnosis("database", Severity.WRONG, str(error), "Install the newer inboxd again.")
    except NotOurDatabaseError as error:
        return Diagnosis("database", Severity.WRONG, str(error), "Correct storage.path, or move that file away.")
    except (InboxdError, OSError) as error:
        remedy = "Stop the daemon and put back the latest backup: inboxd restore <file>"
        return Diagnosis("database", Severity.WRONG, str(error), remedy)
    return Diagnosis(
        "database", Severity.OK, f"{path}: schema {version}, {path.stat().st_size >> 20} MiB, no fault found"
    )


def _check_backups(folder: Path) -> Diagnosis:
    remedy = "systemctl enable --now inboxd-backup.timer, or run 'inboxd backup' every day"
    made_at = backup.latest_at(folder)
    if made_at is None:
        return Diagnosis("backups", Severity.WARNING, f"there is none in {folder}", remedy)
    if Clock().now_ms() - made_at > BACKUP_MAX_AGE_MS:
        return Diagnosis("backups", Severity.WARNING, f"the latest is of {iso_utc(made_at)}", remedy)
    return Diagnosis("backups", Severity.OK, f"the latest is of {iso_utc(made_at)}")


def is_running(database: Path) -> bool:
    """Whether a daemon holds the lock of the database. Raises InboxdError or OSError if that cannot be seen."""
    if not database.with_name(database.name + ".lock").exists():
        return False
    try:
        os.close(lock(database))
    except DatabaseLockedError:
        return True
    return False
