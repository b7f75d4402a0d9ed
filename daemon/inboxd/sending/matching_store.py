"""Finds the message of the conversation that a part became, although Meta's answer to its call was not seen.

Wall clocks decide nothing here. A message that a part became was stored after its intent, and is not older, by Meta's
clock, than what was known of the conversation then.
"""

import sqlite3
from collections.abc import Sequence
from enum import StrEnum
from typing import Final, NamedTuple

import msgspec

from inboxd.conversations.message_store import load, mid_key
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.outbound import OutboundKind, PartContent, same_content
from inboxd.sending.outbound import OutboundPart, StoredOutbound
from inboxd.storage.connection import Row, fetch
from inboxd.storage.database import Read

SLACK_MS: Final = 2000
"""The Conversations API has whole seconds."""
META_SLACK_MS: Final = 5000
"""Meta's machines may differ by so much."""
NEW_MS: Final = 60_000
MOST: Final = 50
"""Messages that are looked at. When there are more, nothing is proved."""
_EDGE: Final = """
SELECT coalesce(b.sent_at, b.listed_at) FROM outbound_parts AS p
JOIN outbound_messages AS o ON o.id = p.outbound_id
JOIN conversations AS c ON c.account_id = o.account_id AND c.participant_id = o.participant_id
JOIN messages AS b ON b.conversation_id = c.id AND b.timeline_at IS NOT NULL
WHERE p.id = ? AND b.id <= p.after_message_id AND coalesce(b.sent_at, b.listed_at) IS NOT NULL
ORDER BY b.timeline_at DESC LIMIT 1
"""
_CONTENT: Final = """
SELECT p.content, m.conversation_id, m.mid_key, m.mid FROM outbound_parts AS p
JOIN conversations AS c ON c.account_id = ?2 AND c.participant_id = ?3
JOIN messages AS m ON m.conversation_id = c.id AND m.mid_key = ?4 AND m.mid = ?5
WHERE p.id = ?1
"""
_decode: Final = msgspec.json.Decoder(PartContent).decode
_BEGAN: Final = "SELECT began_at_meta FROM outbound_parts WHERE id = ?"
_IS_OURS: Final = """
EXISTS (
    SELECT 1 FROM outbound_parts AS x JOIN outbound_messages AS xo ON xo.id = x.outbound_id
    WHERE x.mid_key = m.mid_key AND x.mid = m.mid AND xo.account_id = o.account_id
)
"""
_IN_CONVERSATION: Final = f"""
SELECT m.conversation_id, m.mid_key, m.mid, c.participant_id FROM outbound_parts AS p
JOIN outbound_messages AS o ON o.id = p.outbound_id
JOIN conversations AS c ON c.account_id = o.account_id AND c.participant_id = o.participant_id
JOIN messages AS m ON m.conversation_id = c.id AND m.timeline_at >= ?2
WHERE p.id = ?1 AND m.id > p.after_message_id AND coalesce(m.direction, 1) = 1 AND NOT {_IS_OURS}
ORDER BY m.timeline_at, m.id LIMIT {MOST + 1}
"""  # noqa: S608 - built from constants
_IN_NEW_ONES: Final = f"""
SELECT m.conversation_id, m.mid_key, m.mid, c.participant_id FROM outbound_parts AS p
JOIN outbound_messages AS o ON o.id = p.outbound_id
JOIN messages AS m ON m.id > p.after_message_id AND m.direction = 1 AND m.timeline_at IS NOT NULL
JOIN conversations AS c ON c.id = m.conversation_id AND c.account_id = o.account_id
WHERE p.id = ?1 AND c.created_at >= p.began_at - {NEW_MS} AND NOT {_IS_OURS}
  AND NOT EXISTS (
      SELECT 1 FROM messages AS b
      WHERE b.conversation_id = c.id AND b.timeline_at IS NOT NULL AND +b.id <= p.after_message_id
  )
ORDER BY m.id LIMIT {MOST + 1}
"""  # noqa: S608 - built from constants
_SIBLINGS: Final = """
SELECT count(*) FROM outbound_messages AS o INDEXED BY outbound_by_state
JOIN outbound_parts AS p ON p.outbound_id = o.id AND p.state IN ('sending', 'unknown')
WHERE o.state IN ('sending', 'unknown') AND o.account_id = ? AND o.kind = 'private_reply' AND o.participant_id IS NULL
"""
_UNKNOWN: Final = """
SELECT id FROM outbound_messages INDEXED BY outbound_by_state WHERE state = 'unknown' AND account_id = ?
"""
_IS_OTHERS: Final = """
SELECT EXISTS (
    SELECT 1 FROM messages AS m CROSS JOIN conversations AS c ON c.id = m.conversation_id AND c.account_id = ?1
    JOIN outbound_parts AS p ON p.id = ?4 JOIN outbound_messages AS o ON o.id = p.outbound_id
    WHERE m.mid_key = ?2 AND m.mid = ?3 AND (
        m.id <= p.after_message_id OR m.direction = 0
        OR c.participant_id <> coalesce(iif(o.kind = 'message', o.participant_id, NULL), c.participant_id)
    )
) OR EXISTS (
    SELECT 1 FROM outbound_parts AS x CROSS JOIN outbound_messages AS o ON o.id = x.outbound_id AND o.account_id = ?1
    WHERE x.mid_key = ?2 AND x.mid = ?3 AND x.id <> ?4
)
"""


