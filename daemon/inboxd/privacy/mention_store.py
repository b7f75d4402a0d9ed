"""Raw deliveries and kept events that mention somebody: found in their bytes by an id or a mid, and erased.

Meta names no parties in many items that belong to a message ("message_edit", "read"): nothing but the mid tells whose
they are. What is looked at is bytes, so that nothing needs to be JSON, or even text, to be found.
"""

import re
import sqlite3
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import Final, NamedTuple

import msgspec

from inboxd.conversations.message_store import mid_key
from inboxd.storage.database import Database

DELIVERIES: Final = "SELECT id, state = 'pending', mentions(body) FROM deliveries WHERE id > ? ORDER BY id LIMIT ?"
EVENTS: Final = "SELECT id, 0, mentions(payload) FROM events WHERE id > ? ORDER BY id LIMIT ?"
UNFILED_EVENTS: Final = """
SELECT id, 0, participant_id IS NULL AND mentions(payload) FROM events WHERE id > ? ORDER BY id LIMIT ?
"""
"""Looks at the rows after an id: the id, whether it waits to be understood, and whether it mentions the wanted."""
ERASE_DELIVERY: Final = "DELETE FROM deliveries WHERE id = ? AND state <> 'pending'"
ERASE_EVENT: Final = "DELETE FROM events WHERE id = ?"
_NEWEST: Final = {
    ERASE_DELIVERY: "SELECT coalesce(max(id), 0) FROM deliveries",
    ERASE_EVENT: "SELECT coalesce(max(id), 0) FROM events",
}
_STEP: Final = 200
_MID: Final = re.compile(rb'"mid"\s*:\s*"((?:[^"\\]|\\.)*)"')


class Wanted(NamedTuple):
    """Whom to look for: by ids, and by the keys of mids."""

    ids: Collection[bytes]
    mid_keys: Collection[int] = frozenset()

    def mentioned(self, body: bytes) -> bool:
        """Whether `body` mentions one of them."""
        if any(mentions(body, one) for one in self.ids):
            return True
        return bool(self.mid_keys) and any(_key(found) in self.mid_keys for found in _MID.findall(body))


class Mentions(NamedTuple):
    """Rows that mention somebody, among those looked at up to `last_id` (None: there were none)."""

    settled: list[int]
    waiting: int
    last_id: int | None


class ErasedRows(NamedTuple):
    """How many rows were erased, and the newest id that is left: ids beyond it may be given again."""

    rows: int
    newest_id: int


def look(connection: sqlite3.Connection, sql: str, wanted: Wanted, *, after: int, step: int) -> Mentions:
    """Which of the next `step` rows after the id `after` mention somebody; `sql` is one of the above."""
    connection.create_function("mentions", 1, wanted.mentioned)
    rows = connection.execute(sql, (after, step)).fetchall()
    return Mentions(
        settled=[number for number, waits, mentioned in rows if mentioned and not waits],
        waiting=sum(mentioned and waits for _, waits, mentioned in rows),
        last_id=rows[-1][0] if rows else None,
    )


async def find(
    database: Database, ids: Iterable[str], *, after: int, step: int, mid_keys: Collection[int] = frozenset()
) -> Mentions:
    """Which of the next `step` deliveries after the id `after` mention one of `ids`. Raises StorageError."""
    wanted = Wanted([one.encode() for one in ids], mid_keys)
    return await database.reading(partial(look, sql=DELIVERIES, wanted=wanted, after=after, step=step))


async def events(database: Database, ids: Iterable[str], mid_keys: Collection[int] = frozenset()) -> list[int]:
    """Kept events that are filed under nobody and mention one of `ids`: comments, and what nobody could understand."""
    wanted = Wanted([one.encode() for one in ids], mid_keys)
    found: list[int] = []
    after: int | None = 0
    while after is not None:
        some = await database.reading(partial(look, sql=UNFILED_EVENTS, wanted=wanted, after=after, step=_STEP))
        found += some.settled
        after = some.last_id
    return found


async def erase(database: Database, deliveries: Sequence[int]) -> ErasedRows:
    """Erase deliveries. They may mention others too: what they said of them is understood and stays."""
    return await database.write(partial(remove, sql=ERASE_DELIVERY, numbers=deliveries))


def remove(connection: sqlite3.Connection, sql: str, numbers: Sequence[int]) -> ErasedRows:
    """Erase rows; `sql` is one of the above."""
    rows = connection.executemany(sql, [(number,) for number in numbers]).rowcount if numbers else 0
    ((newest_id,),) = connection.execute(_NEWEST[sql]).fetchall()
    return ErasedRows(rows, newest_id)


def mentions(body: bytes, name: bytes) -> bool:
    """Whether `name` stands in `body` as a word of its own, not as a part of a longer id."""
    at = body.find(name)
    while at >= 0:
        end = at + len(name)
        if not (body[at - 1 : at].isalnum() or body[end : end + 1].isalnum()):
            return True
        at = body.find(name, at + 1)
    return False


def _key(mid: bytes) -> int | None:
    """The key of a mid as it stands in JSON, or in what was meant to be JSON."""
    try:
        return mid_key(msgspec.json.decode(b'"' + mid + b'"', type=str))
    except (msgspec.DecodeError, UnicodeError):
        return None
