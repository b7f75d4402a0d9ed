"""The event log in the database: appending, reading, pruning."""

import sqlite3
from collections.abc import Collection, Sequence
from typing import Final, NamedTuple

import msgspec

from inboxd.domain.conversation import ConversationKey
from inboxd.domain.event import NewEvent, StoredEvent
from inboxd.storage.connection import insert_many, one_moment
from inboxd.storage.personal_data import ExpiredRows

PARTICIPANT_ERASED: Final = "participant.erased"
"""Events of this type are what is left of a participant: they go with the account, or when they expire."""
_APPEND: Final = """
INSERT INTO events (
    type, account_id, occurred_at, data, participant_id, conversation_id, message_id, subject, recorded_at, total
) {rows}
"""
_TOTAL: Final = "SELECT total FROM events ORDER BY seq DESC LIMIT 1"
_ENDS: Final = """
SELECT (SELECT pruned_to FROM event_log),
       coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'events'), 0)
"""
_PAGE: Final = """
SELECT seq, type, account_id, participant_id, conversation_id, message_id, subject, occurred_at, recorded_at, data
FROM events WHERE seq > ? AND seq <= ?
"""
_LAST_BEFORE: Final = "SELECT max(seq) FROM events WHERE seq < ?"
_FOLLOWING: Final = "SELECT min(seq) FROM events WHERE seq > ?"
_CONDITIONS: Final = {
    "types": " AND type IN (SELECT value FROM json_each(?))",
    "account_ids": " AND account_id IN (SELECT value FROM json_each(?))",
    "conversation_id": " AND conversation_id = ?",
    "subject": " AND subject = ?",
}
_BLANK: Final = """
UPDATE events AS e SET data = json_set(e.data, '$.message', json(k.value ->> 2))
FROM json_each(?) AS k WHERE e.message_id = k.value ->> 0 AND e.data ->> '$.message.mid' = k.value ->> 1
"""
_WORDLESS: Final = """
UPDATE events INDEXED BY events_of_comments SET data = json_set(data, '$.text', NULL)
WHERE type IN ('comment.received', 'comment.updated', 'comment.hidden', 'comment.unhidden')
AND subject = ? AND account_id = ?
"""
_OLD: Final = """
SELECT max(seq), max(seq) FILTER (WHERE recorded_at < ?)
FROM (SELECT seq, recorded_at FROM events WHERE seq > ? ORDER BY seq LIMIT ?)
"""
_TOO_MUCH: Final = """
SELECT max(seq) FROM (SELECT seq, total FROM events ORDER BY seq LIMIT ?)
WHERE total <= (SELECT total FROM events ORDER BY seq DESC LIMIT 1) - ?
"""
_OLDEST: Final = "SELECT max(seq) FROM (SELECT seq FROM events WHERE seq <= ? ORDER BY seq LIMIT ?)"
_PRUNE: Final = "DELETE FROM events WHERE seq <= ?"
_ERASED_AT: Final = f"""
SELECT max(occurred_at) FROM events INDEXED BY events_erased
WHERE type = '{PARTICIPANT_ERASED}' AND account_id = ? AND participant_id = ?
"""  # noqa: S608 - a constant
_ERASED: Final = f"""
SELECT k.value ->> 0, k.value ->> 1, max(e.occurred_at) FROM json_each(?) AS k
CROSS JOIN events AS e INDEXED BY events_erased
    ON e.type = '{PARTICIPANT_ERASED}' AND e.account_id = k.value ->> 0 AND e.participant_id = k.value ->> 1
GROUP BY 1, 2
"""  # noqa: S608 - a constant
_PRUNED: Final = "UPDATE event_log SET pruned_to = max(pruned_to, ?)"
ROW_BYTES: Final = 120
"""What an event takes in the file beside its data, about."""
JUMP: Final = 1_000_000_000
"""By so much a restore lets the sequence numbers go on: more than there ever are events."""
SCAN: Final = 20_000
"""Events that one read looks at, at most. A filter may leave none of them: the reader goes on from `next_cursor`."""
PAGE_BYTES: Final = 1024 * 1024
"""A page ends when its data is larger than this."""


class EventFilter(NamedTuple):
    """Which events to read. None: all."""

    types: Sequence[str] | None = None
    account_ids: Sequence[str] | None = None
    conversation_id: int | None = None
    subject: str | None = None


class Ends(NamedTuple):
    """Where the log begins and ends."""

    pruned_to: int
    """The last event that was pruned, so the cursor from which everything that is kept can be read."""
    last: int
    """The last event that was appended."""


class StoredPage(NamedTuple):
    """Some events, in order, and where to go on."""

    events: list[StoredEvent]
    next_cursor: int
    more: bool
    """Whether there are events after `next_cursor`."""


def append(connection: sqlite3.Connection, events: Sequence[NewEvent], now: int) -> None:
    """Append `events` (not none) in this order. `now` in ms."""
    found = connection.execute(_TOTAL).fetchall()
    total = found[0][0] if found else 0
    rows = []
    for event in events:
        total += ROW_BYTES + len(event.data)
        rows.append((*event[:3], event.data.decode(), *event[4:], now, total))
    insert_many(connection, _APPEND, rows)


