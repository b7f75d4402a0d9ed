"""Conversations and their messages: applying what happened, and reading what came of it."""

import hashlib
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from inboxd.conversations.search_store import CONVERSATION_IDS, MESSAGE_IDS
from inboxd.domain.conversation import Conversation, ConversationKey, ConversationStatus
from inboxd.domain.message import (
    Attachment,
    Content,
    Direction,
    Edit,
    Message,
    MessageChange,
    Reaction,
    fold,
)
from inboxd.domain.paging import Place
from inboxd.domain.profile import ProfileState
from inboxd.storage.connection import Row, fetch, fetch_packed, insert_many
from inboxd.storage.database import Read

_CREATE: Final = """
INSERT INTO conversations (account_id, participant_id, created_at, updated_at) {rows}
"""
_IDS: Final = """
SELECT json_group_array(json_array(c.account_id, c.participant_id, c.id))
FROM json_each(?) AS k CROSS JOIN conversations AS c
WHERE c.account_id = k.value ->> 0 AND c.participant_id = k.value ->> 1
"""
_LOAD: Final = """
SELECT json_group_array(json_array(
    m.conversation_id, m.id, m.mid, m.noticed_at, m.sender_id, m.direction, m.sent_at, m.type, m.text,
    m.attachments, m.details, m.standby, m.edit_number, m.edited_at, m.edited_text, m.deleted_at,
    m.seen_by_account_at, m.seen_by_participant_at, m.reactions
))
FROM json_each(?) AS k CROSS JOIN messages AS m
WHERE m.mid_key = k.value ->> 1 AND m.conversation_id = k.value ->> 0 AND m.mid = k.value ->> 2
"""
_SAVE: Final = """
INSERT INTO messages (
    conversation_id, id, mid_key, mid, noticed_at, sender_id, direction, sent_at, type, text, attachments, details,
    standby, edit_number, edited_at, edited_text, deleted_at, seen_by_account_at, seen_by_participant_at, reactions,
    timeline_at, delivery_id, created_at, updated_at
) {rows}
ON CONFLICT (id) DO UPDATE SET
    noticed_at = excluded.noticed_at, sender_id = excluded.sender_id, direction = excluded.direction,
    sent_at = excluded.sent_at, type = excluded.type, text = excluded.text, attachments = excluded.attachments,
    details = excluded.details, standby = excluded.standby, edit_number = excluded.edit_number,
    edited_at = excluded.edited_at, edited_text = excluded.edited_text, deleted_at = excluded.deleted_at,
    seen_by_account_at = excluded.seen_by_account_at, seen_by_participant_at = excluded.seen_by_participant_at,
    reactions = excluded.reactions, timeline_at = excluded.timeline_at, updated_at = excluded.updated_at
"""
_SEEN: Final = """
UPDATE conversations AS c SET
    read_at = nullif(max(coalesce(c.read_at, 0), h.value ->> 1), 0),
    seen_at = nullif(max(coalesce(c.seen_at, 0), h.value ->> 2), 0)
FROM json_each(?) AS h WHERE c.id = h.value ->> 0
"""
MOST_UNREAD: Final = 1000
"""Nobody counts further, and each new message of a conversation would count them all again."""
_LAST_ANSWER: Final = """
SELECT m.timeline_at FROM messages AS m
WHERE m.conversation_id = c.id AND m.timeline_at IS NOT NULL AND m.direction = 1
ORDER BY m.timeline_at DESC LIMIT 1
"""
_DERIVE: Final = f"""
UPDATE conversations AS c SET
    last_message_at = coalesce((
        SELECT m.timeline_at FROM messages AS m
        WHERE m.conversation_id = c.id AND m.timeline_at IS NOT NULL AND m.direction IS NOT NULL
        ORDER BY m.timeline_at DESC LIMIT 1
    ), c.last_message_at),
    answered_at = coalesce(({_LAST_ANSWER}), c.answered_at),
    unread_count = (
        SELECT count(*) FROM (
            SELECT 1 FROM messages AS m
            WHERE m.conversation_id = c.id AND m.direction = 0 AND m.deleted_at IS NULL
              AND m.timeline_at > max(coalesce(({_LAST_ANSWER}), 0), coalesce(c.read_at, 0))
            LIMIT {MOST_UNREAD}
        )
    ),
    updated_at = ?
WHERE c.id IN (SELECT value FROM json_each(?))
"""  # noqa: S608 - built from constants
_COLUMNS: Final = """
SELECT c.id, c.account_id, c.participant_id, p.username, p.name, p.profile_pic, c.last_message_at, c.answered_at,
       c.read_at, c.seen_at, c.unread_count, c.status, c.metadata, c.created_at, c.updated_at, p.avatar, p.state,
       p.reason, p.next_attempt_at
FROM conversations AS c
LEFT JOIN participants AS p ON p.account_id = c.account_id AND p.participant_id = c.participant_id
"""
_BY_CONVERSATION_IDS: Final = f"{_COLUMNS} WHERE c.id IN (SELECT value FROM json_each(?))"  # noqa: S608 - built from constants
_IDS_OF_PAGE: Final = "SELECT c.id FROM conversations AS c"
_ORDER: Final = " ORDER BY c.last_message_at DESC, c.id DESC LIMIT ? OFFSET ?"
MAX_TEXT: Final = 20_000
"""Characters of a text that readers are shown; Instagram's own limit is 1000 bytes."""
MAX_JSON: Final = 65_536
"""Bytes of attachments or of details that readers are shown; larger ones are left out."""
_MESSAGE_COLUMNS: Final = f"""
SELECT m.id, m.created_at, m.updated_at, m.conversation_id, m.mid, m.noticed_at, m.sender_id, m.direction, m.sent_at,
       m.type, substr(m.text, 1, {MAX_TEXT}), CASE WHEN length(m.attachments) <= {MAX_JSON} THEN m.attachments END,
       CASE WHEN length(m.details) <= {MAX_JSON} THEN m.details END, m.standby, m.edit_number, m.edited_at,
       substr(m.edited_text, 1, {MAX_TEXT}), m.deleted_at, m.seen_by_account_at, m.seen_by_participant_at, m.reactions
"""
_LATEST: Final = f"""
{_MESSAGE_COLUMNS}
FROM json_each(?) AS k CROSS JOIN messages AS m ON m.id = (
    SELECT latest.id FROM messages AS latest WHERE latest.conversation_id = k.value AND latest.timeline_at IS NOT NULL
    ORDER BY latest.timeline_at DESC, latest.id DESC LIMIT 1
)
"""  # noqa: S608 - built from constants
_MESSAGES: Final = f"""
{_MESSAGE_COLUMNS}
FROM messages AS m
WHERE m.conversation_id = ? AND m.timeline_at IS NOT NULL AND (m.timeline_at, m.id) < (?, ?)
ORDER BY m.timeline_at DESC, m.id DESC LIMIT ? OFFSET ?
"""
_BY_IDS: Final = f"""
{_MESSAGE_COLUMNS}
FROM json_each(?) AS k CROSS JOIN messages AS m ON m.id = k.value
"""
_REGISTER: Final = """
INSERT INTO conversations (account_id, participant_id, status, metadata, unread_count, created_at, updated_at)
VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT (account_id, participant_id) DO NOTHING
"""
_CHANGE: Final = """
UPDATE conversations SET
    status = coalesce(?1, status), metadata = coalesce(?2, metadata), updated_at = max(?3, updated_at + 1)
WHERE id = ?4
"""
_MARK_READ: Final = """
UPDATE conversations SET
    read_at = nullif(max(coalesce(read_at, 0), coalesce(last_message_at, 0)), 0), unread_count = 0,
    updated_at = max(?1, updated_at + 1)
WHERE id = ?2 AND unread_count > 0
"""
_COUNT_MESSAGES: Final = "SELECT count(*) FROM messages WHERE conversation_id = ? AND timeline_at IS NOT NULL"


