"""Raw deliveries and kept events that mention somebody: found by the id in their bytes, and erased."""

import sqlite3
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple

from inboxd.store.database import Database

_LOOK: Final = "SELECT id, state = 'pending', mentions(body) FROM deliveries WHERE id > ? ORDER BY id LIMIT ?"
_ERASE: Final = "DELETE FROM deliveries WHERE id = ?"
_ERASE_EVENT: Final = "DELETE FROM events WHERE id = ?"
_LOOK_AT_EVENTS: Final = """
SELECT id, participant_id IS NULL AND mentions(payload) FROM events WHERE id > ? ORDER BY id LIMIT ?
"""
_STEP: Final = 200


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


async def events(database: Database, ids: Iterable[str]) -> list[int]:
    """Kept events that are filed under nobody and mention one of `ids`: comments, and what nobody could understand."""
    names = [one.encode() for one in ids]
    found: list[int] = []
    after: int | None = 0

    def look(connection: sqlite3.Connection) -> list[tuple[int, int]]:
        connection.create_function("mentions", 1, lambda payload: any(mentions(payload, name) for name in names))
        return connection.execute(_LOOK_AT_EVENTS, (after, _STEP)).fetchall()

    while after is not None:
        rows = await database.reading(look)
        found += [number for number, mentioned in rows if mentioned]
        after = rows[-1][0] if rows else None
    return found


async def erase(database: Database, deliveries: Sequence[int]) -> None:
    """Erase deliveries. They may mention others too: what they said of them is understood and stays."""
    await _delete(database, _ERASE, deliveries)


async def erase_events(database: Database, numbers: Sequence[int]) -> None:
    """Erase kept events."""
    await _delete(database, _ERASE_EVENT, numbers)


async def _delete(database: Database, sql: str, numbers: Sequence[int]) -> None:
    def transaction(connection: sqlite3.Connection, some: Sequence[int]) -> None:
        connection.executemany(sql, [(number,) for number in some])

    for at in range(0, len(numbers), _STEP):
        await database.write(partial(transaction, some=numbers[at : at + _STEP]))


def mentions(body: bytes, name: bytes) -> bool:
    """Whether `name` stands in `body` as a word of its own, not as a part of a longer id."""
    at = body.find(name)
    while at >= 0:
        end = at + len(name)
        if not (body[at - 1 : at].isalnum() or body[end : end + 1].isalnum()):
            return True
        at = body.find(name, at + 1)
    return False
