"""Stores webhook events that are no message and change no message, as they came."""

import hashlib
import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

from inboxd.storage.connection import insert_many
from inboxd.storage.database import Read

_KEEP: Final = """
INSERT INTO webhook_events (
    fingerprint, kind, account_id, participant_id, happened_at, reason, payload, delivery_id, created_at
) {rows}
ON CONFLICT (fingerprint) DO NOTHING
"""
_NEWEST: Final = "SELECT coalesce(max(id), 0) FROM webhook_events"
_ADDED: Final = "SELECT fingerprint FROM webhook_events WHERE id > ?"
_KINDS: Final = "SELECT kind, count(*) FROM webhook_events GROUP BY kind"
MAX_PAYLOAD: Final = 16_384
"""The largest payload (bytes) that is part of a page. A larger one is fetched alone."""
_PAGE: Final = f"""
SELECT id, kind, substr(account_id, 1, 200), participant_id, happened_at, substr(reason, 1, 1000),
       CASE WHEN length(payload) <= {MAX_PAYLOAD} THEN payload END, length(payload), delivery_id, created_at
FROM webhook_events
"""  # noqa: S608 - built from constants
_PAYLOAD: Final = "SELECT payload FROM webhook_events WHERE id = ?"


class StoredWebhookEvent(NamedTuple):
    """A webhook event to store. `happened_at` in ms."""

    kind: str
    account_id: str
    participant_id: str | None
    happened_at: int | None
    reason: str | None
    payload: bytes
    delivery_id: int

    @property
    def fingerprint(self) -> bytes:
        """A hash of kind, account and payload. Two copies of one webhook event have the same."""
        digest = hashlib.blake2b(digest_size=16)
        for part in (self.kind.encode(), self.account_id.encode(), self.payload):
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.digest()


def keep(connection: sqlite3.Connection, events: Sequence[StoredWebhookEvent], now: int) -> list[int]:
    """Store `events`. Returns the places of those that are new, in order: one that is stored already changes nothing.

    `now` in ms.
    """
    if not events:
        return []
    rows = [(event.fingerprint, *event, now) for event in events]
    ((newest_id,),) = connection.execute(_NEWEST).fetchall()
    insert_many(connection, _KEEP, rows)
    added = {fingerprint for (fingerprint,) in connection.execute(_ADDED, (newest_id,)).fetchall()}
    first = {row[0]: place for place, row in reversed(list(enumerate(rows)))}
    return sorted(first[fingerprint] for fingerprint in added)


class WebhookEventRow(NamedTuple):
    """A stored webhook event on a page. Long texts are cut; a large payload is left out. Times in ms."""

    id: int
    kind: str
    account_id: str
    participant_id: str | None
    happened_at: int | None
    reason: str | None
    payload: bytes | None
    """None when it is larger than MAX_PAYLOAD."""
    size: int
    delivery_id: int | None
    created_at: int


async def page(read: Read, *, kind: str | None, before_id: int | None, limit: int) -> list[WebhookEventRow]:
    """Stored webhook events of one kind (None: of all kinds), the latest first."""
    where = "kind = ? AND id < ?" if kind is not None else "id < ?"
    parameters = [before_id or 2**62, limit] if kind is None else [kind, before_id or 2**62, limit]
    return [WebhookEventRow(*row) for row in await read(f"{_PAGE} WHERE {where} ORDER BY id DESC LIMIT ?", parameters)]


async def payload(read: Read, event_id: int) -> bytes | None:
    """The payload of one stored webhook event, as it came. None when there is no such event."""
    rows = await read(_PAYLOAD, (event_id,))
    return bytes(rows[0][0]) if rows else None


async def kinds(read: Read) -> dict[str, int]:
    """How many webhook events of each kind are stored."""
    return {row[0]: row[1] for row in await read(_KINDS, ())}
