"""The table of media that were commented on: which are to be read at Meta, and what was read."""

import sqlite3
from collections.abc import Collection
from typing import Final, NamedTuple

import msgspec

from inboxd.domain.comment import Post
from inboxd.storage.connection import Row
from inboxd.storage.database import Database

_FIELDS: Final = Post.__struct_fields__
_WANT: Final = """
INSERT INTO comment_media (account_id, media_id, is_others, due_at, created_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO NOTHING
"""
_DUE: Final = """
SELECT media_id, is_others, attempts FROM comment_media WHERE account_id = ? AND due_at <= ? ORDER BY due_at LIMIT 1
"""
_NEXT: Final = "SELECT min(due_at) FROM comment_media WHERE account_id = ? AND due_at IS NOT NULL"
_READ: Final = """
UPDATE comment_media SET permalink = coalesce(:permalink, permalink), media_type = coalesce(:media_type, media_type),
    product_type = coalesce(:product_type, product_type), thumbnail_url = :thumbnail_url, caption = :caption,
    owner_username = coalesce(:owner_username, owner_username), posted_at = coalesce(:posted_at, posted_at),
    fetched_at = :fetched_at, problem = NULL, due_at = NULL, attempts = 0
WHERE account_id = :account_id AND media_id = :media_id
"""
_FAILED: Final = """
UPDATE comment_media SET problem = ?, due_at = ?, attempts = attempts + 1 WHERE account_id = ? AND media_id = ?
"""
_AGAIN: Final = """
UPDATE comment_media SET due_at = ?, attempts = 0
WHERE account_id = ? AND media_id = ? AND due_at IS NULL AND coalesce(fetched_at, 0) < ? AND created_at < ?
"""
_MANY: Final = f"""
SELECT m.account_id, {", ".join(f"m.{name}" for name in _FIELDS)} FROM json_each(?) AS k
CROSS JOIN comment_media AS m ON m.account_id = k.value ->> 0 AND m.media_id = k.value ->> 1
"""  # noqa: S608 - constants

MediaKey = tuple[str, str]
"""An account, and one of its media."""


class DueMedia(NamedTuple):
    """A post that is to be read."""

    media_id: str
    is_others: bool
    """Whether another account published it, which mentioned this one."""
    attempts: int


def want(connection: sqlite3.Connection, account_id: str, media_id: str, is_others: bool, now: int) -> None:  # noqa: FBT001 - a column
    """Have a post read, once. `now` in ms."""
    connection.execute(_WANT, (account_id, media_id, is_others, now, now))


def keep(connection: sqlite3.Connection, account_id: str, post: Post) -> None:
    """Store what was read of a post."""
    connection.execute(_READ, {**msgspec.structs.asdict(post), "account_id": account_id})


class MediaStore:
    """The posts. Every method raises StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def due(self, account_id: str, now: int) -> DueMedia | None:
        """The post of an account that is to be read next, if one is due at `now` (ms)."""
        rows = await self._database.read(_DUE, (account_id, now))
        return DueMedia(rows[0][0], bool(rows[0][1]), rows[0][2]) if rows else None

    async def next_at(self, account_id: str) -> int | None:
        """When the next post of an account is due (ms); None when none is."""
        ((at,),) = await self._database.read(_NEXT, (account_id,))
        return None if at is None else int(at)

    async def keep(self, account_id: str, post: Post) -> None:
        """Store what was read of a post."""
        await self._database.write(lambda connection: keep(connection, account_id, post))

    async def failed(self, account_id: str, media_id: str, problem: str, next_at: int | None) -> None:
        """A post could not be read. It is read again at `next_at` (ms), or not by itself when that is None."""
        await self._database.execute(_FAILED, (problem, next_at, account_id, media_id))

    async def read_again(self, account_id: str, media_id: str, before: int, now: int) -> None:
        """Have a post read again that was read before `before` (ms): addresses of pictures end."""
        await self._database.execute(_AGAIN, (now, account_id, media_id, before, before))

    async def many(self, keys: Collection[MediaKey]) -> dict[MediaKey, Post]:
        """Those of these posts that are known."""
        if not keys:
            return {}
        rows = await self._database.read(_MANY, (msgspec.json.encode(sorted(set(keys))).decode(),))
        return {(row[0], row[1]): _post(row[1:]) for row in rows}


def _post(row: Row) -> Post:
    return Post(**dict(zip(_FIELDS, row, strict=True)))
