"""Messages in the database: joining changes to them, and what conversations derive from them."""

import hashlib
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from inboxd.domain.conversation import ConversationKey
from inboxd.domain.message import (
    NEVER_READ,
    Attachment,
    Content,
    Direction,
    Edit,
    Message,
    MessageChange,
    Reaction,
    ReadText,
    Sent,
    Source,
    fold,
)
from inboxd.domain.message_facts import MessageFact, facts
from inboxd.storage.connection import Row, fetch_packed, insert_many

MAX_AHEAD_MS: Final = 60_000
"""How far the times of updates may be ahead of the clock, so that their order is that of the transactions."""


def updated_at(now: str) -> str:
    """The SQL expression for when conversations are updated: `now`, but later than every earlier update.

    So whoever reads updates in the order of their times misses none, although transactions take their time before they
    are committed, and the clock may be set back a little. An update that is further ahead than MAX_AHEAD_MS is from a
    clock that was wrong, and does not count.
    """
    latest = f"SELECT max(updated_at) FROM conversations WHERE updated_at <= {now} + {MAX_AHEAD_MS}"  # noqa: S608 - a parameter
    return f"max({now}, coalesce(({latest}), 0) + 1)"


_CREATE: Final = f"""
INSERT INTO conversations (account_id, participant_id, created_at, updated_at)
SELECT column1, column2, column3, {updated_at("column3")} FROM ({{rows}})
"""  # noqa: S608 - built from constants
_IDS: Final = """
SELECT json_group_array(json_array(c.account_id, c.participant_id, c.id))
FROM json_each(?) AS k CROSS JOIN conversations AS c
WHERE c.account_id = k.value ->> 0 AND c.participant_id = k.value ->> 1
"""
_LOAD: Final = """
SELECT json_group_array(json_array(
    m.conversation_id, m.id, m.mid, m.noticed_at, m.sender_id, m.direction, m.sent_at, m.type, m.text,
    m.attachments, m.details, m.standby, m.edit_number, m.edited_at, m.edited_text, m.deleted_at,
    m.seen_by_account_at, m.seen_by_participant_at, m.reactions, m.source, m.listed_at, m.read_at,
    m.read_text, m.read_text_at, m.created_at
))
FROM json_each(?) AS k CROSS JOIN messages AS m
WHERE m.mid_key = k.value ->> 1 AND m.conversation_id = k.value ->> 0 AND m.mid = k.value ->> 2
"""
_SAVE: Final = """
INSERT INTO messages (
    conversation_id, id, mid_key, mid, noticed_at, sender_id, direction, sent_at, type, text, attachments, details,
    standby, edit_number, edited_at, edited_text, deleted_at, seen_by_account_at, seen_by_participant_at, reactions,
    source, listed_at, read_at, read_text, read_text_at, timeline_at, delivery_id, created_at, updated_at
) {rows}
ON CONFLICT (id) DO UPDATE SET
    noticed_at = excluded.noticed_at, sender_id = excluded.sender_id, direction = excluded.direction,
    sent_at = excluded.sent_at, type = excluded.type, text = excluded.text, attachments = excluded.attachments,
    details = excluded.details, standby = excluded.standby, edit_number = excluded.edit_number,
    edited_at = excluded.edited_at, edited_text = excluded.edited_text, deleted_at = excluded.deleted_at,
    seen_by_account_at = excluded.seen_by_account_at, seen_by_participant_at = excluded.seen_by_participant_at,
    reactions = excluded.reactions, source = excluded.source, listed_at = excluded.listed_at,
    read_at = excluded.read_at, read_text = excluded.read_text, read_text_at = excluded.read_text_at,
    timeline_at = excluded.timeline_at, updated_at = excluded.updated_at
"""
_ANY_UNCONFIRMED: Final = """
SELECT EXISTS (SELECT 1 FROM messages INDEXED BY messages_unconfirmed WHERE source > 0 AND direction IS NOT NULL)
"""
_UNCONFIRMED: Final = """
SELECT json_group_array(json_array(k.value ->> 5, m.id, k.value ->> 4))
FROM json_each(?) AS k CROSS JOIN messages AS m INDEXED BY messages_unconfirmed
    ON m.source > 0 AND m.direction IS NOT NULL AND m.conversation_id = k.value ->> 0
    AND m.listed_at BETWEEN (k.value ->> 1) - 1000 AND (k.value ->> 1) + 1000
WHERE m.sender_id = k.value ->> 2 AND coalesce(m.text, '') = k.value ->> 3 AND m.mid <> k.value ->> 4
"""
_RENAME: Final = "UPDATE OR IGNORE messages SET mid = ?, mid_key = ? WHERE id = ?"
_LAST_ID: Final = "SELECT coalesce(max(id), 0) FROM messages"
_REMOVE: Final = "DELETE FROM messages WHERE id IN (SELECT value FROM json_each(?))"
_SEEN: Final = """
UPDATE conversations AS c SET
    read_at = nullif(max(coalesce(c.read_at, 0), h.value ->> 1), 0),
    seen_at = nullif(max(coalesce(c.seen_at, 0), h.value ->> 2), 0)
FROM json_each(?) AS h WHERE c.id = h.value ->> 0
"""
MOST_UNREAD: Final = 1000
"""Unread messages are counted up to here: each new message of a conversation counts them all again."""
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
            WHERE m.conversation_id = c.id AND m.direction = 0 AND m.deleted_at IS NULL AND m.source <> {Source.HISTORY}
              AND m.timeline_at > max(coalesce(({_LAST_ANSWER}), 0), coalesce(c.read_at, 0))
            LIMIT {MOST_UNREAD}
        )
    ),
    updated_at = {updated_at("?1")}
