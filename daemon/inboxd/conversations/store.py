"""Conversations in the database: reading them with their messages, and changing them."""

import sqlite3
from collections.abc import Collection, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from inboxd.conversations.message_store import message_of, updated_at
from inboxd.conversations.search_store import CONVERSATION_IDS, MESSAGE_IDS
from inboxd.domain.conversation import Conversation, ConversationKey, ConversationStatus
from inboxd.domain.message import Message
from inboxd.domain.paging import Place
from inboxd.domain.profile import ProfileState
from inboxd.storage.connection import Row, fetch
from inboxd.storage.database import Read

_FIELDS: Final = """
c.id, c.account_id, c.participant_id, p.username, p.name, p.profile_pic, c.last_message_at, c.answered_at, c.read_at,
c.seen_at, c.unread_count, c.status, {metadata}, c.created_at, c.updated_at, p.avatar, p.state, p.reason,
p.next_attempt_at, c.customer_wrote_at, c.ad_clicked_at, c.window_refused_at, c.tag_refused_at,
c.automation_paused_until, a.human_agent, a.human_agent_refused_at
"""
_PARTICIPANT: Final = """
LEFT JOIN participants AS p ON p.account_id = c.account_id AND p.participant_id = c.participant_id
LEFT JOIN accounts AS a ON a.id = c.account_id
"""
_COLUMNS: Final = f"SELECT {_FIELDS.format(metadata='c.metadata')} FROM conversations AS c {_PARTICIPANT}"  # noqa: S608 - built from constants
MAX_EVENT_METADATA: Final = 4096
"""Bytes of metadata that an event repeats with its conversation; larger metadata is left out of events."""
_SNAPSHOTS: Final = f"""
SELECT json_group_array(json_array(c.id, json_array({
    _FIELDS.format(metadata=f"CASE WHEN length(c.metadata) <= {MAX_EVENT_METADATA} THEN c.metadata ELSE '{{}}' END")
})))
FROM json_each(?) AS k CROSS JOIN conversations AS c ON c.id = k.value {_PARTICIPANT}
"""  # noqa: S608 - built from constants
_decode_snapshots: Final = msgspec.json.Decoder(list[tuple[int, msgspec.Raw]]).decode
_BY_ID: Final = f"{_COLUMNS} WHERE c.id = ?"
_BY_CONVERSATION_IDS: Final = f"{_COLUMNS} WHERE c.id IN (SELECT value FROM json_each(?))"  # noqa: S608 - built from constants
_IDS_OF_PAGE: Final = "SELECT c.id FROM conversations AS c"
_ORDER: Final = " ORDER BY c.last_message_at DESC, c.id DESC LIMIT ? OFFSET ?"
_UPDATED: Final = "SELECT c.id, c.updated_at FROM conversations AS c"
_SINCE: Final = "c.updated_at >= ?"
_AFTER: Final = "(c.updated_at, c.id) > (?, ?)"
_ORDER_OF_UPDATES: Final = " ORDER BY c.updated_at, c.id LIMIT ? OFFSET ?"
MAX_TEXT: Final = 20_000
"""Characters of a text that readers are shown; Instagram's own limit is 1000 bytes."""
MAX_JSON: Final = 65_536
"""Bytes of attachments or of details that readers are shown; larger ones are left out."""
_MESSAGE_COLUMNS: Final = f"""
SELECT m.id, m.created_at, m.updated_at, m.conversation_id, m.mid, m.noticed_at, m.sender_id, m.direction, m.sent_at,
       m.type, substr(m.text, 1, {MAX_TEXT}), CASE WHEN length(m.attachments) <= {MAX_JSON} THEN m.attachments END,
       CASE WHEN length(m.details) <= {MAX_JSON} THEN m.details END, m.standby, m.edit_number, m.edited_at,
       substr(m.edited_text, 1, {MAX_TEXT}), m.deleted_at, m.seen_by_account_at, m.seen_by_participant_at, m.reactions,
       m.source, m.listed_at, m.read_at, substr(m.read_text, 1, {MAX_TEXT}), m.read_text_at
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
_NEWEST: Final = "SELECT id, created_at FROM messages WHERE id = (SELECT max(id) FROM messages)"
_LAST_READ: Final = """
SELECT id FROM messages WHERE id <= ? AND created_at <= ? ORDER BY id DESC LIMIT 1
"""
_STORED_AFTER: Final = """
SELECT m.id, m.created_at, m.timeline_at IS NOT NULL AND (?2 IS NULL OR c.account_id = ?2)
FROM messages AS m CROSS JOIN conversations AS c ON c.id = m.conversation_id
WHERE m.id > ?1 ORDER BY m.id LIMIT ?3
"""
WALK: Final = 2000
"""How many messages are looked at for one page of those of an account."""
_CREATE: Final = f"""
INSERT INTO conversations (account_id, participant_id, status, metadata, unread_count, created_at, updated_at)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, {updated_at("?6")}) ON CONFLICT (account_id, participant_id) DO NOTHING
"""  # noqa: S608 - built from constants
_CHANGE: Final = f"""
UPDATE conversations SET
    status = coalesce(?1, status), metadata = coalesce(?2, metadata),
    updated_at = max({updated_at("?3")}, updated_at + 1)
