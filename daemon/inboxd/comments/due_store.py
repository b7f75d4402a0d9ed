"""Comments that are to be read at Meta without anybody waiting: mentions, and comments that only a reply tells of."""

from typing import Final

from inboxd.comments.store import CommentStore
from inboxd.domain.comment import Comment
from inboxd.storage.database import Database

_DUE: Final = "SELECT id FROM comments WHERE account_id = ? AND due_at <= ? ORDER BY due_at LIMIT 1"
_NEXT: Final = "SELECT min(due_at) FROM comments WHERE account_id = ? AND due_at IS NOT NULL"
_FAILED: Final = """
UPDATE comments SET check_problem = ?1, attempts = attempts + 1,
    due_at = CASE WHEN attempts + 1 < ?3 THEN ?2 + ?4 * (attempts + 1) * (attempts + 1) END
WHERE id = ?5
"""


class DueCommentStore:
    """Which comments are to be read. Every method raises StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._comments = CommentStore(database.read)

    async def comment(self, account_id: str, now: int) -> Comment | None:
        """The comment of an account that is to be read next, if one is due at `now` (ms)."""
        rows = await self._database.read(_DUE, (account_id, now))
        return await self._comments.get(rows[0][0]) if rows else None

    async def next_at(self, account_id: str) -> int | None:
        """When the next comment of an account is due (ms); None when none is."""
        ((at,),) = await self._database.read(_NEXT, (account_id,))
        return None if at is None else int(at)

    async def failed(self, comment_id: int, problem: str, now: int, attempts: int, first_rest_ms: int) -> None:
        """A comment could not be read at `now` (ms). After `attempts` it is not read by itself any more."""
        await self._database.execute(_FAILED, (problem, now, attempts, first_rest_ms, comment_id))