WHERE c.id IN (SELECT value FROM json_each(?2))
"""  # noqa: S608 - built from constants


_Changes = list[tuple[int, int | None, MessageChange]]
"""Each with its number, and the delivery that it came in, if that is known."""


class KnownMessage(NamedTuple):
    """A message as it is stored. `created_at` in ms."""

    id: int
    created_at: int
    message: Message


class ChangedMessage(NamedTuple):
    """What one change really did to a message. `created_at` is when the message was first stored (ms)."""

    number: int
    """The place of the change among all that were applied with it."""
    key: ConversationKey
    conversation_id: int
    message_id: int
    created_at: int
    message: Message
    """The message after the change."""
    facts: list[MessageFact]


class Applied(NamedTuple):
    """What changes really did."""

    created: list[tuple[ConversationKey, int]]
    """The conversations that were created, with their ids."""
    changed: list[ChangedMessage]
    """In the order of the changes."""


class _Joined(NamedTuple):
    """What changes make of the messages that they are about."""

    rows: list[Row]
    """The messages that really changed, as rows of `messages`."""
    messages: list[ChangedMessage]
    hidden: list[int]
    """Rows that nobody was shown, of messages that are shown from now on."""
    changed: set[int]
    """Their conversations."""
    seen: dict[int, tuple[int, int]]
    """By conversation: up to when (ms) the account, and the participant, have seen its messages."""


def apply_changes(
    connection: sqlite3.Connection,
    keys: set[ConversationKey],
    changes: Iterable[tuple[int | None, MessageChange]],
    now: int,
) -> Applied:
    """Join `changes` (each with the delivery it came in, if that is known) to the messages they are about.

    `keys` are all conversations in which something happened. Those that do not exist are created. It takes a handful of
    statements, however many changes there are. What is derived from messages (last message, last answer, unread count)
    is derived anew for every conversation in which something really changed.
    """
    if not keys:
        return Applied([], [])
    ids, new = _conversation_ids(connection, keys, now)
    created = [(key, ids[key]) for key in new]
    by_message: dict[tuple[ConversationKey, str], _Changes] = {}
    for number, (delivery_id, change) in enumerate(changes):
        by_message.setdefault((change.key, change.mid), []).append((number, delivery_id, change))
    if not by_message:
        return Applied(created, [])
    adopt(connection, [(ids[key], change) for (key, _), several in by_message.items() for _, _, change in several])
    known = load(connection, [(ids[key], mid_key(mid), mid) for key, mid in by_message])
    ((last_id,),) = connection.execute(_LAST_ID).fetchall()
    joined = _join(by_message, ids, known, last_id, now)
    if not joined.rows:
        return Applied(created, [])
    if joined.hidden:
        connection.execute(_REMOVE, (_json(joined.hidden),))
    insert_many(connection, _SAVE, joined.rows)
    if joined.seen:
        connection.execute(_SEEN, (_json([(key, *marks) for key, marks in joined.seen.items()]),))
    derive(connection, joined.changed, now)
    return Applied(created, sorted(joined.messages, key=lambda changed: changed.number))


def adopt(connection: sqlite3.Connection, changes: Sequence[tuple[int, MessageChange]]) -> None:
    """Give messages that are known from the Conversations API alone the mid by which a webhook now brings them.

    Both ids are the same as far as anyone has seen. If they ever differ, the same sender, second and text say that it
    is the same message. `changes` each with the conversation's id.
    """
    if not connection.execute(_ANY_UNCONFIRMED).fetchall()[0][0]:
        return
    wanted = [
        (conversation_id, change.at, change.sender_id, change.content.text or "", change.mid, number)
        for number, (conversation_id, change) in enumerate(changes)
        if type(change) is Sent
    ]
    taken: set[int] = set()
    for _, message_id, mid in sorted(fetch_packed(connection, _UNCONFIRMED, (_json(wanted),))):
        if message_id not in taken:
            taken.add(message_id)
            connection.execute(_RENAME, (mid, mid_key(mid), message_id))


def _join(
    by_message: Mapping[tuple[ConversationKey, str], _Changes],
    ids: Mapping[ConversationKey, int],
    known: Mapping[tuple[int, str], KnownMessage],
    last_id: int,
    now: int,
) -> _Joined:
    joined = _Joined([], [], [], set(), {})
    for (key, mid), changes in by_message.items():
        conversation_id = ids[key]
        stored = known.get((conversation_id, mid))
        row_id, created_at, before = (last_id + 1, now, None) if stored is None else stored
        after, told = before, []
        for number, _, change in changes:
            earlier, after = after, fold(after, change)
            if after != earlier:
                told.append((number, after, facts(earlier, after)))
        if after is None or after == before or (before is not None and _message_row(after) == _message_row(before)):
            continue  # a text that was read again, and says what is known, is not even stored
        if before is not None and before.timeline_at is None and after.timeline_at is not None:
            # Ids tell in which order messages were first shown, so it gets a new one.
            joined.hidden.append(row_id)
            row_id, created_at = last_id + 1, now
        last_id = max(last_id, row_id)
        about = (key, conversation_id, row_id, created_at)
        joined.messages.extend(ChangedMessage(number, *about, then, found) for number, then, found in told)
        joined.rows.append((conversation_id, row_id, mid_key(mid), *_message_row(after), changes[0][1], now, now))
        joined.changed.add(conversation_id)
        _note_seen(joined.seen, conversation_id, after)
    return joined


def _note_seen(seen: dict[int, tuple[int, int]], conversation_id: int, message: Message) -> None:
    if message.direction is None or not message.seen:
        return
    read_at, seen_at = seen.get(conversation_id, (0, 0))
    seen[conversation_id] = (
        max(read_at, message.shown_at if message.seen_by_account_at else 0),
        max(seen_at, message.shown_at if message.seen_by_participant_at else 0),
    )


def derive(connection: sqlite3.Connection, conversation_ids: Collection[int], now: int) -> None:
    """Derive what conversations have from their messages. Times stay when the messages that they are from are gone."""
    connection.execute(_DERIVE, (now, _json(sorted(conversation_ids))))


def _conversation_ids(
    connection: sqlite3.Connection, keys: set[ConversationKey], now: int
) -> tuple[dict[ConversationKey, int], list[ConversationKey]]:
    """The ids of the conversations `keys`, and which of them were created for it."""
    ids = _known_ids(connection, keys)
    new = sorted(keys - ids.keys())
    if new:
        insert_many(connection, _CREATE, [(*key, now) for key in new])
        ids |= _known_ids(connection, new)
    return ids, new


def _known_ids(connection: sqlite3.Connection, keys: Collection[ConversationKey]) -> dict[ConversationKey, int]:
    return {ConversationKey(row[0], row[1]): row[2] for row in fetch_packed(connection, _IDS, (_json(sorted(keys)),))}


def mid_key(mid: str) -> int:
    """The key by which messages are looked up: 64 bits of a hash of the mid, as SQLite's signed integer."""
    return int.from_bytes(hashlib.blake2b(mid.encode(), digest_size=8).digest(), "big", signed=True)


