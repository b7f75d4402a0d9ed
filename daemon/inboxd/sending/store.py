"""The outbox in the database: accepting, reading, canceling and retrying. `delivery_store.py` has what sending does."""

import sqlite3
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import msgspec

from inboxd.domain.conversation import ConversationKey
from inboxd.domain.outbound import OutboundKind, OutboundState, PartState, lane_of
from inboxd.sending.outbound import NewOutbound, OutboundConflictError, OutboundPart, OutboxFullError, StoredOutbound
from inboxd.storage.connection import Row, fetch, insert_many
from inboxd.storage.database import Read

MAX_LANE: Final = 1000
"""Messages that may wait in one lane."""
_PARTS: Final = """
coalesce((
    SELECT json_group_array(json_array(
        p.id, p.position, p.state, json(p.content), p.attempts, p.began_at, p.tag, p.mid, p.sent_at, p.delivered_at,
        (
            SELECT m.id FROM messages AS m CROSS JOIN conversations AS mc ON mc.id = m.conversation_id
            WHERE m.mid_key = p.mid_key AND m.mid = p.mid AND mc.account_id = o.account_id LIMIT 1
        )
    ))
    FROM (SELECT * FROM outbound_parts WHERE outbound_id = o.id ORDER BY position) AS p
), '[]')
"""
_COLUMNS: Final = f"""
SELECT json_array(
    o.id, o.account_id, o.kind, o.participant_id, o.comment_id, o.lane, o.state, json(iif(o.holds, 'true', 'false')),
    o.due_at, o.sent_by, json(o.body), o.requested_by, o.idempotency_key, o.expires_at, o.reason_code, o.reason,
    o.meta_code, o.meta_subcode, o.created_at, o.updated_at, o.settled_at,
    (SELECT c.id FROM conversations AS c WHERE c.account_id = o.account_id AND c.participant_id = o.participant_id),
    CASE WHEN o.state = 'queued' AND o.due_at IS NULL THEN (
        SELECT min(b.id) FROM outbound_messages AS b
        WHERE b.holds = 1 AND b.account_id = o.account_id AND b.lane = o.lane
          AND (b.id < o.id OR b.state IN ('sending', 'unknown'))
    ) END,
    json({_PARTS})
), o.id
FROM outbound_messages AS o
"""  # noqa: S608 - built from constants
_BY_ID: Final = f"{_COLUMNS} WHERE o.id = ?"
_BY_KEY: Final = """
SELECT id, fingerprint FROM outbound_messages WHERE requested_by = ? AND idempotency_key = ?
"""
_PRIVATE_REPLY: Final = """
SELECT id FROM outbound_messages INDEXED BY outbound_by_comment
WHERE account_id = ? AND comment_id = ? AND kind = 'private_reply' AND state NOT IN ('failed', 'canceled') LIMIT 1
"""
_IN_LANE: Final = f"""
SELECT count(*) FROM (
    SELECT 1 FROM outbound_messages INDEXED BY outbound_lanes
    WHERE holds = 1 AND account_id = ? AND lane = ? LIMIT {MAX_LANE}
)
"""  # noqa: S608 - a constant
_INSERT: Final = """
INSERT INTO outbound_messages (
    account_id, kind, participant_id, comment_id, lane, state, holds, due_at, sent_by, body, requested_by,
    idempotency_key, fingerprint, expires_at, created_at, updated_at
) VALUES (?, ?, ?, ?, ?, 'queued', 1, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id
"""
_INSERT_PARTS: Final = "INSERT INTO outbound_parts (outbound_id, position, state, content) {rows}"
_COUNT_WAITING: Final = """
SELECT count(*) FROM (SELECT 1 FROM outbound_messages INDEXED BY outbound_by_state WHERE state = 'queued' LIMIT ?)
"""
_NEXT_DUE: Final = """
UPDATE outbound_messages SET due_at = max(?1, coalesce(due_at, 0)) WHERE id = (
    SELECT min(id) FROM outbound_messages INDEXED BY outbound_lanes WHERE holds = 1 AND account_id = ?2 AND lane = ?3
) AND state IN ('queued', 'sending') AND due_at IS NULL AND NOT EXISTS (
    SELECT 1 FROM outbound_parts AS p WHERE p.outbound_id = outbound_messages.id AND p.state IN ('sending', 'unknown')
)
"""
_SET: Final = """
UPDATE outbound_messages SET
    state = :state, holds = :holds, due_at = :due_at, reason_code = :reason_code, reason = :reason,
    meta_code = :meta_code, meta_subcode = :meta_subcode, settled_at = :settled_at, expires_at = :expires_at,
    updated_at = max(:now, updated_at + 1)
WHERE id = :id
"""
_SET_PARTS: Final = """
UPDATE outbound_parts SET state = ? WHERE outbound_id = ? AND state IN (SELECT value FROM json_each(?))
"""
_ANY_BEFORE: Final = """
SELECT EXISTS (
    SELECT 1 FROM outbound_messages INDEXED BY outbound_lanes
    WHERE holds = 1 AND account_id = ?1 AND lane = ?2 AND id <> ?3 AND (id < ?3 OR state IN ('sending', 'unknown'))
)
"""
_STEP_BACK: Final = """
UPDATE outbound_messages INDEXED BY outbound_lanes SET due_at = NULL
WHERE holds = 1 AND account_id = ? AND lane = ? AND id > ? AND state = 'queued' AND due_at IS NOT NULL
"""
_EXPIRING: Final = """
SELECT id FROM outbound_messages INDEXED BY outbound_expiring
WHERE expires_at IS NOT NULL AND state IN ('queued', 'sending') AND expires_at <= ? ORDER BY expires_at LIMIT ?
"""
_KEY_OF: Final = "SELECT account_id, participant_id FROM conversations WHERE id = ?"
_MID_OF: Final = """
SELECT m.mid FROM messages AS m CROSS JOIN conversations AS c ON c.id = m.conversation_id
WHERE m.id = ? AND c.account_id = ? AND c.participant_id = ? AND m.timeline_at IS NOT NULL AND m.deleted_at IS NULL
"""
_NEXT_EXPIRY: Final = """
SELECT min(expires_at) FROM outbound_messages INDEXED BY outbound_expiring
WHERE expires_at IS NOT NULL AND state IN ('queued', 'sending')
"""
_EXTEND: Final = "UPDATE outbound_messages SET expires_at = ? WHERE id = ?"
_RECORDED: Final = "UPDATE outbound_messages SET recorded = ?1 WHERE id = ?2 AND recorded IS NOT ?1"
_BODY: Final = StoredOutbound.__struct_fields__.index("body")
_PARTS_AT: Final = StoredOutbound.__struct_fields__.index("parts")
_CONTENT: Final = OutboundPart.__struct_fields__.index("content")
_decode: Final = msgspec.json.Decoder(StoredOutbound).decode


