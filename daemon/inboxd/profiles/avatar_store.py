"""Avatars: files named by the hash of their content, and which participant has which."""

import asyncio
import hashlib
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from inboxd.domain.conversation import ConversationKey
from inboxd.runtime import logs
from inboxd.runtime.errors import StorageUnavailableError
from inboxd.storage.database import Database

AVATAR_FOLDER: Final = "avatars"
"""The folder of the files, beside the database."""
NAME: Final = re.compile(r"[0-9a-f]{64}")
_SWEEP_STEP: Final = 500
_DUE: Final = """
SELECT account_id, participant_id, profile_pic, avatar_attempts, fetched_at FROM participants
WHERE avatar_due_at <= ? ORDER BY avatar_due_at DESC LIMIT ?
"""
_NEXT_DUE: Final = "SELECT min(avatar_due_at) FROM participants WHERE avatar_due_at > ?"
_SET: Final = """
UPDATE participants SET avatar = ?1, avatar_at = ?2, avatar_due_at = NULL, avatar_attempts = 0, updated_at = ?2
WHERE account_id = ?3 AND participant_id = ?4 AND profile_pic = ?5
"""
_POSTPONE: Final = """
UPDATE participants SET avatar_due_at = ?1, avatar_attempts = ?2
WHERE account_id = ?3 AND participant_id = ?4 AND profile_pic = ?5
"""
_POSTPONE_HOST: Final = """
UPDATE participants SET avatar_due_at = ?1 WHERE (account_id, participant_id) IN (
    SELECT account_id, participant_id FROM participants
    WHERE avatar_due_at <= ?2 AND substr(profile_pic, 1, length(?3)) = ?3 ORDER BY avatar_due_at DESC LIMIT ?4
)
"""
_CORRECT_DUE_TIMES: Final = "UPDATE participants SET avatar_due_at = ?1 WHERE avatar_due_at > ?2"
_REFETCH_PROFILE: Final = """
UPDATE participants SET next_attempt_at = coalesce(next_attempt_at, ?1), attempts = 0
WHERE account_id = ?2 AND participant_id = ?3
"""
_TRIM: Final = """
UPDATE participants SET avatar = NULL WHERE (account_id, participant_id) IN (
    SELECT account_id, participant_id FROM participants WHERE avatar IS NOT NULL
    ORDER BY avatar_at LIMIT min(?2, max(0, (SELECT count(*) FROM participants WHERE avatar IS NOT NULL) - ?1))
)
"""
_REFERRED: Final = """
SELECT k.value FROM json_each(?) AS k WHERE EXISTS (SELECT 1 FROM participants AS p WHERE p.avatar = k.value)
"""


class Swept(NamedTuple):
    """How many files to which no participant refers were removed."""

    removed: int
    failed: int
    """Files that could not be removed."""


class DuePicture(NamedTuple):
    """A picture that is to be fetched. Times in ms."""

    key: ConversationKey
    url: str
    attempts: int
    fetched_at: int
    """When the profile with this URL was fetched."""