class Verdict(StrEnum):
    """Whether a part was sent."""

    FOUND = "found"
    ABSENT = "absent"
    UNCLEAR = "unclear"


class Finding(NamedTuple):
    """What was found out about a part."""

    verdict: Verdict
    mid: str | None = None
    """The message that it became."""
    participant_id: str | None = None
    """In whose conversation that is."""
    words: str = ""
    """Why it is unclear, as a sentence."""


def find(connection: sqlite3.Connection, one: StoredOutbound, part: OutboundPart) -> Finding:
    """Look among the stored messages. ABSENT says only that it is not among them."""
    if part.content is None:
        return Finding(Verdict.UNCLEAR, words="Its content was erased.")
    if one.kind is OutboundKind.COMMENT_REPLY:
        return Finding(Verdict.ABSENT)
    if one.participant_id is not None:
        since = _since(fetch(connection, _EDGE, (part.id,)), fetch(connection, _BEGAN, (part.id,)))
        rows = fetch(connection, _IN_CONVERSATION, (part.id, since or 0))
        return _among(connection, part.content, rows)
    siblings = fetch(connection, _SIBLINGS, (one.account_id,))[0][0]
    found = Finding(Verdict.ABSENT)
    if siblings == 1:
        found = _among(connection, part.content, fetch(connection, _IN_NEW_ONES, (part.id,)))
    if found.verdict is Verdict.ABSENT:
        return Finding(Verdict.UNCLEAR, words="It is not known who wrote the comment.")
    return found


def may_be(connection: sqlite3.Connection, part_id: int, key: ConversationKey, mid: str) -> bool:
    """Whether the message `mid` may have the content of a part. True when one of them is not known."""
    rows = fetch(connection, _CONTENT, (part_id, *key, mid_key(mid), mid))
    if not rows or rows[0][0] is None:
        return True
    packed, *name = rows[0]
    try:
        content = _decode(packed)
    except msgspec.MsgspecError:  # that must not keep the webhook from being processed
        return True
    message = load(connection, [tuple(name)])[(name[0], mid)].message
    return message.direction is None or same_content(content, message) is not False


def is_of_another(connection: sqlite3.Connection, account_id: str, part_id: int, mid: str) -> bool:
    """Whether `mid` is the id of a message that was there before a part was begun, or of another part.

    Also when it is the participant's, or in another conversation.
    """
    return bool(fetch(connection, _IS_OTHERS, (account_id, mid_key(mid), mid, part_id))[0][0])


async def unknown(read: Read, account_id: str) -> Sequence[int]:
    """The messages of an account of which it is not known whether they were sent. Raises StorageError."""
    return [row[0] for row in await read(_UNKNOWN, (account_id,))]


def _among(connection: sqlite3.Connection, content: PartContent, rows: Sequence[Row]) -> Finding:
    """Look among the messages (conversation, mid_key, mid, participant)."""
    if len(rows) > MOST:
        return Finding(Verdict.UNCLEAR, words="Too much was written in the conversation since.")
    known = load(connection, [row[:3] for row in rows])
    unclear = False
    for conversation_id, _, mid, participant_id in rows:
        message = known[(conversation_id, mid)].message
        same = None if message.direction is None else same_content(content, message)
        if same:
            return Finding(Verdict.FOUND, mid, participant_id)
        unclear = unclear or same is None
    if unclear:
        return Finding(
            Verdict.UNCLEAR, words="Meta shows a message of that time without its content, or with another link."
        )
    return Finding(Verdict.ABSENT)


class Since(NamedTuple):
    """What a part became is not older than this (ms), by Meta's clock."""

    known_to: int | None
    """The time of the newest message of its conversation that was known when it was begun. None when none was."""
    earliest: int | None
    """The earliest time of the message that it became. None when nothing told Meta's time when it was begun."""


async def since_of(read: Read, part_id: int) -> Since:
    """Since when the message that a part became is to be looked for. Raises StorageError."""
    known = await read(_EDGE, (part_id,))
    return Since(known[0][0] if known else None, _since(known, await read(_BEGAN, (part_id,))))


def _since(known: Sequence[Row], began: Sequence[Row]) -> int | None:
    if known:
        return int(known[0][0]) - SLACK_MS
    return None if not began or began[0][0] is None else int(began[0][0]) - META_SLACK_MS
