"""Reads Meta's deliveries for the endpoints that get them as they came."""

import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple

from inboxd.storage.connection import one_moment
from inboxd.storage.database import Database

PAGE_BYTES: Final = 1024 * 1024
"""A page ends when its bodies are larger than this."""
_SIZES: Final = "SELECT id, length(body) FROM deliveries WHERE id > ? ORDER BY id LIMIT ?"
_BODIES: Final = """
SELECT id, received_at, body, signature FROM deliveries WHERE id > ? AND id <= ? ORDER BY id
"""
_ENDS: Final = """
SELECT coalesce(min(id), 0), coalesce(max(id), 0), (SELECT generation FROM webhook_endpoints WHERE id = ?)
FROM deliveries
"""


class StoredDelivery(NamedTuple):
    """A delivery as Meta sent it. Times in ms."""

    id: int
    received_at: int
    body: bytes
    signature: bytes | None
    """The HMAC of Meta's header. None: the delivery came before these were kept."""


class DeliveryPage(NamedTuple):
    """Some deliveries, in order."""

    deliveries: Sequence[StoredDelivery]
    newest: int
    """The newest delivery that there is."""
    lost: int
    """How many there were after the cursor that are no longer kept, at most: erased ones are among them."""
    generation: int | None
    """Of the endpoint. When it has changed, ids were given again, and what was read before is of no use."""


class DeliveryStore:
    """Reads deliveries in the order of their arrival. Every method may raise StorageError."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, endpoint_id: str, after: int, limit: int) -> DeliveryPage:
        """Up to `limit` deliveries after the one with the id `after`: at least one, if there is any."""
        return await self._database.reading(lambda connection: _page(connection, endpoint_id, after, limit))


def _page(connection: sqlite3.Connection, endpoint_id: str, after: int, limit: int) -> DeliveryPage:
    with one_moment(connection):
        return _page_of_a_moment(connection, endpoint_id, after, limit)


def _page_of_a_moment(connection: sqlite3.Connection, endpoint_id: str, after: int, limit: int) -> DeliveryPage:
    ((first, newest, generation),) = connection.execute(_ENDS, (endpoint_id,)).fetchall()
    until, size = after, 0
    for number, length in connection.execute(_SIZES, (after, limit)).fetchall():
        size += length
        if size > PAGE_BYTES and until > after:
            break
        until = number
    rows = connection.execute(_BODIES, (after, until)).fetchall()
    lost = max(0, first - after - 1) if first else 0
    return DeliveryPage([StoredDelivery(*row) for row in rows], newest, lost, generation)
