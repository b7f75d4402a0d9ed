"""The lock that lets only one process use a database."""

import fcntl
import os
from pathlib import Path

from inboxd.runtime.errors import DatabaseLockedError, StorageUnavailableError


def lock(path: Path) -> int:
    """Lock `<path>.lock` for this process; return its descriptor. The kernel releases the lock when the process ends.

    Raises DatabaseLockedError when another inboxd holds it, StorageUnavailableError when the file cannot be created.
    """
    lock_path = path.with_name(path.name + ".lock")
    try:
        descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        msg = f"cannot create the lock file {lock_path}: {error.strerror}; may inboxd write to that directory?"
        raise StorageUnavailableError(msg) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        msg = f"another inboxd is using {path}; stop it first, or give this one another storage.path"
        raise DatabaseLockedError(msg) from error
    return descriptor