WHERE id = ?4
"""  # noqa: S608 - built from constants
_MARK_READ: Final = f"""
UPDATE conversations SET
    read_at = nullif(max(coalesce(read_at, 0), coalesce(last_message_at, 0)), 0), unread_count = 0,
    updated_at = max({updated_at("?1")}, updated_at + 1)
WHERE id = ?2 AND unread_count > 0
"""  # noqa: S608 - built from constants
_LAST_MESSAGE_AT: Final = """
SELECT last_message_at FROM conversations WHERE +account_id = ? ORDER BY last_message_at DESC LIMIT 1
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
    participant_id: str | None = None
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
        if self.participant_id is not None:
            conditions.append("c.participant_id = ?")
            parameters.append(self.participant_id)
        if self.status is not None:
            conditions.append("c.status = ?")
            parameters.append(self.status.value)
        if self.has_unread is not None:
            conditions.append("c.unread_count > 0" if self.has_unread else "c.unread_count = 0")
        if self.matching is not None:
            conditions.append("c.id IN (SELECT value FROM json_each(?))")  # its parameter is looked up first
        return (" WHERE " + " AND ".join(conditions) if conditions else ""), parameters


class ConversationStore:
    """Reading conversations and messages."""

    def __init__(self, read: Read) -> None:
        self._read = read

    async def page(self, condition: ConversationFilter, *, limit: int, offset: int) -> tuple[list[Conversation], int]:
        """Conversations, latest activity first, and how many meet the condition (whatever place it begins at)."""
        where, parameters = await self._condition(condition)
        ids: list[int] = []
        for more, values in _stretches(condition.before):
            listing = _IDS_OF_PAGE + _both(where, more) + _ORDER
            ids += [row[0] for row in await self._read(listing, [*parameters, *values, limit, offset])]
        return await self.of_ids(ids[:limit]), await self._count(where, parameters)

    async def updated(
        self, condition: ConversationFilter, since: int, after: Place | None, *, limit: int, offset: int
    ) -> tuple[list[Conversation], int, Place]:
        """Conversations that were updated at `since` (ms) or later, the earliest update first, those after `after`.

        Returns them, how many there are (whatever place it begins at), and the place after which to go on. What is
        updated meanwhile comes again, at its new place.
        """
        where, parameters = await self._condition(condition)
        start = max(Place(since, 0), (after.at or 0, after.id)) if after else Place(since, 0)
        rows = await self._read(_updates(where), [*parameters, *start, limit, offset])
        following = Place(rows[-1][1], rows[-1][0]) if rows else Place(*start)  # as listed: it may have moved by now
        total = await self._count(_both(where, _SINCE), [*parameters, since])
        return await self.of_ids([row[0] for row in rows]), total, following

    async def _condition(self, condition: ConversationFilter) -> tuple[str, list[object]]:
        where, parameters = condition.where()
        if condition.matching is not None:
            found = await self._read(CONVERSATION_IDS, (condition.matching, condition.matching))
            parameters.append(_json([row[0] for row in found]))
        return where, parameters

    async def of_ids(self, ids: Sequence[int]) -> list[Conversation]:
        """The conversations with these ids, in their order."""
        rows = {row[0]: row for row in await self._read(_BY_CONVERSATION_IDS, (_json(ids),))}
        return [_conversation(rows[one]) for one in ids if one in rows]

    async def _count(self, where: str, parameters: Sequence[object]) -> int:
        ((total,),) = await self._read(f"SELECT count(*) FROM conversations AS c{where}", parameters)  # noqa: S608 - built from constants
        return int(total)

    async def get(self, conversation_id: int) -> Conversation | None:
        """One conversation."""
        rows = await self._read(_BY_ID, (conversation_id,))
        return _conversation(rows[0]) if rows else None

    async def messages(
        self, conversation_id: int, *, limit: int, offset: int, before: Place | None = None
    ) -> tuple[list[StoredMessage], int]:
        """Messages of a conversation, newest first, and how many there are."""
        at, last_id = (2**62, 2**62) if before is None else (before.at or 0, before.id)
        rows = await self._read(_MESSAGES, (conversation_id, at, last_id, limit, offset))
        ((total,),) = await self._read(_COUNT_MESSAGES, (conversation_id,))
        return [StoredMessage(row[0], row[1], row[2], message_of(row[4:])) for row in rows], int(total)

    async def search(
        self, matching: str, *, account_id: str | None, before_id: int | None, limit: int
    ) -> list[tuple[StoredMessage, Conversation]]:
        """Messages that match an FTS5 query, the latest stored first, each with its conversation."""
        found = await self._read(MESSAGE_IDS, (matching, before_id or 2**62, account_id, limit))
        return await self._with_conversations([row[0] for row in found])

    async def stored_after(
        self, after: Place, *, account_id: str | None, limit: int
    ) -> tuple[list[tuple[StoredMessage, Conversation]], Place]:
        """Messages in the order in which they were first shown, those after `after`, each with its conversation.

        Returns them, and the place after which to go on: that of the last message that was looked at. At most WALK
        messages are looked at, so a page of one account may be short. The id of a removed message may be given again,
        therefore a place also has the time (ms) at which its message was stored.
        """
        last = await self._read(_LAST_READ, (after.id, after.at or 0))
        walk = limit if account_id is None else WALK
        rows = await self._read(_STORED_AFTER, (last[0][0] if last else 0, account_id, walk))
        wanted = [place for place, row in enumerate(rows) if row[2]][:limit]
        if len(wanted) == limit:
            rows = rows[: wanted[-1] + 1]
        found = await self._with_conversations([rows[place][0] for place in wanted])
        return found[::-1], Place(rows[-1][1], rows[-1][0]) if rows else after

    async def newest(self) -> Place:
        """The place of the message that was stored last, as `stored_after` takes it."""
        rows = await self._read(_NEWEST, ())
        return Place(rows[0][1], rows[0][0]) if rows else Place(0, 0)

    async def _with_conversations(self, message_ids: Sequence[int]) -> list[tuple[StoredMessage, Conversation]]:
        """The messages with these ids, the latest stored first, each with its conversation."""
        rows = await self._read(_BY_IDS, (_json(message_ids),))
        messages = [(row[3], StoredMessage(row[0], row[1], row[2], message_of(row[4:]))) for row in rows]
        ids = _json([key for key, _ in messages])
        conversations = {row[0]: _conversation(row) for row in await self._read(_BY_CONVERSATION_IDS, (ids,))}
        pairs = [(stored, conversations[key]) for key, stored in messages if key in conversations]
        return sorted(pairs, key=lambda pair: -pair[0].id)

    async def latest(self, conversation_ids: Sequence[int]) -> dict[int, StoredMessage]:
        """The latest message of each conversation that has one."""
        rows = await self._read(_LATEST, (_json(conversation_ids),))
        return {row[3]: StoredMessage(row[0], row[1], row[2], message_of(row[4:])) for row in rows}


