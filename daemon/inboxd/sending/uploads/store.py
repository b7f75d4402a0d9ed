"""Uploaded files: their rows in the database, and their bytes in a folder beside it."""

import asyncio
import hashlib
import os
import secrets
import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import msgspec

from inboxd.domain.media_type import SNIFFED_BYTES, MediaType, media_type
from inboxd.domain.outbound import OutboundAttachment
from inboxd.runtime import logs
from inboxd.runtime.errors import StorageUnavailableError
from inboxd.sending.uploads.upload import Sender, Upload, UploadGoneError, UploadTooLargeError, WrongUploadError
from inboxd.storage.database import Database, Read

UPLOAD_FOLDER: Final = "uploads"
"""The folder of the files, beside the database."""
KEEP_MS: Final = 24 * 3600 * 1000
"""How long a file is kept that no message has used yet, or whose message is sent."""
_COLUMNS: Final = "SELECT id, name, key, type, content_type, bytes, created_at, expires_at FROM uploads"
_BY_ID: Final = f"{_COLUMNS} WHERE id = ?"
_BY_USE: Final = f"{_COLUMNS} JOIN upload_uses AS u ON u.upload_id = uploads.id WHERE u.outbound_id = ? AND id = ?"
_LATEST: Final = f"{_COLUMNS} ORDER BY id DESC LIMIT ?"
_INSERT: Final = """
INSERT INTO uploads (name, key, type, content_type, bytes, requested_by, created_at, expires_at)
VALUES (?, ?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (name) DO UPDATE SET expires_at = max(expires_at, excluded.expires_at)
RETURNING id, name, key, type, content_type, bytes, created_at, expires_at
"""
_TOTAL: Final = "SELECT coalesce(sum(bytes), 0) FROM uploads"
_USE: Final = "INSERT OR IGNORE INTO upload_uses (outbound_id, upload_id) VALUES (?, ?)"
_NEEDED: Final = """
EXISTS (
    SELECT 1 FROM upload_uses AS u JOIN outbound_messages AS o ON o.id = u.outbound_id
    WHERE u.upload_id = uploads.id AND o.state IN ('queued', 'sending', 'unknown')
)
"""
_EXPIRED: Final = f"SELECT id FROM uploads WHERE expires_at <= ? AND NOT {_NEEDED} ORDER BY expires_at LIMIT ?"  # noqa: S608
_WANTED: Final = f"""
SELECT name FROM uploads
WHERE {_NEEDED} OR NOT EXISTS (SELECT 1 FROM upload_uses AS u WHERE u.upload_id = uploads.id) ORDER BY id DESC LIMIT ?
"""  # noqa: S608 - constants
_DELETE: Final = "DELETE FROM uploads WHERE id = ?"
_KNOWN: Final = "SELECT k.value FROM json_each(?) AS k WHERE EXISTS (SELECT 1 FROM uploads WHERE name = k.value)"
_STEP: Final = 200
_LOOKED_AT: Final = 1000