class AvatarStore:
    """Avatar files under `folder`, and the columns of participants that refer to them.

    `on_avatar` runs in the transaction that gives a participant another avatar.
    """

    def __init__(
        self,
        database: Database,
        folder: Path,
        on_avatar: Callable[[sqlite3.Connection, ConversationKey, int], None] | None = None,
    ) -> None:
        self._database = database
        self._folder = folder
        self._on_avatar = on_avatar
        self._files = asyncio.Lock()  # a sweep must not remove a file that is written and not yet referred to
        self._log = logs.get("avatars")

    async def due(self, now: int, limit: int) -> list[DuePicture]:
        """Pictures that are due at `now` (ms), the latest first."""
        rows = await self._database.read(_DUE, (now, limit))
        return [DuePicture(ConversationKey(row[0], row[1]), *row[2:]) for row in rows]

    async def next_due_at(self, now: int) -> int | None:
        """When the next picture after `now` is due (ms), or None."""
        ((next_at,),) = await self._database.read(_NEXT_DUE, (now,))
        return None if next_at is None else int(next_at)

    async def keep(self, due: DuePicture, data: bytes, now: int) -> str | None:
        """Store a participant's avatar; returns its name. Raises StorageError.

        None, and no file, when the participant was erased or has another picture by now.
        """
        async with self._files:
            name = await asyncio.to_thread(self._write, data)
            row = (name, now, *due.key, due.url)

            def transaction(connection: sqlite3.Connection) -> bool:
                is_wanted = connection.execute(_SET, row).rowcount > 0
                if is_wanted and self._on_avatar is not None:
                    self._on_avatar(connection, due.key, now)
                return is_wanted

            wanted = await self._database.write(transaction)
            if not wanted:
                await self._unlink_unreferred([name])
        return name if wanted else None

    async def postpone(self, due: DuePicture, next_at: int | None, *, attempts: int = 0) -> None:
        """Retry a picture at `next_at` (ms). None: not before the profile is fetched again."""
        row = (next_at, attempts, *due.key, due.url)
        await self._database.execute(_POSTPONE, row)

    async def postpone_host(self, origin: str, now: int, next_at: int, step: int) -> None:
        """Postpone up to `step` pictures of `origin` that are due at `now` (ms) until `next_at` (ms)."""
        await self._database.execute(_POSTPONE_HOST, (next_at, now, origin, step))

    async def correct_due_times(self, now: int, latest: int) -> None:
        """Make due now what is due later than `latest` (ms): a clock that was ahead has postponed it."""
        if await self._database.read(_NEXT_DUE, (latest,)) != [(None,)]:
            await self._database.execute(_CORRECT_DUE_TIMES, (now, latest))

    async def refetch_profile(self, due: DuePicture, now: int) -> None:
        """The URL has expired: fetch the profile again, which brings a new one."""

        def transaction(connection: sqlite3.Connection) -> None:
            connection.execute(_POSTPONE, (None, 0, *due.key, due.url))
            connection.execute(_REFETCH_PROFILE, (now, *due.key))

        await self._database.write(transaction)

    async def trim(self, keep: int, step: int) -> int:
        """Drop the oldest avatars beyond `keep`, at most `step`; returns how many."""
        return await self._database.write(lambda connection: connection.execute(_TRIM, (keep, step)).rowcount)

    def path(self, name: str) -> Path | None:
        """The file of an avatar, if there is one of that name."""
        if NAME.fullmatch(name) is None:
            return None
        path = self._file(name)
        return path if path.is_file() else None

    async def sweep(self) -> Swept:
        """Remove the files to which no participant refers, and partial files of broken writes. Raises StorageError.

        A file that cannot be removed is logged and left; the others are removed.
        """
        swept = Swept(0, 0)
        names = await asyncio.to_thread(self._names)
        for start in range(0, len(names), _SWEEP_STEP):
            async with self._files:
                step = await self._unlink_unreferred(names[start : start + _SWEEP_STEP])
            swept = Swept(swept.removed + step.removed, swept.failed + step.failed)
        async with self._files:
            left_over = await asyncio.to_thread(self._unlink_left_over)
        return Swept(swept.removed, swept.failed + left_over)

    async def _unlink_unreferred(self, names: Sequence[str]) -> Swept:
        """Remove those of `names` to which no participant refers. The caller holds the lock of the files."""
        rows = await self._database.read(_REFERRED, (msgspec.json.encode(names).decode(),))
        unreferred = set(names) - {name for (name,) in rows}
        failed = await asyncio.to_thread(self._unlink, [self._file(name) for name in unreferred])
        return Swept(len(unreferred) - failed, failed)

    def _file(self, name: str) -> Path:
        return self._folder / name[:2] / f"{name}.webp"

    def _write(self, data: bytes) -> str:
        name = hashlib.sha256(data).hexdigest()
        path = self._file(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.exists():
                return name
            new = path.with_suffix(".new")
            with new.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            new.rename(path)
        except OSError as error:
            raise StorageUnavailableError(f"cannot store an avatar in {self._folder}: {error.strerror}") from error
        return name

    def _names(self) -> list[str]:
        """Names of all files, except partial files of interrupted writes."""
        return [path.stem for path in self._folder.glob("??/*.webp") if NAME.fullmatch(path.stem)]

    def _unlink_left_over(self) -> int:
        """Remove partial files: they are personal data too. Returns how many could not be removed."""
        return self._unlink([path for path in self._folder.glob("??/*.new") if NAME.fullmatch(path.stem)])

    def _unlink(self, paths: Iterable[Path]) -> int:
        """Remove files. Returns how many could not be removed."""
        failed = 0
        for path in paths:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                failed += 1
                self._log.error("avatar_not_removed", file=f"{path.parent.name}/{path.name}", error=error.strerror)
        return failed