async def last_message_at(read: Read, account_id: str) -> int | None:
    """When the latest message of an account was sent (ms); None when it has none. Raises StorageError."""
    rows = await read(_LAST_MESSAGE_AT, (account_id,))
    return rows[0][0] if rows else None


def create(
    connection: sqlite3.Connection,
    key: ConversationKey,
    *,
    status: ConversationStatus,
    unread_count: int,
    metadata: dict[str, object],
    now: int,
) -> bool:
    """Create a conversation that another system knows; False when it exists."""
    row = (*key, status.value, _json(metadata), unread_count, now)
    return connection.execute(_CREATE, row).rowcount > 0


def change(
    connection: sqlite3.Connection,
    conversation_id: int,
    *,
    status: ConversationStatus | None,
    metadata: dict[str, object] | None,
    now: int,
) -> Conversation | None:
    """Change what users say of a conversation; None leaves it as it is. Returns it; None when there is none."""
    encoded = None if metadata is None else _json(metadata)
    connection.execute(_CHANGE, (None if status is None else status.value, encoded, now, conversation_id))
    return get(connection, conversation_id)


def mark_read(connection: sqlite3.Connection, conversation_id: int, now: int) -> Conversation | None:
    """The account has read everything in the conversation. Returns the conversation; None when there is none."""
    connection.execute(_MARK_READ, (now, conversation_id))
    return get(connection, conversation_id)


