"""What the conversations table knows of the reply window. Each of its times only grows."""

import sqlite3
from collections.abc import Mapping
from typing import Final

import msgspec

from inboxd.conversations.message_store import updated_at
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.reply_window import Opening, Tag
from inboxd.storage.connection import fetch

_OPEN: Final = f"""
UPDATE conversations AS c SET
    customer_wrote_at = max(coalesce(c.customer_wrote_at, 0), o.value ->> 2),
    ad_clicked_at = nullif(max(coalesce(c.ad_clicked_at, 0), coalesce(o.value ->> 3, 0)), 0),
    updated_at = max({updated_at("?1")}, c.updated_at)
FROM json_each(?2) AS o
WHERE c.account_id = o.value ->> 0 AND c.participant_id = o.value ->> 1
  AND (coalesce(c.customer_wrote_at, 0) < o.value ->> 2 OR coalesce(c.ad_clicked_at, 0) < coalesce(o.value ->> 3, 0))
"""  # noqa: S608 - built from constants
_REFUSED: Final = f"""
UPDATE conversations SET
    {{column}} = max(coalesce({{column}}, 0), ?1), updated_at = max({updated_at("?2")}, updated_at + 1)
WHERE account_id = ?3 AND participant_id = ?4
"""  # noqa: S608 - built from constants
_PAUSE: Final = f"""
UPDATE conversations SET automation_paused_until = ?1, updated_at = max({updated_at("?2")}, updated_at + 1)
WHERE account_id = ?3 AND participant_id = ?4 AND coalesce(automation_paused_until, 0) < ?1 RETURNING id
"""  # noqa: S608 - built from constants
_COLUMNS: Final = {Tag.RESPONSE: "window_refused_at", Tag.HUMAN_AGENT: "tag_refused_at"}


def opened(connection: sqlite3.Connection, openings: Mapping[ConversationKey, Opening], now: int) -> None:
    """Store what participants did, by conversation. `now` in ms. It changes nothing of what is known to be later."""
    if openings:
        rows = [(*key, *opening) for key, opening in openings.items()]
        connection.execute(_OPEN, (now, msgspec.json.encode(rows).decode()))


def refused(connection: sqlite3.Connection, key: ConversationKey, tag: Tag, at: int) -> None:
    """Meta said at `at` (ms) that the window is closed, of a message that was sent as `tag`."""
    connection.execute(_REFUSED.format(column=_COLUMNS[tag]), (at, at, *key))


def pause_automation(connection: sqlite3.Connection, key: ConversationKey, until: int, now: int) -> int | None:
    """A human of the account wrote elsewhere: bots should be silent until `until` (ms).

    Returns the id of the conversation; None when that is known.
    """
    rows = fetch(connection, _PAUSE, (until, now, *key))
    return rows[0][0] if rows else None
