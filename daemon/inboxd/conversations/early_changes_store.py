"""Early changes: changes without sender and recipient, of messages that may not have arrived yet.

Meta sends some reads and edits without their parties. Only the message tells whose conversation they belong to. Each is
stored here first and joined to its message as soon as both are there, in whichever order they came.
"""

import sqlite3
from collections.abc import Collection, Sequence
from typing import Final

import msgspec

from inboxd.conversations import message_store, reply_window_store
from inboxd.conversations.message_store import ChangedMessage
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.message import MessageChange
from inboxd.domain.partyless_change import AnyPartylessChange, placed
from inboxd.domain.reply_window import openings_of
from inboxd.storage.connection import fetch_packed, insert_many

_ADD: Final = """
INSERT INTO early_changes (account_id, mid_key, mid, change, created_at) {rows} ON CONFLICT DO NOTHING
"""
_ANY: Final = "SELECT EXISTS (SELECT 1 FROM early_changes)"
_MATCHES: Final = """
SELECT json_group_array(json_array(e.account_id, e.mid_key, e.mid, e.change, c.participant_id, c.id))
FROM json_each(?) AS k
CROSS JOIN early_changes AS e ON e.mid_key = k.value
CROSS JOIN messages AS m ON m.mid_key = e.mid_key AND m.mid = e.mid AND m.direction IS NOT NULL
CROSS JOIN conversations AS c ON c.id = m.conversation_id AND c.account_id = e.account_id
"""
_REMOVE: Final = "DELETE FROM early_changes WHERE mid_key = ? AND account_id = ? AND change = ?"
_FORGET: Final = """
DELETE FROM early_changes WHERE (mid_key, account_id, change) IN (
    SELECT mid_key, account_id, change FROM early_changes WHERE created_at < ? ORDER BY created_at LIMIT ?
)
"""
_decode: Final = msgspec.json.Decoder(AnyPartylessChange).decode


def join(
    connection: sqlite3.Connection, new: Sequence[AnyPartylessChange], arrived: Collection[str], now: int
) -> list[ChangedMessage]:
    """Store `new` changes, and join each to its message if that is there: stored before, or just `arrived` (mids).

    Returns what that really changed.
    """
    if new:
        rows = [(one.account_id, message_store.mid_key(one.mid), one.mid, _encoded(one), now) for one in new]
        insert_many(connection, _ADD, rows)
    elif not arrived or not connection.execute(_ANY).fetchall()[0][0]:
        return []
    wanted = {message_store.mid_key(mid) for mid in (*arrived, *(one.mid for one in new))}
    matches = fetch_packed(connection, _MATCHES, (msgspec.json.encode(sorted(wanted)).decode(),))
    if not matches:
        return []
    messages = message_store.load(connection, [(row[5], row[1], row[2]) for row in matches])
    changes: list[MessageChange] = []
    for account_id, _, mid, text, participant_id, conversation_id in matches:
        message = messages[conversation_id, mid].message
        change = placed(_decode(text), ConversationKey(account_id, participant_id), message)
        if change is not None:
            changes.append(change)
    keys = {change.key for change in changes}
    applied = message_store.apply_changes(connection, keys, [(None, one) for one in changes], now)
    reply_window_store.opened(connection, openings_of(changes), now)
    connection.executemany(_REMOVE, {(row[1], row[0], row[3]) for row in matches})
    return applied.changed


def forget(connection: sqlite3.Connection, before: int, limit: int) -> int:
    """Remove up to `limit` changes that have waited since before `before` (ms). Returns how many."""
    return connection.execute(_FORGET, (before, limit)).rowcount


def _encoded(change: AnyPartylessChange) -> str:
    return msgspec.json.encode(change).decode()
