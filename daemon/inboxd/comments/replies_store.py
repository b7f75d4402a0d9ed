"""The account's own replies in a thread, and which of them the outbox has sent."""

from typing import Final, NamedTuple

from inboxd.storage.database import Read

_OWN: Final = """
SELECT c.comment_id, c.text, c.created_at, EXISTS (
    SELECT 1 FROM outbound_messages AS o CROSS JOIN outbound_parts AS p ON p.outbound_id = o.id
    WHERE o.account_id = ?2 AND o.comment_id = r.key AND p.mid = c.comment_id
)
FROM comments AS r CROSS JOIN comments AS c ON c.root_id = r.id
WHERE r.id = ?1 AND c.is_own AND c.comment_id IS NOT NULL
"""


class OwnReply(NamedTuple):
    """A reply of the account. `created_at`: when it became known here (ms)."""

    comment_id: str
    text: str | None
    created_at: int
    is_of_a_part: bool
    """Whether it is known which outbound message it was."""


async def own_replies(read: Read, root_id: int, account_id: str) -> list[OwnReply]:
    """The account's own comments in a thread. Raises StorageError."""
    return [OwnReply(row[0], row[1], row[2], bool(row[3])) for row in await read(_OWN, (root_id, account_id))]
