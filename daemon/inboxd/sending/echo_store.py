"""What echoes and reads tell of what was sent, and which echoes are of messages that a human wrote elsewhere."""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgspec

from inboxd.conversations.message_store import mid_key
from inboxd.domain.conversation import ConversationKey
from inboxd.storage.connection import fetch

MOST_READ: Final = 200
"""Messages of one participant that one read may mark."""
_PARTS: Final = """
SELECT p.mid, p.id, p.outbound_id FROM json_each(?2) AS k
CROSS JOIN outbound_parts AS p ON p.mid_key = k.value ->> 0 AND p.mid = k.value ->> 1
CROSS JOIN outbound_messages AS o ON o.id = p.outbound_id AND o.account_id = ?1
"""
_DELIVERED: Final = "UPDATE outbound_parts SET delivered_at = ? WHERE id = ? AND delivered_at IS NULL"
_UNDECIDED: Final = """
SELECT o.id, p.id, p.state, o.participant_id, coalesce(p.after_message_id, 0)
FROM outbound_messages AS o INDEXED BY outbound_by_state
JOIN outbound_parts AS p ON p.outbound_id = o.id AND p.state IN ('sending', 'unknown')
WHERE o.state IN ('sending', 'unknown') AND o.account_id = ?1 AND coalesce(o.participant_id, ?2) = ?2
  AND o.kind <> 'comment_reply'
"""
_HAS_UNDECIDED: Final = """
SELECT EXISTS (
    SELECT 1 FROM outbound_messages INDEXED BY outbound_by_state
    WHERE state IN ('sending', 'unknown') AND account_id = ? AND kind <> 'comment_reply'
)
"""
_MESSAGE: Final = """
SELECT m.id, m.sent_at FROM conversations AS c
JOIN messages AS m ON m.conversation_id = c.id AND m.mid_key = ?3 AND m.mid = ?4
WHERE c.account_id = ?1 AND c.participant_id = ?2
"""
_UNEXPLAINED: Final = """
SELECT m.id, m.mid, m.sent_at FROM conversations AS c
JOIN messages AS m ON m.conversation_id = c.id AND m.timeline_at IS NOT NULL
WHERE c.account_id = ?1 AND c.participant_id = ?2 AND m.id > ?3 AND m.direction = 1 AND m.sent_at IS NOT NULL
  AND NOT EXISTS (
      SELECT 1 FROM outbound_parts AS x JOIN outbound_messages AS xo ON xo.id = x.outbound_id
      WHERE x.mid_key = m.mid_key AND x.mid = m.mid AND xo.account_id = ?1
  )
ORDER BY m.timeline_at DESC LIMIT 1
"""
_OPENED: Final = """
SELECT DISTINCT c.participant_id FROM messages AS m
CROSS JOIN conversations AS c ON c.id = m.conversation_id AND c.account_id = ?1
WHERE m.id > ?2 AND m.direction = 1 AND m.sent_at IS NOT NULL
  AND NOT EXISTS (
      SELECT 1 FROM messages AS b WHERE b.conversation_id = c.id AND b.timeline_at IS NOT NULL AND +b.id <= ?2
  )
"""
_UNREAD: Final = f"""
SELECT id FROM outbound_messages INDEXED BY outbound_by_person
WHERE account_id = ? AND participant_id = ? AND state IN ('sent', 'delivered') ORDER BY id DESC LIMIT {MOST_READ}
"""  # noqa: S608 - a constant
_READER: Final = """
SELECT c.participant_id FROM messages AS m JOIN conversations AS c ON c.id = m.conversation_id AND c.account_id = ?1
WHERE m.mid_key = ?2 AND m.mid = ?3 AND m.direction = 1
"""
_IS_NEW: Final = """
SELECT NOT EXISTS (
    SELECT 1 FROM conversations AS c JOIN messages AS m ON m.conversation_id = c.id AND m.timeline_at IS NOT NULL
    WHERE c.account_id = ? AND c.participant_id = ?
      AND +m.id <= (SELECT p.after_message_id FROM outbound_parts AS p WHERE p.id = ?)
)
"""
_AFTER: Final = "SELECT after_message_id FROM outbound_parts WHERE id = ?"


