"""Checks that the paths of the database still lead to the files that are open."""

import os
from pathlib import Path

from inboxd.runtime.errors import StorageUnavailableError


class FileIdentity:
    """The files of a database. Notices when one is deleted or replaced while the database is open."""

    def __init__(self, path: Path) -> None:
        self._paths = [str(path), f"{path}-wal"]
        self._known = [_inode(one) for one in self._paths]

    def require_same(self) -> None:
        """Raise StorageUnavailableError when a path no longer leads to the file that is open."""
        for path, known in zip(self._paths, self._known, strict=True):
            if _inode(path) != known:
                msg = (
                    f"{path} was deleted or replaced while inboxd uses it: what is written now would be lost. "
                    "Put the file back, or stop inboxd, restore a backup and start it again"
                )
                raise StorageUnavailableError(msg)


def _inode(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - runs before every answer to a webhook, so it must be fast
    except OSError:
        return None
    return found.st_dev, found.st_ino
