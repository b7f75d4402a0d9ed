"""What a reconciliation found: messages that webhooks had not brought, and how many there are in all."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from inboxd.conversations.message_store import ChangedMessage, mid_key
from inboxd.conversations.read_back_store import Joined
from inboxd.domain.reconciliation import HOUR_MS, Cause
from inboxd.reconciliation import store

_HOUR: Final = """
INSERT INTO completeness_hours (account_id, hour, seen, delivered, healed) VALUES (?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET
    seen = seen + excluded.seen, delivered = delivered + excluded.delivered, healed = healed + excluded.healed
"""
_MISSED: Final = """
INSERT INTO missed_messages
    (account_id, participant_id, mid_key, mid, check_id, sent_at, found_at, healed_at, cause)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
_SHOWN: Final = """
UPDATE missed_messages SET healed_at = ?, check_id = ?
WHERE account_id = ? AND mid_key = ? AND mid = ? AND healed_at IS NULL AND delivered_at IS NULL
RETURNING sent_at
"""
_LATE: Final = """
SELECT x.id, x.sent_at, x.healed_at IS NOT NULL
FROM missed_messages AS x
CROSS JOIN messages AS m ON m.mid_key = x.mid_key AND m.mid = x.mid AND m.sent_at IS NOT NULL
CROSS JOIN conversations AS c ON c.id = m.conversation_id AND c.account_id = x.account_id
WHERE x.account_id = ? AND x.delivered_at IS NULL AND x.sent_at > ?
"""
_ARRIVED: Final = "UPDATE missed_messages SET delivered_at = ? WHERE id = ?"
_FOUND: Final = """
SELECT cause, count(*), min(sent_at), max(sent_at), sum(healed_at IS NULL) FROM missed_messages
WHERE check_id = ? AND delivered_at IS NULL GROUP BY cause
"""
LATE_MS: Final = 3 * 86_400_000
"""A webhook may bring a message so late that a reconciliation was earlier. Meta sends again for 36 hours."""


class Missed(NamedTuple):
    """A message that no webhook had brought. Times in ms."""

    message_id: int
    conversation_id: int
    sent_at: int
    found_at: int
    cause: Cause
    healed: bool
    """Whether it is here now; otherwise the API lists it and does not show it."""


class Found(NamedTuple):
    """What one check found, by its cause. Times in ms."""

    cause: Cause
    messages: int
    since: int
    until: int
    unreadable: int


def record(
    connection: sqlite3.Connection,
    account_id: str,
    joined: Joined,
    *,
    check_id: int,
    now: int,
    cause_of: Callable[[str, int], Cause],
) -> list[Missed]:
    """Record what reading a conversation brought, in the transaction that stores it.

    `cause_of` says from a mid and a time (ms) why no webhook brought a message. Each message counts once, when the API
    lists it for the first time.
    """
    hours: dict[int, Counter[str]] = {}
    missed: list[tuple[ChangedMessage, bool]] = [(one, True) for one in joined.added]
    missed += [(one, False) for one in _unreadable(joined)]
    for one in joined.confirmed:
        _count(hours, one.message.shown_at, seen=1, delivered=1)
    found: list[Missed] = []
    for one, healed in missed:
        message, key = one.message, one.key
        sent_at, cause = message.shown_at, cause_of(message.mid, message.shown_at)
        row = (key.participant_id, mid_key(message.mid), message.mid, check_id, sent_at, now)
        new = connection.execute(_MISSED, (account_id, *row, now if healed else None, cause.value)).rowcount
        if new:
            _count(hours, sent_at, seen=1, healed=int(healed))
            found.append(Missed(one.message_id, one.conversation_id, sent_at, now, cause, healed))
    for one in joined.changed:
        if one.message.direction is not None and one.message.sent_at is None:
            about = (now, check_id, account_id, mid_key(one.message.mid), one.message.mid)
            for (sent_at,) in connection.execute(_SHOWN, about).fetchall():
                _count(hours, sent_at, healed=1)
    _save(connection, account_id, hours)
    if joined.confirmed:
        newest = max(one.message.shown_at for one in joined.confirmed)
        store.note_arrival(connection, account_id, newest)
    return found


def note_late(connection: sqlite3.Connection, account_id: str, now: int) -> int:
    """Note which missed messages a webhook brought after all. Returns how many."""
    late = connection.execute(_LATE, (account_id, now - LATE_MS)).fetchall()
    hours: dict[int, Counter[str]] = {}
    for _, sent_at, healed in late:
        _count(hours, sent_at, delivered=1, healed=-int(healed))
    connection.executemany(_ARRIVED, [(now, number) for number, _, _ in late])
    _save(connection, account_id, hours)
    return len(late)


def found_by(connection: sqlite3.Connection, check_id: int) -> list[Found]:
    """What a check found."""
    rows = connection.execute(_FOUND, (check_id,)).fetchall()
    return [Found(Cause(cause), *numbers) for cause, *numbers in rows]


def _unreadable(joined: Joined) -> Sequence[ChangedMessage]:
    """Messages of which the API shows no more than that they exist."""
    first = {one.message_id: one for one in joined.changed if one.message.listed_at is not None}
    return [one for one in first.values() if one.message.direction is None]


def _count(hours: dict[int, Counter[str]], at: int, **more: int) -> None:
    hours.setdefault(at // HOUR_MS, Counter()).update(more)


def _save(connection: sqlite3.Connection, account_id: str, hours: dict[int, Counter[str]]) -> None:
    rows = [(account_id, hour, counts["seen"], counts["delivered"], counts["healed"]) for hour, counts in hours.items()]
    if rows:
        connection.executemany(_HOUR, rows)