class OutboundFilter(msgspec.Struct, frozen=True):
    """Which outbound messages a list is about; None means no condition."""

    state: OutboundState | None = None
    account_id: str | None = None
    key: ConversationKey | None = None
    before_id: int | None = None
    """Only those with a smaller id."""

    def where(self) -> tuple[str, list[object]]:
        """The SQL condition and its parameters."""
        conditions = ["o.id < ?"]
        values: list[object] = [2**62 if self.before_id is None else self.before_id]
        if self.state is not None:
            conditions.append("o.state = ?")
            values.append(self.state.value)
        if self.account_id is not None:
            conditions.append("+o.account_id = ?")  # the plus keeps SQLite on an index that has the order
            values.append(self.account_id)
        if self.key is not None:
            conditions.append("o.account_id = ? AND o.participant_id = ?")
            values += self.key
        return " WHERE " + " AND ".join(conditions), values


class OutboundStore:
    """Reading outbound messages."""

    def __init__(self, read: Read) -> None:
        self._read = read

    async def get(self, outbound_id: int) -> StoredOutbound | None:
        """One outbound message. Raises StorageError."""
        return _first(await self._read(_BY_ID, (outbound_id,)))

    async def page(self, condition: OutboundFilter, *, limit: int) -> list[StoredOutbound]:
        """Outbound messages, the latest first. Raises StorageError."""
        where, parameters = condition.where()
        rows = await self._read(f"{_COLUMNS}{where} ORDER BY o.id DESC LIMIT ?", [*parameters, limit])
        return [_shown(row[0]) for row in rows]

    async def shown(self, outbound_id: int) -> StoredOutbound | None:
        """The same as `get`, for people: of a row that cannot be read, what can be. Raises StorageError."""
        rows = await self._read(_BY_ID, (outbound_id,))
        return _shown(rows[0][0]) if rows else None

    async def key_of(self, conversation_id: int) -> ConversationKey | None:
        """The two sides of a conversation. Raises StorageError."""
        rows = await self._read(_KEY_OF, (conversation_id,))
        return ConversationKey(*rows[0]) if rows else None

    async def mid_of(self, key: ConversationKey, message_id: int) -> str | None:
        """Meta's id of a message of a conversation; None when it cannot be answered. Raises StorageError.

        A message that came without an id has one of ours, with a colon.
        """
        rows = await self._read(_MID_OF, (message_id, *key))
        return rows[0][0] if rows and ":" not in rows[0][0] else None

    async def waiting(self, most: int) -> int:
        """How many are queued, counted up to `most`. Raises StorageError."""
        return int((await self._read(_COUNT_WAITING, (most,)))[0][0])

    async def next_expiry(self) -> int | None:
        """When the next queued message expires (ms). Raises StorageError."""
        found: int | None = (await self._read(_NEXT_EXPIRY, ()))[0][0]
        return found