def replace_message(connection: sqlite3.Connection, messages: Sequence[tuple[int, str, str]]) -> None:
    """Set the member `message` (JSON) in all events of these messages (id, mid, JSON): the sender took them back.

    The id of a message that was removed may be given again, so the events of another message can have the same id.
    """
    if messages:
        connection.execute(_BLANK, (msgspec.json.encode(messages).decode(),))


def remove_comment_text(connection: sqlite3.Connection, account_id: str, comment_id: str) -> None:
    """Take the text from all events of a comment (Meta's id): it was deleted."""
    connection.execute(_WORDLESS, (comment_id, account_id))


def ends(connection: sqlite3.Connection) -> Ends:
    """Where the log begins and ends."""
    return Ends(*connection.execute(_ENDS).fetchall()[0])


def count_after(connection: sqlite3.Connection, after: int) -> int:
    """How many events there are after the cursor `after`, about: erased ones are counted, gaps of a restore are not."""
    count = 0
    while True:
        ((following,),) = connection.execute(_FOLLOWING, (after,)).fetchall()
        if following is None:
            return count
        ((last,),) = connection.execute(_LAST_BEFORE, (following + JUMP // 2,)).fetchall()
        count += last - following + 1
        after = last


def count_between(after: int, until: int) -> int:
    """How many events there were after one cursor and up to another, about, when they are no longer there."""
    return max(0, until - after) % JUMP


def page(connection: sqlite3.Connection, after: int | None, limit: int, only: EventFilter) -> tuple[Ends, StoredPage]:
    """Up to `limit` events after the cursor `after` that `only` lets through, from the next SCAN events.

    None: from the oldest. The beginning of the log is read at the same moment as the events: else what is pruned in
    between would be missing, and nobody be told.
    """
    with one_moment(connection):
        return _page_of_a_moment(connection, after, limit, only)


def _page_of_a_moment(
    connection: sqlite3.Connection, after: int | None, limit: int, only: EventFilter
) -> tuple[Ends, StoredPage]:
    known = ends(connection)
    after = known.pruned_to if after is None else after
    ((following,),) = connection.execute(_FOLLOWING, (after,)).fetchall()
    until = known.last if following is None else min(known.last, following - 1 + SCAN)  # a restore leaves a large gap
    sql = _PAGE
    parameters: list[object] = [after, until]
    for name, value in only._asdict().items():
        if value is not None:
            sql += _CONDITIONS[name]
            parameters.append(value if isinstance(value, str | int) else msgspec.json.encode(value).decode())
    rows = connection.execute(f"{sql} ORDER BY seq LIMIT ?", [*parameters, limit])
    events: list[StoredEvent] = []
    size = 0
    for row in rows:
        events.append(StoredEvent._make((*row[:-1], row[-1].encode())))
        size += len(row[-1])
        if len(events) == limit or size > PAGE_BYTES:
            until = events[-1].seq
            break
    return known, StoredPage(events, max(until, after), until < known.last)


def erased_at(connection: sqlite3.Connection, account_id: str, participant_id: str) -> int | None:
    """When a participant was last erased (ms), as far as the log still has it."""
    ((found,),) = connection.execute(_ERASED_AT, (account_id, participant_id)).fetchall()
    return None if found is None else int(found)


def erased(connection: sqlite3.Connection, keys: Collection[ConversationKey]) -> dict[ConversationKey, int]:
    """When those of these participants who were erased were last erased (ms), as far as the log still has it."""
    wanted = msgspec.json.encode([*keys]).decode()
    rows = connection.execute(_ERASED, (wanted,)).fetchall()
    return {ConversationKey(account_id, participant_id): at for account_id, participant_id, at in rows}


def expire(connection: sqlite3.Connection, *, before: int, after: int, step: int) -> ExpiredRows:
    """Remove up to `step` of the oldest events, if one of the next `step` events behind `after` is too old.

    Too old is what was recorded before `before` (ms). What was recorded earlier goes with it: its time is of a clock
    that was ahead.
    """
    ((last, old),) = connection.execute(_OLD, (before, after, step)).fetchall()
    return ExpiredRows(0 if old is None else _prune(connection, old, step), last)


def trim(connection: sqlite3.Connection, *, max_bytes: int, step: int) -> int:
    """Remove up to `step` of the oldest events, if the log is larger than `max_bytes`. Returns how many."""
    ((seq,),) = connection.execute(_TOO_MUCH, (step, max_bytes)).fetchall()
    return 0 if seq is None else _prune(connection, seq, step)


def _prune(connection: sqlite3.Connection, until: int, step: int) -> int:
    """Remove up to `step` of the oldest events, none after `until`."""
    ((seq,),) = connection.execute(_OLDEST, (until, step)).fetchall()
    removed = connection.execute(_PRUNE, (seq,)).rowcount
    connection.execute(_PRUNED, (seq,))
    return removed
