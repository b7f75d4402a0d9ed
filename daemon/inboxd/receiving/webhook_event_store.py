"""Events that are no message and change none, kept as they came."""

import hashlib
import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

from inboxd.storage.connection import insert_many
from inboxd.storage.database import Read

_KEEP: Final = """
INSERT INTO events (
    fingerprint, kind, account_id, participant_id, happened_at, reason, payload, delivery_id, created_at
) {rows}
ON CONFLICT (fingerprint) DO NOTHING
"""


_KINDS: Final = "SELECT kind, count(*) FROM events GROUP BY kind"
MAX_PAYLOAD: Final = 16_384
"""Bytes of a payload that a page has; a larger one is fetched alone."""
_PAGE: Final = f"""
SELECT id, kind, substr(account_id, 1, 200), participant_id, happened_at, substr(reason, 1, 1000),
       CASE WHEN length(payload) <= {MAX_PAYLOAD} THEN payload END, length(payload), delivery_id, created_at
FROM events
"""  # noqa: S608 - built from constants
_PAYLOAD: Final = "SELECT payload FROM events WHERE id = ?"


class StoredWebhookEvent(NamedTuple):
    """An event to keep. `happened_at` in ms."""

    kind: str
    account_id: str
    participant_id: str | None
    happened_at: int | None
    reason: str | None
    payload: bytes
    delivery_id: int

    @property
    def fingerprint(self) -> bytes:
        """The same for two copies of one event: of its kind, account and bytes."""
        digest = hashlib.blake2b(digest_size=16)
        for part in (self.kind.encode(), self.account_id.encode(), self.payload):
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.digest()


def keep(connection: sqlite3.Connection, events: Sequence[StoredWebhookEvent], now: int) -> None:
    """Store `events`; those already known change nothing."""
    insert_many(connection, _KEEP, [(event.fingerprint, *event, now) for event in events])


class StoredEvent(NamedTuple):
    """A kept event, as a page has it: what is long is cut, or left to be fetched alone. Times in ms."""

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


async def page(read: Read, *, kind: str | None, before_id: int | None, limit: int) -> list[StoredEvent]:
    """Kept events, of one kind or of all, the latest first."""
    where = "kind = ? AND id < ?" if kind is not None else "id < ?"
    parameters = [before_id or 2**62, limit] if kind is None else [kind, before_id or 2**62, limit]
    return [StoredEvent(*row) for row in await read(f"{_PAGE} WHERE {where} ORDER BY id DESC LIMIT ?", parameters)]


async def payload(read: Read, event_id: int) -> bytes | None:
    """The payload of one kept event, as it came; None when there is no such event."""
    rows = await read(_PAYLOAD, (event_id,))
    return bytes(rows[0][0]) if rows else None


async def kinds(read: Read) -> dict[str, int]:
    """How many events of each kind are kept."""
    return {row[0]: row[1] for row in await read(_KINDS, ())}
