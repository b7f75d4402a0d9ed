"""What the outbox has of comments: private replies, and public ones that are not under their comment yet."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from inboxd.domain.outbound import OutboundState
from inboxd.sending.outbound import StoredOutbound
from inboxd.sending.store import OutboundStore
from inboxd.storage.database import Read

MOST: Final = 20
"""Replies that are shown of one thread while they are not under it."""
_PRIVATE: Final = """
SELECT o.comment_id, o.id, o.state FROM json_each(?2) AS k
CROSS JOIN outbound_messages AS o INDEXED BY outbound_by_comment ON o.account_id = ?1 AND o.comment_id = k.value
WHERE o.kind = 'private_reply' AND o.state NOT IN ('failed', 'canceled')
"""
_PUBLIC: Final = """
SELECT id FROM outbound_messages INDEXED BY outbound_by_comment
WHERE account_id = ? AND comment_id = ? AND kind = 'comment_reply'
  AND state IN ('queued', 'sending', 'unknown', 'failed')
ORDER BY id DESC LIMIT ?
"""


class PrivateReply(NamedTuple):
    """A private reply that was sent, or is to be."""

    outbound_id: int
    state: OutboundState


class CommentOutboundStore:
    """Reads the outbox by comments. Every method raises StorageError."""

    def __init__(self, read: Read) -> None:
        self._read = read
        self._outbound = OutboundStore(read)

    async def private_replies(self, account_id: str, comment_ids: Sequence[str]) -> dict[str, PrivateReply]:
        """The private replies to these comments of an account, by Meta's ids."""
        if not comment_ids:
            return {}
        rows = await self._read(_PRIVATE, (account_id, msgspec.json.encode(comment_ids).decode()))
        return {row[0]: PrivateReply(row[1], OutboundState(row[2])) for row in rows}

    async def waiting(self, account_id: str, key: str) -> list[StoredOutbound]:
        """The public replies to a comment, by its key, that are not under it yet, the earliest first."""
        rows = await self._read(_PUBLIC, (account_id, key, MOST))
        found = [await self._outbound.get(row[0]) for row in reversed(rows)]
        return [one for one in found if one is not None]