class StoredMessage(NamedTuple):
    """A message with what the store knows about it. Times in ms."""

    id: int
    created_at: int
    updated_at: int
    message: Message


class ConversationFilter(msgspec.Struct, frozen=True):
    """Which conversations a list is about; None means no condition."""

    account_id: str | None = None
    status: ConversationStatus | None = None
    has_unread: bool | None = None
    matching: str | None = None
    """An FTS5 query for names and messages."""
    before: Place | None = None
    """Only what comes after this place in the list."""

    def where(self) -> tuple[str, list[object]]:
        """The SQL condition and its parameters; `matching` is the last, and left to whoever asks."""
        conditions: list[str] = []
        parameters: list[object] = []
        if self.account_id is not None:
            conditions.append("+c.account_id = ?")  # the plus keeps SQLite on the index of activity
            parameters.append(self.account_id)
        if self.status is not None:
            conditions.append("c.status = ?")
            parameters.append(self.status.value)
        if self.has_unread is not None:
            conditions.append("c.unread_count > 0" if self.has_unread else "c.unread_count = 0")
        if self.matching is not None:
            conditions.append("c.id IN (SELECT value FROM json_each(?))")  # its parameter is looked up first
        return (" WHERE " + " AND ".join(conditions) if conditions else ""), parameters