def remove(connection: sqlite3.Connection, conversation_id: int) -> bool:
    """Delete a conversation with its messages; False when there is none. What is known of the person stays."""
    return connection.execute("DELETE FROM conversations WHERE id = ?", (conversation_id,)).rowcount > 0


def get(connection: sqlite3.Connection, conversation_id: int) -> Conversation | None:
    """One conversation, as this connection sees it."""
    rows = fetch(connection, _BY_ID, (conversation_id,))
    return _conversation(rows[0]) if rows else None


def snapshots(connection: sqlite3.Connection, conversation_ids: Collection[int]) -> dict[int, msgspec.Raw]:
    """Conversations by id, each as a JSON array of its row: events keep them so. `of_snapshot` reads one."""
    ((packed,),) = connection.execute(_SNAPSHOTS, (_json(sorted(conversation_ids)),)).fetchall()
    return dict(_decode_snapshots(packed))


def of_snapshot(row: Sequence[Any]) -> Conversation:
    """The conversation of a snapshot. Snapshots outlive releases: new columns are added at the end, with a default."""
    return _conversation(tuple(row))


def get_by_key(connection: sqlite3.Connection, key: ConversationKey) -> Conversation | None:
    """The conversation of `key`, as this connection sees it."""
    rows = fetch(connection, _COLUMNS + " WHERE c.account_id = ? AND c.participant_id = ?", key)
    return _conversation(rows[0]) if rows else None


def _updates(where: str) -> str:
    """The query for the conversations that meet a condition, in the order of their updates, after a place."""
    return _UPDATED + _both(where, _AFTER) + _ORDER_OF_UPDATES


def _both(where: str, more: str) -> str:
    """The clause `where`, which may be empty, with one condition more, which may be empty."""
    if not more:
        return where
    return f"{where} AND {more}" if where else f" WHERE {more}"


def _stretches(before: Place | None) -> list[tuple[str, tuple[int, ...]]]:
    """The conditions for what comes after a place: first what has a time, then what has none."""
    if before is None:
        return [("", ())]
    undated = "c.last_message_at IS NULL"
    if before.at is None:
        return [(f"{undated} AND c.id < ?", (before.id,))]
    return [("(c.last_message_at, c.id) < (?, ?)", (before.at, before.id)), (undated, ())]


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
        **_window(row[19:]),
    )


_WINDOW: Final = (
    "customer_wrote_at",
    "ad_clicked_at",
    "window_refused_at",
    "tag_refused_at",
    "automation_paused_until",
    "human_agent",
    "human_agent_refused_at",
)


def _window(row: Row) -> dict[str, Any]:
    """What decides whether a conversation can be answered. Snapshots of older releases have none of it."""
    if len(row) < len(_WINDOW):
        return {}
    return dict(zip(_WINDOW, row, strict=False)) | {"human_agent": bool(row[_WINDOW.index("human_agent")])}


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


PARTICIPANT_CHANGED: Final = f"""
UPDATE conversations SET updated_at = max({updated_at("?1")}, updated_at + 1)
WHERE account_id = ?2 AND participant_id = ?3
"""  # noqa: S608 - built from constants


def participant_changed(connection: sqlite3.Connection, key: ConversationKey, at: int) -> None:
    """A profile or an avatar was fetched at `at` (ms): `updated_at` of the conversation moves, if it exists."""
    connection.execute(PARTICIPANT_CHANGED, (at, *key))
