"""Events that are no message and change none, kept as they came."""

import hashlib
import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

from inboxd.store.connection import insert_many
from inboxd.store.database import Read

_KEEP: Final = """
INSERT INTO events (
    fingerprint, kind, account_id, participant_id, happened_at, reason, payload, delivery_id, created_at
) {rows}
ON CONFLICT (fingerprint) DO NOTHING
"""


_KINDS: Final = "SELECT kind, count(*) FROM events GROUP BY kind"
_PAGE: Final = """
SELECT id, kind, account_id, participant_id, happened_at, reason, payload, delivery_id, created_at FROM events
"""


class KeptEvent(NamedTuple):
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


def keep(connection: sqlite3.Connection, events: Sequence[KeptEvent], now: int) -> None:
    """Store `events`; those already known change nothing."""
    insert_many(connection, _KEEP, [(event.fingerprint, *event, now) for event in events])


class StoredEvent(NamedTuple):
    """A kept event. Times in ms."""

    id: int
    kind: str
    account_id: str
    participant_id: str | None
    happened_at: int | None
    reason: str | None
    payload: bytes
    delivery_id: int | None
    created_at: int


async def page(read: Read, *, kind: str | None, before_id: int | None, limit: int) -> list[StoredEvent]:
    """Kept events, of one kind or of all, the latest first."""
    where = "kind = ? AND id < ?" if kind is not None else "id < ?"
    parameters = [before_id or 2**62, limit] if kind is None else [kind, before_id or 2**62, limit]
    return [StoredEvent(*row) for row in await read(f"{_PAGE} WHERE {where} ORDER BY id DESC LIMIT ?", parameters)]


async def kinds(read: Read) -> dict[str, int]:
    """How many events of each kind are kept."""
    return {row[0]: row[1] for row in await read(_KINDS, ())}
