"""The lock that keeps a database to one process."""

import fcntl
import os
from pathlib import Path

from inboxd.runtime.errors import DatabaseLockedError, StorageUnavailableError


def lock(path: Path) -> int:
    """Hold `<path>.lock` for this process; the kernel lets go of it however the process ends.

    Raises DatabaseLockedError when another inboxd holds it, StorageUnavailableError when there can be no such file.
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