class UploadStore:
    """Files under `folder`, and their rows. A file is complete on disk before its row is committed."""

    def __init__(self, database: Database, folder: Path) -> None:
        self._database = database
        self._folder = folder
        self._files = asyncio.Lock()  # a sweep must not remove a file whose row is not committed yet
        self._log = logs.get("uploads")

    async def get(self, upload_id: int) -> Upload | None:
        """One file. Raises StorageError."""
        rows = await self._database.read(_BY_ID, (upload_id,))
        return Upload(*rows[0]) if rows else None

    async def used(self, outbound_id: int, upload_id: int) -> Upload | None:
        """A file that a message sends. Raises StorageError.

        None also for a file that came later: SQLite gives the id of the newest again once that is removed.
        """
        rows = await self._database.read(_BY_USE, (outbound_id, upload_id))
        return Upload(*rows[0]) if rows else None

    async def latest(self, limit: int) -> list[Upload]:
        """The latest files. Raises StorageError."""
        return [Upload(*row) for row in await self._database.read(_LATEST, (limit,))]

    async def total_bytes(self) -> int:
        """The size of all files. Raises StorageError."""
        return int((await self._database.read(_TOTAL))[0][0])

    async def receive(self, pieces: AsyncIterator[bytes], wanted: str | None, sender: Sender, now: int) -> Upload:
        """Store a file that arrives in pieces. `wanted` is the type of attachment that it is for; `now` in ms.

        The same file with the same key again is the same upload, kept for longer, if it is still there. Raises
        UnsendableFileError, UploadTooLargeError and StorageError. Nothing is kept then.
        """
        random = secrets.token_hex(16)
        new = self._folder / f"{random}.new"
        try:
            kind, size, content = await self._written(pieces, wanted, new)
            name = random if sender.key is None else _name_of(sender, sender.key, kind, content)
            async with self._files:
                await asyncio.to_thread(self._finish, new, self._file(name))
                row = (
                    name, secrets.token_bytes(32), kind.kind, kind.content_type, size, sender.requested_by, now,
                    now + KEEP_MS,
                )  # fmt: skip
                return await self._database.write(lambda connection: _inserted(connection, row))
        finally:
            await asyncio.to_thread(self._unlink, [new])

    async def _written(
        self, pieces: AsyncIterator[bytes], wanted: str | None, path: Path
    ) -> tuple[MediaType, int, bytes]:
        """Its type, its size, and a digest of it."""
        beginning, kind, size, content = b"", None, 0, hashlib.sha256()
        try:
            await asyncio.to_thread(self._folder.mkdir, parents=True, exist_ok=True)
            with await asyncio.to_thread(path.open, "wb") as file:
                async for piece in pieces:
                    size += len(piece)
                    if kind is None:
                        beginning += piece
                        if len(beginning) >= SNIFFED_BYTES:
                            kind = media_type(beginning, wanted=wanted)
                    if kind is not None and size > kind.max_bytes:
                        raise _too_large(kind)
                    content.update(piece)
                    await asyncio.to_thread(file.write, piece)
                return kind or media_type(beginning, wanted=wanted), size, content.digest()
        except OSError as error:
            raise self._refused(error) from error

    def _finish(self, new: Path, path: Path) -> None:
        try:
            with new.open("rb") as file:
                os.fsync(file.fileno())
            new.rename(path)
        except OSError as error:
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> StorageUnavailableError:
        return StorageUnavailableError(f"cannot store a file in {self._folder}: {error.strerror}")

    def path(self, upload: Upload) -> Path:
        """Where its bytes are."""
        return self._file(upload.name)

    async def check(self, upload: Upload) -> None:
        """Whether its bytes can be read. Raises UploadGoneError, and StorageUnavailableError when that may pass."""
        try:
            await asyncio.to_thread(_opened, self.path(upload))
        except FileNotFoundError as error:
            if not await asyncio.to_thread(self._folder.is_dir):
                raise self._unreadable(error) from error
            msg = f"The file of upload {upload.id} is lost. Upload it again."  # receivers of events read it too
            raise UploadGoneError(msg) from error
        except OSError as error:
            raise self._unreadable(error) from error

    def _unreadable(self, error: OSError) -> StorageUnavailableError:
        return StorageUnavailableError(f"cannot read a file in {self._folder}: {error.strerror}")

    async def remove(self, upload_id: int) -> bool:
        """Remove a file; False when there is none. Raises StorageError."""
        upload = await self.get(upload_id)
        if upload is None:
            return False
        async with self._files:  # the same file may just arrive again
            await self._database.execute(_DELETE, (upload_id,))
            await asyncio.to_thread(self._unlink, [self.path(upload)])
        return True

    async def expire(self, now: int) -> int:
        """Remove the rows of files that expired before `now` (ms) and that no waiting message needs. Returns how many.

        Raises StorageError. `sweep` removes the bytes.
        """

        def transaction(connection: sqlite3.Connection) -> int:
            ids = connection.execute(_EXPIRED, (now, _STEP)).fetchall()
            connection.executemany(_DELETE, ids)
            return len(ids)

        removed = 0
        while step := await self._database.write(transaction):
            removed += step
        return removed

    async def sweep(self) -> tuple[int, int]:
        """Remove the files without a row. Returns how many were removed, and how many could not be.

        Raises StorageError. A file that is arriving has the ending `.new` and is left to whoever writes it.
        """
        removed = failed = 0
        names = await asyncio.to_thread(self._names)
        for start in range(0, len(names), _STEP):
            async with self._files:
                some = names[start : start + _STEP]
                rows = await self._database.read(_KNOWN, (msgspec.json.encode(some).decode(),))
                unknown = [self._file(name) for name in set(some) - {name for (name,) in rows}]
                lost = await asyncio.to_thread(self._unlink, unknown)
            removed, failed = removed + len(unknown) - lost, failed + lost
        return removed, failed

    async def sweep_partial(self) -> None:
        """Remove what interrupted uploads left. Only before any upload can arrive."""
        await asyncio.to_thread(lambda: self._unlink(list(self._folder.glob("*.new"))))

    def _names(self) -> list[str]:
        return [path.name for path in self._folder.glob("*") if path.suffix == ""]

    def _file(self, name: str) -> Path:
        return self._folder / name

    def _unlink(self, paths: Sequence[Path]) -> int:
        failed = 0
        for path in paths:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                failed += 1
                self._log.error("upload_not_removed", file=path.name, error=error.strerror)
        return failed


