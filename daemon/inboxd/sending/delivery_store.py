"""What sending does to the outbox: each function is a part of one transaction. `store.py` has the rest.

A part that is `sending` is owned by the worker that began it. When no worker does, because the process ended, it is
`unknown`: it may have been sent.
"""

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import msgspec

from inboxd.conversations.message_store import mid_key
from inboxd.domain.outbound import OutboundState, PartState, ReasonCode, holds, state_of
from inboxd.domain.reply_window import Tag
from inboxd.events.log import EventLog
from inboxd.sending import store
from inboxd.sending.event_recording import record_outbound
from inboxd.sending.outbound import OutboundPart, StoredOutbound
from inboxd.storage.database import Read

_DUE: Final = """
SELECT id, due_at, state = 'unknown' FROM outbound_messages INDEXED BY outbound_due
WHERE account_id = ?1 AND due_at IS NOT NULL AND id NOT IN (SELECT value FROM json_each(?2))
  AND (?3 OR state <> 'unknown')
ORDER BY due_at, id LIMIT 1
"""
_INTENT: Final = """
UPDATE outbound_parts SET
    state = 'sending', attempts = attempts + 1, began_at = ?2, tag = ?3,
    after_message_id = (SELECT coalesce(max(id), 0) FROM messages),
    began_at_meta = coalesce(?4, (SELECT max(sent_at) FROM (SELECT sent_at FROM messages ORDER BY id DESC LIMIT 1000)))
WHERE id = ?1 AND state = 'queued'
"""
_ATTEMPT: Final = "INSERT INTO outbound_attempts (part_id, began_at) VALUES (?, ?) RETURNING id"
_ENDED: Final = """
UPDATE outbound_attempts SET ended_at = ?, outcome = ?, code = ?, subcode = ?, reason = ?
WHERE id = ? AND part_id = ? AND began_at = ?
"""
_PART_STATE: Final = "UPDATE outbound_parts SET state = ?2 WHERE id = ?1 AND state = ?3"
_PART_SENT: Final = """
UPDATE outbound_parts SET state = 'sent', mid = ?2, mid_key = ?3, sent_at = ?4, delivered_at = ?5
WHERE id = ?1 AND state IN ('sending', 'unknown')
"""
_IS_UNKNOWN: Final = """
SELECT EXISTS (SELECT 1 FROM outbound_parts WHERE id = ? AND outbound_id = ? AND began_at IS ? AND state = 'unknown')
"""
_UNCOUNT: Final = "UPDATE outbound_parts SET attempts = max(attempts - 1, 0) WHERE id = ?"
_PARTICIPANT: Final = "UPDATE outbound_messages SET participant_id = ? WHERE id = ?"
_SET: Final = """
UPDATE outbound_messages SET
    state = :state, holds = :holds, due_at = :due_at, reason_code = :reason_code, reason = :reason,
    meta_code = :meta_code, meta_subcode = :meta_subcode,
    settled_at = CASE WHEN :settled THEN coalesce(settled_at, :now) END, updated_at = max(:now, updated_at + 1)
WHERE id = :id
"""
_OPEN: Final = """
SELECT p.id, p.outbound_id FROM outbound_messages AS o INDEXED BY outbound_by_state
JOIN outbound_parts AS p ON p.outbound_id = o.id AND p.state = 'sending'
WHERE o.state IN ('sending', 'unknown', 'failed') AND o.account_id = ?
"""
_OPEN_OF_ONE: Final = "SELECT id FROM outbound_parts WHERE outbound_id = ? AND state = 'sending'"
_SENDING_ACCOUNTS: Final = """
SELECT DISTINCT account_id FROM outbound_messages INDEXED BY outbound_by_state
WHERE state IN ('sending', 'unknown', 'failed')
"""
_ORPHANED: Final = "UPDATE outbound_attempts SET outcome = 'unknown' WHERE part_id = ? AND outcome IS NULL"
_POSTPONE: Final = """
UPDATE outbound_messages INDEXED BY outbound_due SET
    due_at = :until, reason_code = :code, reason = :reason, meta_code = :meta_code, meta_subcode = :meta_subcode,
    updated_at = max(:now, updated_at + 1)
WHERE account_id = :account AND due_at IS NOT NULL AND due_at <= :now AND state IN ('queued', 'sending')
  AND kind = coalesce(:kind, kind)
"""
_NOT_SERVED: Final = """
UPDATE outbound_messages INDEXED BY outbound_due SET
    due_at = ?2, updated_at = max(?3, updated_at + 1),
    reason_code = iif(state = 'unknown', 'answer_not_seen', 'account_not_callable'),
    reason = iif(state = 'unknown',
        'Whether it was sent is not known. The account is not served now; it is found out when it is added again.',
        'The account is not served now. Add it again, or cancel this.'),
    meta_code = iif(state = 'unknown', meta_code, NULL), meta_subcode = iif(state = 'unknown', meta_subcode, NULL)
WHERE account_id = ?1 AND due_at IS NOT NULL
"""
_HASTEN: Final = """
UPDATE outbound_messages INDEXED BY outbound_due SET due_at = ?2
WHERE account_id = ?1 AND due_at IS NOT NULL AND due_at > ?2
"""
_BURY: Final = """
UPDATE outbound_messages SET
    due_at = NULL, holds = 0, reason_code = 'refused', reason = 'Its row cannot be read; the log has the traceback.',
    state = CASE WHEN EXISTS (
        SELECT 1 FROM outbound_parts AS p WHERE p.outbound_id = ?1 AND p.state IN ('sending', 'unknown')
    ) THEN 'unknown' ELSE 'failed' END
WHERE id = ?1 RETURNING account_id, lane
"""
_RECENT: Final = """
SELECT o.kind = 'private_reply', coalesce(a.ended_at, a.began_at)
FROM outbound_attempts AS a INDEXED BY outbound_attempts_by_time
JOIN outbound_parts AS p ON p.id = a.part_id
JOIN outbound_messages AS o ON o.id = p.outbound_id
WHERE a.began_at > ?2 AND o.account_id = ?1 AND coalesce(a.outcome, '') <> 'waits'
"""
_LATEST_ATTEMPT: Final = """
SELECT id, began_at, ended_at, code, subcode, reason,
    (SELECT count(*) FROM outbound_attempts AS r WHERE r.part_id = ?1 AND r.outcome = 'refused')
FROM outbound_attempts WHERE part_id = ?1 ORDER BY id DESC LIMIT 1
"""
_SEEN: Final = """
SELECT c.seen_at IS NOT NULL AND c.seen_at >= max(m.timeline_at)
FROM outbound_parts AS p
JOIN outbound_messages AS o ON o.id = p.outbound_id
JOIN conversations AS c ON c.account_id = o.account_id AND c.participant_id = o.participant_id
JOIN messages AS m ON m.mid_key = p.mid_key AND m.mid = p.mid AND m.conversation_id = c.id
WHERE p.outbound_id = ? AND p.mid_key IS NOT NULL
"""
_LOOK_AT: Final = """
UPDATE outbound_messages SET due_at = ?2 WHERE id = ?1 AND state = 'unknown' AND coalesce(due_at, ?2 + 1) > ?2
"""
_WAITING: Final = """
SELECT o.account_id, count(*), min(o.created_at), sum(o.state = 'unknown'),
    min(CASE WHEN o.state = 'unknown' THEN o.updated_at END),
    sum(o.state = 'unknown' AND o.reason_code = 'unresolved'), sum(o.reason_code IS 'account_restricted')
FROM outbound_messages AS o INDEXED BY outbound_by_state
WHERE o.state IN ('queued', 'sending', 'unknown') GROUP BY o.account_id
"""
_FAILED: Final = """
SELECT account_id, count(*), max(updated_at), coalesce(reason, '')
FROM outbound_messages INDEXED BY outbound_by_state WHERE state = 'failed' AND updated_at >= ? GROUP BY account_id
"""