def apply_changes(
    connection: sqlite3.Connection,
    keys: set[ConversationKey],
    changes: Iterable[tuple[int | None, MessageChange]],
    now: int,
) -> list[ConversationKey]:
    """Join `changes` (each with the delivery it came in, if that is known) to the messages they are about.

    `keys` are all conversations in which something happened; they exist afterwards. Returns those that are new.
    A handful of statements however many changes there are. Conversations are created as needed; what is derived from
    messages (last message, last answer, unread count) is derived anew for every conversation in which something
    really changed.
    """
    if not keys:
        return []
    ids, new = _conversation_ids(connection, keys, now)
    by_message: dict[tuple[ConversationKey, str], list[tuple[int | None, MessageChange]]] = {}
    for delivery_id, change in changes:
        by_message.setdefault((change.key, change.mid), []).append((delivery_id, change))
    if not by_message:
        return new
    known = load(connection, [(ids[key], mid_key(mid), mid) for key, mid in by_message])
    rows: list[Row] = []
    horizons: dict[int, tuple[int, int]] = {}
    touched: set[int] = set()
    for (key, mid), happened in by_message.items():
        conversation_id = ids[key]
        row_id, before = known.get((conversation_id, mid), (None, None))
        after = before
        for _, change in happened:
            after = fold(after, change)
        if after is None or after == before:
            continue
        rows.append((conversation_id, row_id, mid_key(mid), *_message_row(after), happened[0][0], now, now))
        touched.add(conversation_id)
        if after.sent_at is not None and (after.seen_by_account_at or after.seen_by_participant_at):
            read_at, seen_at = horizons.get(conversation_id, (0, 0))
            horizons[conversation_id] = (
                max(read_at, after.sent_at if after.seen_by_account_at else 0),
                max(seen_at, after.sent_at if after.seen_by_participant_at else 0),
            )
    if not rows:
        return new
    insert_many(connection, _SAVE, rows)
    if horizons:
        connection.execute(_SEEN, (_json([(key, *marks) for key, marks in horizons.items()]),))
    derive(connection, touched, now)
    return new


def derive(connection: sqlite3.Connection, conversation_ids: Collection[int], now: int) -> None:
    """Derive anew what conversations have from their messages. Times outlive the messages that they are from."""
    connection.execute(_DERIVE, (now, _json(sorted(conversation_ids))))