def use(connection: sqlite3.Connection, outbound_id: int, attachments: Sequence[OutboundAttachment], now: int) -> None:
    """Keep the uploads of `attachments` until the message is sent.

    Raises UploadGoneError when one is not there, and WrongUploadError when it is of another type.
    """
    for one in attachments:
        row = connection.execute(_BY_ID, (int(one.upload_id or 0),)).fetchone()
        if row is None or Upload(*row).expires_at <= now:
            msg = f"There is no upload {one.upload_id}, or it has expired. Upload the file again."
            raise UploadGoneError(msg)
        if Upload(*row).type != one.type:
            msg = f"The upload {one.upload_id} is of type '{Upload(*row).type}', and the attachment says '{one.type}'."
            raise WrongUploadError(msg)
        connection.execute(_USE, (outbound_id, one.upload_id))


async def lost(read: Read, folder: Path) -> tuple[int, Sequence[str]]:
    """How many files in `folder` may still have to be sent, and what is wrong with those that cannot be read.

    It looks at the latest thousand. Raises StorageError.
    """
    rows = await read(_WANTED, (_LOOKED_AT,))

    def look() -> list[str]:
        return [words for (name,) in rows if (words := _problem(folder / name)) is not None]

    return len(rows), await asyncio.to_thread(look)


def _problem(path: Path) -> str | None:
    try:
        _opened(path)
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def _opened(path: Path) -> None:
    """Raises OSError when the file cannot be read."""
    with path.open("rb"):
        pass


def _inserted(connection: sqlite3.Connection, row: tuple[object, ...]) -> Upload:
    return Upload(*connection.execute(_INSERT, row).fetchone())


def _name_of(sender: Sender, key: str, kind: MediaType, content: bytes) -> str:
    """The name of a file that comes with a key: the same for the same request."""
    told = f"{sender.requested_by}\n{key}\n{kind.kind}\n{kind.content_type}".encode()
    return hashlib.blake2b(told, key=content, digest_size=16).hexdigest()


def _too_large(kind: MediaType) -> UploadTooLargeError:
    limit = kind.max_bytes // (1024 * 1024)
    return UploadTooLargeError(f"The file is larger than the {limit} MB that Instagram takes of {kind.content_type}.")