class PartOfEcho(NamedTuple):
    """The part that became the message `mid`."""

    mid: str
    part_id: int
    outbound_id: int


class Undecided(NamedTuple):
    """A part of which it is not known whether it was sent."""

    outbound_id: int
    part_id: int
    state: str
    participant_id: str | None
    after_message_id: int
    """The newest message that was stored when it was begun."""


class Unexplained(NamedTuple):
    """A message of the account that was not sent from here."""

    message_id: int
    mid: str
    sent_at: int


def parts_of(connection: sqlite3.Connection, account_id: str, mids: Iterable[str]) -> Sequence[PartOfEcho]:
    """The parts that became these messages."""
    wanted = msgspec.json.encode([(mid_key(mid), mid) for mid in mids]).decode()
    return [PartOfEcho(*row) for row in fetch(connection, _PARTS, (account_id, wanted))]


def delivered(connection: sqlite3.Connection, part_id: int, at: int) -> bool:
    """The echo of a part came at `at` (ms). False when that is known."""
    return connection.execute(_DELIVERED, (at, part_id)).rowcount > 0


def undecided(connection: sqlite3.Connection, key: ConversationKey) -> Sequence[Undecided]:
    """Parts that may have become a message of this conversation: also private replies to an author not yet known."""
    return [Undecided(*row) for row in fetch(connection, _UNDECIDED, key)]


def has_undecided(connection: sqlite3.Connection, account_id: str) -> bool:
    """Whether there is any part of the account of which it is not known whether it was sent."""
    return bool(fetch(connection, _HAS_UNDECIDED, (account_id,))[0][0])


def is_new_since(connection: sqlite3.Connection, key: ConversationKey, part_id: int) -> bool:
    """Whether nothing was known of a conversation when a part was begun: a private reply may have opened it."""
    return bool(fetch(connection, _IS_NEW, (*key, part_id))[0][0])


def echo_of(connection: sqlite3.Connection, key: ConversationKey, mid: str) -> tuple[int | None, bool]:
    """The id of a message, and whether a webhook brought it."""
    rows = fetch(connection, _MESSAGE, (*key, mid_key(mid), mid))
    return (rows[0][0], rows[0][1] is not None) if rows else (None, False)


def unexplained(connection: sqlite3.Connection, key: ConversationKey, part_id: int) -> Unexplained | None:
    """The latest message of the account that came since a part was begun, and is no part's."""
    rows = fetch(connection, _UNEXPLAINED, (*key, _after(connection, part_id)))
    return Unexplained(*rows[0]) if rows else None


def opened_since(connection: sqlite3.Connection, account_id: str, part_id: int) -> Sequence[ConversationKey]:
    """Conversations of which nothing was known when a part was begun, and in which the account wrote since."""
    rows = fetch(connection, _OPENED, (account_id, _after(connection, part_id)))
    return [ConversationKey(account_id, row[0]) for row in rows]


def unread(connection: sqlite3.Connection, key: ConversationKey) -> Sequence[int]:
    """Outbound messages to a participant that are not known to be read, the latest first."""
    return [row[0] for row in fetch(connection, _UNREAD, key)]


def reader_of(connection: sqlite3.Connection, account_id: str, mid: str) -> ConversationKey | None:
    """Who read the message `mid` of the account."""
    rows = fetch(connection, _READER, (account_id, mid_key(mid), mid))
    return ConversationKey(account_id, rows[0][0]) if rows else None


def _after(connection: sqlite3.Connection, part_id: int) -> int:
    rows = fetch(connection, _AFTER, (part_id,))
    return (rows[0][0] if rows else None) or 0