def load(connection: sqlite3.Connection, wanted: Sequence[tuple[int, int, str]]) -> dict[tuple[int, str], KnownMessage]:
    """Messages by conversation and mid, from (conversation, mid_key, mid)."""
    rows = fetch_packed(connection, _LOAD, (_json(wanted),))
    return {(row[0], row[2]): KnownMessage(row[1], row[-1], message_of(row[2:-1])) for row in rows}


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
        message.source,
        message.listed_at,
        message.read_at,
        *_read_text_row(message),
        message.timeline_at,
    )


def _read_text_row(message: Message) -> tuple[str | None, int | None]:
    """The text that was read later than all others; the columns are NULL when another one counts."""
    if message.read_text is None or message.current_edit is message.edit:
        return None, None
    return message.read_text.text, message.read_text.at


def _read_text(content: Content | None, read_at: int | None, text: str | None, at: int | None) -> ReadText | None:
    if text is not None and at is not None:
        return ReadText(at, text)
    if content is None or not content.text or read_at is None or read_at == NEVER_READ:
        return None
    return ReadText(read_at, content.text)


def message_of(row: Sequence[Any]) -> Message:
    """The message of a row, from its column `mid` on."""
    (mid, noticed_at, sender_id, direction, sent_at, kind, text, attachments, details, standby, *rest) = row
    (
        edit_number,
        edited_at,
        edited_text,
        deleted_at,
        seen_by_account_at,
        seen_by_participant_at,
        reactions,
        *read_back,
    ) = rest
    source, listed_at, read_at, *read_text = read_back
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
        source=Source(source) if source is not None else None,
        listed_at=listed_at,
        read_at=read_at,
        read_text=_read_text(content, read_at, *read_text),
    )


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