class Reason(NamedTuple):
    """Why a message waits, is unknown or failed."""

    code: ReasonCode
    words: str
    meta_code: int | None = None
    meta_subcode: int | None = None


class Begun(NamedTuple):
    """A part whose call is about to be made. That is on disk."""

    outbound: StoredOutbound
    part: OutboundPart
    tag: Tag | None
    attempt_id: int
    began_at: int


class Due(NamedTuple):
    """A message that is due, or the next one that will be (ms)."""

    id: int
    at: int
    is_unknown: bool
    """Whether it is to be found out what became of it."""


class LatestAttempt(NamedTuple):
    """The latest attempt of a part. Times in ms."""

    id: int
    began_at: int
    ended_at: int | None
    code: int | None
    subcode: int | None
    reason: str | None
    refusals: int
    """How many Meta refused."""


class Backlog(NamedTuple):
    """What waits of an account. Times in ms."""

    account_id: str
    waiting: int
    oldest_at: int
    unknown: int
    unknown_since: int | None
    unresolved: int
    """Those that are left to a person."""
    restricted: int
    """Those that wait because Meta restricts the account: not those behind them."""


class Failures(NamedTuple):
    """What failed of an account since some time, and is not retried or canceled."""

    account_id: str
    failed: int
    latest_at: int
    """When the latest failed (ms)."""
    reason: str
    """Why the latest failed, in words."""