def known(
    connection: sqlite3.Connection, requested_by: str, key: str | None, fingerprint: bytes | None
) -> StoredOutbound | None:
    """The message that an idempotency key of somebody has brought already; None when there is none.

    Raises OutboundConflictError when the key was used for another request.
    """
    rows = [] if key is None else fetch(connection, _BY_KEY, (requested_by, key))
    if rows and rows[0][1] != fingerprint:
        msg = "The Idempotency-Key was used for another request. Use a new key for each message."
        raise OutboundConflictError(msg, outbound_id=rows[0][0])
    return get(connection, rows[0][0]) if rows else None


def accept(connection: sqlite3.Connection, new: NewOutbound, now: int) -> int:
    """Put a message into the outbox. Returns its id.

    Raises OutboundConflictError and OutboxFullError.
    """
    if new.kind is OutboundKind.PRIVATE_REPLY:
        first = connection.execute(_PRIVATE_REPLY, (new.account_id, new.comment_id)).fetchone()
        if first is not None:
            msg = f"This comment has a private reply already (outbound {first[0]}). Instagram allows one, ever."
            raise OutboundConflictError(msg, outbound_id=first[0])
    lane = lane_of(new.kind, participant_id=new.participant_id, comment_id=new.comment_id)
    ((before,),) = connection.execute(_IN_LANE, (new.account_id, lane)).fetchall()
    if before >= MAX_LANE:
        msg = f"{MAX_LANE} messages wait in this conversation. Wait, or cancel some."
        raise OutboxFullError(msg)
    outbound_id = int(connection.execute(_INSERT, _new_row(new, lane, now, is_head=before == 0)).fetchone()[0])
    parts = [
        (outbound_id, position, PartState.QUEUED.value, _json(content)) for position, content in enumerate(new.parts)
    ]
    insert_many(connection, _INSERT_PARTS, parts)
    return outbound_id


