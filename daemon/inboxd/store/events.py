"""Events that are no message and change none, kept as they came."""

import hashlib
import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

from inboxd.store.connection import insert_many

_KEEP: Final = """
INSERT INTO events (
    fingerprint, kind, account_id, participant_id, happened_at, reason, payload, delivery_id, created_at
) {rows}
ON CONFLICT (fingerprint) DO NOTHING
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