class Concluding:
    """Says what the parts of a message come to, and lets its lane go on."""

    def __init__(self, event_log: EventLog, hold_after_failure: Callable[[], bool]) -> None:
        self.event_log = event_log
        self._hold_after_failure = hold_after_failure

    def conclude(
        self,
        connection: sqlite3.Connection,
        outbound_id: int,
        now: int,
        *,
        due_at: int | None = None,
        reason: Reason | None = None,
    ) -> OutboundState | None:
        """Derive the state of a message from its parts, and record it. None when the message is gone.

        `due_at` (ms) is when the worker looks at it again, if there is still something to do.
        """
        one = store.get(connection, outbound_id)
        if one is None:
            return None
        delivered = all(part.delivered_at is not None for part in one.parts)
        state = state_of([part.state for part in one.parts], delivered=delivered, read=_is_seen(connection, one))
        is_open = state in {OutboundState.QUEUED, OutboundState.SENDING, OutboundState.UNKNOWN}
        keeps = holds(state, hold_after_failure=self._hold_after_failure())
        values = {
            "id": outbound_id,
            "state": state.value,
            "holds": keeps,
            "due_at": due_at if is_open else None,
            "reason_code": None if reason is None else reason.code.value,
            "reason": None if reason is None else reason.words,
            "meta_code": None if reason is None else reason.meta_code,
            "meta_subcode": None if reason is None else reason.meta_subcode,
            "settled": not is_open,
            "now": now,
        }
        connection.execute(_SET, values)
        record_outbound(connection, self.event_log, outbound_id, now)
        if not keeps and one.holds:
            store.release(connection, one.account_id, one.lane, now)
        return state

    def advance(self, connection: sqlite3.Connection, outbound_id: int, now: int) -> None:
        """The same for a message that is sent: it may be delivered or read now. Of any other nothing changes."""
        try:
            one = store.get(connection, outbound_id)
        except msgspec.ValidationError:
            return  # its row cannot be read: that must not keep the webhook from being processed
        if one is not None and one.state in {OutboundState.SENT, OutboundState.DELIVERED}:
            self.conclude(connection, outbound_id, now)


def due(connection: sqlite3.Connection, account_id: str, busy: Iterable[int], *, unknown: bool) -> Due | None:
    """What is due first of an account, without the messages in `busy`. `unknown`: it may be one of the unknown."""
    row = connection.execute(_DUE, (account_id, _json(sorted(busy)), unknown)).fetchone()
    return None if row is None else Due(*row)


def begin(
    connection: sqlite3.Connection, part: OutboundPart, tag: Tag | None, now: int, meta_now: int | None
) -> int | None:
    """Store the intent to send a part. Returns the id of the attempt; None when the part is no longer queued.

    `meta_now` is Meta's time (ms). When that is not known, the latest messages that came tell it: they are not later.
    """
    name = tag.value if tag is Tag.HUMAN_AGENT else None
    if not connection.execute(_INTENT, (part.id, now, name, meta_now)).rowcount:
        return None
    return int(connection.execute(_ATTEMPT, (part.id, now)).fetchone()[0])


def ended(connection: sqlite3.Connection, begun: Begun, outcome: str, now: int, reason: Reason | None = None) -> bool:
    """Store what an attempt came to: `sent`, `refused`, `waits` or `unknown`.

    False when it is gone, because its message was erased. SQLite may have given its id to another one since.
    """
    code, subcode, words = (None,) * 3 if reason is None else (reason.meta_code, reason.meta_subcode, reason.words)
    values = (now, outcome, code, subcode, words, begun.attempt_id, begun.part.id, begun.began_at)
    return connection.execute(_ENDED, values).rowcount > 0


def set_part(connection: sqlite3.Connection, part_id: int, state: PartState, was: PartState) -> bool:
    """Change the state of a part. False when it is not `was`, or gone."""
    return connection.execute(_PART_STATE, (part_id, state.value, was.value)).rowcount > 0


def mark_sent(connection: sqlite3.Connection, part_id: int, mid: str, now: int, delivered_at: int | None) -> bool:
    """A part was sent, as `mid`. False when it is neither being sent nor unknown, or gone."""
    return connection.execute(_PART_SENT, (part_id, mid, mid_key(mid), now, delivered_at)).rowcount > 0


def is_unknown(connection: sqlite3.Connection, one: StoredOutbound, part: OutboundPart) -> bool:
    """Whether it is still not known whether a part was sent. False also when it was erased, or is tried again."""
    return bool(connection.execute(_IS_UNKNOWN, (part.id, one.id, part.began_at)).fetchone()[0])


