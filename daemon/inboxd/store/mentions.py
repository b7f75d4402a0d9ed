"""Raw deliveries that mention somebody: found by the id in their bytes, and erased."""

import sqlite3
from collections.abc import Iterable
from typing import Final, NamedTuple

from inboxd.store.database import Database

_LOOK: Final = "SELECT id, state = 'pending', mentions(body) FROM deliveries WHERE id > ? ORDER BY id LIMIT ?"
_ERASE: Final = "DELETE FROM deliveries WHERE id = ?"


class Mentions(NamedTuple):
    """Deliveries that mention somebody, among those looked at up to `last_id` (None: there were none)."""

    settled: list[int]
    waiting: int
    last_id: int | None


async def find(database: Database, ids: Iterable[str], *, after: int, step: int) -> Mentions:
    """Which of the next `step` deliveries after the id `after` mention one of `ids`. Raises StorageError."""
    names = [one.encode() for one in ids]

    def look(connection: sqlite3.Connection) -> list[tuple[int, int, int]]:
        connection.create_function("mentions", 1, lambda body: any(mentions(body, name) for name in names))
        return connection.execute(_LOOK, (after, step)).fetchall()

    rows = await database.reading(look)
    return Mentions(
        settled=[number for number, waits, mentioned in rows if mentioned and not waits],
        waiting=sum(mentioned and waits for _, waits, mentioned in rows),
        last_id=rows[-1][0] if rows else None,
    )


async def erase(database: Database, deliveries: Iterable[int]) -> None:
    """Erase deliveries. They may mention others too: what they said of them is understood and stays."""
    listed = [(number,) for number in deliveries]

    def transaction(connection: sqlite3.Connection) -> None:
        connection.executemany(_ERASE, listed)

    await database.write(transaction)


def mentions(body: bytes, name: bytes) -> bool:
    """Whether `name` stands in `body` as a word of its own, not as a part of a longer id."""
    at = body.find(name)
    while at >= 0:
        end = at + len(name)
        if not (body[at - 1 : at].isalnum() or body[end : end + 1].isalnum()):
            return True
        at = body.find(name, at + 1)
    return False