class ConversationStore:
    """Reading conversations and messages."""

    def __init__(self, read: Read) -> None:
        self._read = read

    async def page(self, condition: ConversationFilter, *, limit: int, offset: int) -> tuple[list[Conversation], int]:
        """Conversations, latest activity first, and how many meet the condition (whatever place it begins at)."""
        where, parameters = condition.where()
        if condition.matching is not None:
            found = await self._read(CONVERSATION_IDS, (condition.matching, condition.matching))
            parameters.append(_json([row[0] for row in found]))
        ids: list[int] = []
        for more, values in _stretches(condition.before):
            both = f"{where} AND {more}" if where and more else where or (f" WHERE {more}" if more else "")
            ids += [
                row[0] for row in await self._read(_IDS_OF_PAGE + both + _ORDER, [*parameters, *values, limit, offset])
            ]
        rows = {row[0]: row for row in await self._read(_BY_CONVERSATION_IDS, (_json(ids[:limit]),))}
        ((total,),) = await self._read(f"SELECT count(*) FROM conversations AS c{where}", parameters)  # noqa: S608 - built from constants
        return [_conversation(rows[one]) for one in ids[:limit] if one in rows], int(total)

    async def get(self, conversation_id: int) -> Conversation | None:
        """One conversation."""
        rows = await self._read(_COLUMNS + " WHERE c.id = ?", (conversation_id,))
        return _conversation(rows[0]) if rows else None

    async def messages(
        self, conversation_id: int, *, limit: int, offset: int, before: Place | None = None
    ) -> tuple[list[StoredMessage], int]:
        """Messages of a conversation, newest first, and how many there are."""
        at, last_id = (2**62, 2**62) if before is None else (before.at or 0, before.id)
        rows = await self._read(_MESSAGES, (conversation_id, at, last_id, limit, offset))
        ((total,),) = await self._read(_COUNT_MESSAGES, (conversation_id,))
        return [StoredMessage(row[0], row[1], row[2], _message(row[4:])) for row in rows], int(total)

    async def search(
        self, matching: str, *, account_id: str | None, before_id: int | None, limit: int
    ) -> list[tuple[StoredMessage, Conversation]]:
        """Messages that match an FTS5 query, the latest stored first, each with its conversation."""
        found = await self._read(MESSAGE_IDS, (matching, before_id or 2**62, account_id, limit))
        rows = await self._read(_BY_IDS, (_json([row[0] for row in found]),))
        messages = [(row[3], StoredMessage(row[0], row[1], row[2], _message(row[4:]))) for row in rows]
        ids = _json([key for key, _ in messages])
        conversations = {row[0]: _conversation(row) for row in await self._read(_BY_CONVERSATION_IDS, (ids,))}
        pairs = [(stored, conversations[key]) for key, stored in messages if key in conversations]
        return sorted(pairs, key=lambda pair: -pair[0].id)

    async def latest(self, conversation_ids: Sequence[int]) -> dict[int, StoredMessage]:
        """The latest message of each conversation that has one."""
        rows = await self._read(_LATEST, (_json(conversation_ids),))
        return {row[3]: StoredMessage(row[0], row[1], row[2], _message(row[4:])) for row in rows}


def register(
    connection: sqlite3.Connection,
    key: ConversationKey,
    *,
    status: ConversationStatus,
    unread_count: int,
    metadata: dict[str, object],
    now: int,
) -> bool:
    """Create a conversation that is known from elsewhere; False when it exists."""
    row = (*key, status.value, _json(metadata), unread_count, now, now)
    return connection.execute(_REGISTER, row).rowcount > 0


def change(
    connection: sqlite3.Connection,
    conversation_id: int,
    *,
    status: ConversationStatus | None,
    metadata: dict[str, object] | None,
    now: int,
) -> None:
    """Change what its owner says of a conversation; None leaves it as it is."""
    told = None if metadata is None else _json(metadata)
    connection.execute(_CHANGE, (None if status is None else status.value, told, now, conversation_id))


def mark_read(connection: sqlite3.Connection, conversation_id: int, now: int) -> None:
    """Everything in the conversation has been read by the account."""
    connection.execute(_MARK_READ, (now, conversation_id))


def remove(connection: sqlite3.Connection, conversation_id: int) -> bool:
    """Delete a conversation with its messages; False when there is none. What is known of the person stays."""
    return connection.execute("DELETE FROM conversations WHERE id = ?", (conversation_id,)).rowcount > 0


def _stretches(before: Place | None) -> list[tuple[str, tuple[int, ...]]]:
    """The conditions for what comes after a place: first what has a time, then what has none."""
    if before is None:
        return [("", ())]
    undated = "c.last_message_at IS NULL"
    if before.at is None:
        return [(f"{undated} AND c.id < ?", (before.id,))]
    return [("(c.last_message_at, c.id) < (?, ?)", (before.at, before.id)), (undated, ())]


def get_by_key(connection: sqlite3.Connection, key: ConversationKey) -> Conversation | None:
    """The conversation of `key`, as this connection sees it."""
    rows = fetch(connection, _COLUMNS + " WHERE c.account_id = ? AND c.participant_id = ?", key)
    return _conversation(rows[0]) if rows else None


def touch(connection: sqlite3.Connection, conversation: Conversation) -> None:
    """Store when the conversation was last updated."""
    connection.execute(
        "UPDATE conversations SET updated_at = ? WHERE id = ?", (conversation.updated_at, conversation.id)
    )