def uncount(connection: sqlite3.Connection, part_id: int) -> None:
    """The latest attempt did not leave: it is none of those that may have sent the part."""
    connection.execute(_UNCOUNT, (part_id,))


def set_participant(connection: sqlite3.Connection, outbound_id: int, participant_id: str) -> None:
    """Meta told who the author of a comment is, as a participant."""
    connection.execute(_PARTICIPANT, (participant_id, outbound_id))


def orphans(connection: sqlite3.Connection, account_id: str) -> Sequence[int]:
    """Make unknown what was being sent when the process ended. Returns the outbound messages."""
    found = connection.execute(_OPEN, (account_id,)).fetchall()
    for part_id, _ in found:
        _orphan(connection, part_id)
    return sorted({outbound_id for _, outbound_id in found})


def orphan(connection: sqlite3.Connection, outbound_id: int) -> bool:
    """Make unknown what is being sent of one message. False when nothing is."""
    found = connection.execute(_OPEN_OF_ONE, (outbound_id,)).fetchall()
    for (part_id,) in found:
        _orphan(connection, part_id)
    return bool(found)


def sending_accounts(connection: sqlite3.Connection) -> Sequence[str]:
    """The accounts that may have parts that are being sent."""
    return [row[0] for row in connection.execute(_SENDING_ACCOUNTS)]


def _orphan(connection: sqlite3.Connection, part_id: int) -> None:
    set_part(connection, part_id, PartState.UNKNOWN, PartState.SENDING)
    connection.execute(_ORPHANED, (part_id,))


def postpone(
    connection: sqlite3.Connection, account_id: str, until: int, reason: Reason, now: int, kind: str | None = None
) -> int:
    """Let everything of an account that is due wait until `until` (ms). Returns how many."""
    values = {"account": account_id, "until": until, "now": now, "kind": kind}
    why = {"code": reason.code.value, "reason": reason.words}
    codes = {"meta_code": reason.meta_code, "meta_subcode": reason.meta_subcode}
    return connection.execute(_POSTPONE, values | why | codes).rowcount


def not_served(connection: sqlite3.Connection, account_id: str, until: int, now: int) -> int:
    """Everything of an account waits, because it is not served any more, and says so. Returns how many."""
    return connection.execute(_NOT_SERVED, (account_id, until, now)).rowcount


def hasten(connection: sqlite3.Connection, account_id: str, now: int) -> int:
    """Everything of an account that waits is due at `now` (ms): something has changed."""
    return connection.execute(_HASTEN, (account_id, now)).rowcount


def bury(connection: sqlite3.Connection, outbound_id: int, now: int) -> str | None:
    """Never look at a message again whose row cannot be read. Its lane goes on.

    Returns its account; None when the message is gone.
    """
    rows = connection.execute(_BURY, (outbound_id,)).fetchall()
    for account_id, lane in rows:
        store.release(connection, account_id, lane, now)
    return rows[0][0] if rows else None


def look_at(connection: sqlite3.Connection, outbound_id: int, now: int) -> None:
    """Something came that may tell what became of an unknown message: it is due at `now` (ms)."""
    connection.execute(_LOOK_AT, (outbound_id, now))


def latest_attempt(connection: sqlite3.Connection, part_id: int) -> LatestAttempt | None:
    """The latest attempt of a part."""
    row = connection.execute(_LATEST_ATTEMPT, (part_id,)).fetchone()
    return None if row is None else LatestAttempt(*row)


async def recent(read: Read, account_id: str, since: int) -> Sequence[tuple[bool, int]]:
    """The calls of an account since `since` (ms): whether it was a private reply, and when it ended."""
    return [(bool(private), at) for private, at in await read(_RECENT, (account_id, since))]


async def backlogs(read: Read) -> Sequence[Backlog]:
    """What waits, for each account that has something. Raises StorageError."""
    return [Backlog(*row) for row in await read(_WAITING, ())]


async def failures(read: Read, since: int) -> Sequence[Failures]:
    """What failed since `since` (ms), for each account. It looks at all failed messages. Raises StorageError."""
    return [Failures(*row) for row in await read(_FAILED, (since,))]


def _is_seen(connection: sqlite3.Connection, one: StoredOutbound) -> bool:
    if one.participant_id is None or any(part.mid is None for part in one.parts):
        return False
    row = connection.execute(_SEEN, (one.id,)).fetchone()
    return bool(row is not None and row[0])


def _json(value: Any) -> str:  # noqa: ANN401 - anything that is JSON
    return msgspec.json.encode(value).decode()