def get(connection: sqlite3.Connection, outbound_id: int) -> StoredOutbound | None:
    """One outbound message, as this connection sees it."""
    return _first(fetch(connection, _BY_ID, (outbound_id,)))


class StateChange(NamedTuple):
    """Another state of an outbound message that is not being sent."""

    state: OutboundState
    parts: PartState
    """The new state of some parts…"""
    of_parts: Sequence[PartState]
    """…which are in one of these."""
    holds: bool
    reason_code: str | None = None
    reason: str | None = None
    expires_at: int | None = None


def set_state(connection: sqlite3.Connection, one: StoredOutbound, change: StateChange, now: int) -> None:
    """Give `one` another state.

    It is due at `now` (ms) when it is queued and nothing of its lane is before it. A lane that it holds no longer goes
    on. Meta's code is removed, because this was not Meta's doing.
    """
    ((behind,),) = connection.execute(_ANY_BEFORE, (one.account_id, one.lane, one.id)).fetchall()
    state = change.state
    settled = state not in {OutboundState.QUEUED, OutboundState.SENDING, OutboundState.UNKNOWN}
    values = {
        "id": one.id,
        "state": state.value,
        "holds": change.holds,
        "due_at": now if state in {OutboundState.QUEUED, OutboundState.SENDING} and not behind else None,
        "reason_code": change.reason_code,
        "reason": change.reason,
        "meta_code": None,
        "meta_subcode": None,
        "settled_at": now if settled else None,
        "expires_at": change.expires_at,
        "now": now,
    }
    connection.execute(_SET, values)
    if values["due_at"] is not None:
        connection.execute(_STEP_BACK, (one.account_id, one.lane, one.id))  # it goes before what was written later
    connection.execute(_SET_PARTS, (change.parts.value, one.id, _json([part.value for part in change.of_parts])))
    if not change.holds:
        release(connection, one.account_id, one.lane, now)


def release(connection: sqlite3.Connection, account_id: str, lane: str, now: int) -> None:
    """What held a lane ended: the first message that waits in it is due at `now` (ms). Nothing when one still holds."""
    connection.execute(_NEXT_DUE, (now, account_id, lane))


def expiring(connection: sqlite3.Connection, now: int, limit: int) -> list[int]:
    """Messages whose time to be sent ended before `now` (ms)."""
    return [row[0] for row in connection.execute(_EXPIRING, (now, limit))]


def extend(connection: sqlite3.Connection, outbound_id: int, expires_at: int | None) -> None:
    """A message may be sent until `expires_at` (ms)."""
    connection.execute(_EXTEND, (expires_at, outbound_id))


def mark_recorded(connection: sqlite3.Connection, outbound_id: int, state: OutboundState) -> bool:
    """Note that the event log is told of `state`. False when it was the last one that it was told of."""
    return connection.execute(_RECORDED, (state.value, outbound_id)).rowcount > 0


def _new_row(new: NewOutbound, lane: str, now: int, *, is_head: bool) -> Row:
    return (
        new.account_id,
        new.kind.value,
        new.participant_id,
        new.comment_id,
        lane,
        now if is_head else None,
        new.sent_by.value,
        _json(new.body),
        new.requested_by,
        new.idempotency_key,
        new.fingerprint,
        new.expires_at,
        now,
        now,
    )


def _first(rows: Sequence[Row]) -> StoredOutbound | None:
    return _decode(rows[0][0]) if rows else None


def _shown(text: str) -> StoredOutbound:
    """One outbound message; without its content when that cannot be read, so that the others of a list are shown."""
    try:
        return _decode(text)
    except msgspec.ValidationError:
        fields = msgspec.json.decode(text)
        fields[_BODY] = None
        for part in fields[_PARTS_AT]:
            part[_CONTENT] = None
        return msgspec.convert(fields, StoredOutbound)


def _json(value: Any) -> str:  # noqa: ANN401 - anything that is JSON
    return msgspec.json.encode(value).decode()