def _conversation_ids(
    connection: sqlite3.Connection, keys: set[ConversationKey], now: int
) -> tuple[dict[ConversationKey, int], list[ConversationKey]]:
    """The ids of `keys`, and which of them were created for it."""
    ids = _known_ids(connection, keys)
    new = sorted(keys - ids.keys())
    if new:
        insert_many(connection, _CREATE, [(*key, now, now) for key in new])
        ids |= _known_ids(connection, new)
    return ids, new


def _known_ids(connection: sqlite3.Connection, keys: Collection[ConversationKey]) -> dict[ConversationKey, int]:
    return {ConversationKey(row[0], row[1]): row[2] for row in fetch_packed(connection, _IDS, (_json(sorted(keys)),))}


def mid_key(mid: str) -> int:
    """What messages are looked up by: 64 bits of a hash of the mid, as SQLite's signed integer."""
    return int.from_bytes(hashlib.blake2b(mid.encode(), digest_size=8).digest(), "big", signed=True)


def load(
    connection: sqlite3.Connection, wanted: Sequence[tuple[int, int, str]]
) -> dict[tuple[int, str], tuple[int, Message]]:
    """Messages with their row ids by conversation and mid, from (conversation, mid_key, mid)."""
    rows = fetch_packed(connection, _LOAD, (_json(wanted),))
    return {(row[0], row[2]): (row[1], _message(row[2:])) for row in rows}


def _message_row(message: Message) -> Row:
    content, edit = message.content, message.edit
    return (
        message.mid,
        message.noticed_at,
        message.sender_id,
        message.direction,
        message.sent_at,
        content.type if content else None,
        content.text if content else None,
        _json(content.attachments) if content and content.attachments else None,
        _json(content.details) if content and content.details else None,
        message.standby,
        edit.number if edit else None,
        edit.at if edit else None,
        edit.text if edit else None,
        message.deleted_at,
        message.seen_by_account_at,
        message.seen_by_participant_at,
        _json(message.reactions) if message.reactions else None,
        message.timeline_at,
    )


def _message(row: Sequence[Any]) -> Message:
    (mid, noticed_at, sender_id, direction, sent_at, kind, text, attachments, details, standby, *rest) = row
    (edit_number, edited_at, edited_text, deleted_at, seen_by_account_at, seen_by_participant_at, reactions) = rest
    content = None
    if kind is not None:
        content = Content(
            type=kind,
            text=text,
            attachments=msgspec.json.decode(attachments, type=tuple[Attachment, ...]) if attachments else (),
            details=msgspec.json.decode(details, type=dict[str, object]) if details else None,
        )
    return Message(
        mid=mid,
        noticed_at=noticed_at,
        sender_id=sender_id,
        direction=Direction(direction) if direction is not None else None,
        sent_at=sent_at,
        content=content,
        standby=bool(standby),
        edit=Edit(edit_number, edited_at, edited_text) if edited_at is not None else None,
        deleted_at=deleted_at,
        seen_by_account_at=seen_by_account_at,
        seen_by_participant_at=seen_by_participant_at,
        reactions=msgspec.json.decode(reactions, type=tuple[Reaction, ...]) if reactions else (),
    )


def _conversation(row: Row) -> Conversation:
    return Conversation(
        id=row[0],
        key=ConversationKey(row[1], row[2]),
        participant_username=row[3],
        participant_name=row[4],
        participant_profile_pic=row[5],
        last_message_at=row[6],
        answered_at=row[7],
        read_at=row[8],
        seen_at=row[9],
        unread_count=row[10],
        status=ConversationStatus(row[11]),
        metadata=msgspec.json.decode(row[12], type=dict[str, object]),
        created_at=row[13],
        updated_at=row[14],
        participant_avatar=row[15],
        profile_state=None if row[16] is None else ProfileState(row[16]),
        profile_reason=row[17],
        profile_next_attempt_at=row[18],
    )


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


PARTICIPANT_CHANGED: Final = """
UPDATE conversations SET updated_at = max(?, updated_at + 1) WHERE account_id = ? AND participant_id = ?
"""


def participant_changed(connection: sqlite3.Connection, key: ConversationKey, at: int) -> None:
    """The profile of a participant was fetched at `at` (ms): `updated_at` of their conversation moves, if it exists."""
    connection.execute(PARTICIPANT_CHANGED, (at, *key))
