"""Everything that is kept of one person, to be told to them."""

import base64
import re
import sqlite3
from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import msgspec

from inboxd.domain.conversation import ConversationKey
from inboxd.domain.payload import MAX_DEPTH
from inboxd.privacy import mention_store as mentions
from inboxd.privacy.erasure_store import ErasureStore, Subject
from inboxd.runtime.clock import iso_utc
from inboxd.storage.database import Database

_PARTS: Final = {
    "conversation": "SELECT * FROM v1_conversations WHERE client_account_id = ? AND participant_platform_id = ?",
    "participant": "SELECT * FROM v1_participants WHERE client_account_id = ? AND participant_platform_id = ?",
}
_MESSAGES: Final = """
SELECT m.* FROM v1_messages AS m
WHERE m.conversation_id IN (
    SELECT CAST(id AS TEXT) FROM conversations WHERE account_id = ? AND participant_id = ?
) ORDER BY m.sent_at, m.id LIMIT ? OFFSET ?
"""
_EVENT: Final = """
SELECT kind, strftime('%Y-%m-%dT%H:%M:%fZ', happened_at / 1000.0, 'unixepoch') AS happened_at, payload FROM events
"""
_EVENTS: Final = f"{_EVENT} WHERE account_id = ? AND participant_id = ? ORDER BY id"
_ONE_EVENT: Final = f"{_EVENT} WHERE id = ?"
_JSON: Final = frozenset({"metadata", "attachments", "reactions", "previous_usernames", "payload"})
_TIMES: Final = {"reactions": "at", "previous_usernames": "until"}
"""Times inside of JSON, which stand there in milliseconds."""
_YES_OR_NO: Final = frozenset({"is_read", "is_verified_user", "is_user_follow_business", "is_business_follow_user"})
_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')

Fields = dict[str, Any]


class PersonExportStore:
    """One person's data, by account and participant, with the names that the API has for it."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._erasure = ErasureStore(database)

    async def part(self, name: str, key: ConversationKey) -> Fields | None:
        """The `conversation` or the `participant`."""
        return next(iter(await self._fields(_PARTS[name], key)), None)

    async def messages(self, key: ConversationKey, *, limit: int, offset: int) -> list[Fields]:
        """Messages, the oldest first."""
        return await self._fields(_MESSAGES, (*key, limit, offset))

    async def events(self, key: ConversationKey) -> list[Fields]:
        """Events that are no messages: the person's own, and those filed under nobody that mention them.

        `payload` is what Meta sent. Where that is no JSON, or no UTF-8, it is told as text with a replacement character
        for each wrong byte, and `payloadBase64` has the very bytes.
        """
        found = await self._fields(_EVENTS, key)
        wanted = await self._erasure.wanted(subject_of(key))
        for number in await mentions.events(self._database, subject_of(key).ids, wanted.mid_keys):
            found += await self._fields(_ONE_EVENT, (number,))
        return found

    async def _fields(self, sql: str, parameters: Sequence[object]) -> list[Fields]:
        return await self._database.reading(partial(_rows, sql=sql, parameters=parameters))


def subject_of(key: ConversationKey) -> Subject:
    """One person; their id belongs to one account alone."""
    return Subject(key.account_id, key.participant_id, frozenset({key.participant_id}))


def _rows(connection: sqlite3.Connection, sql: str, parameters: Sequence[object]) -> list[Fields]:
    cursor = connection.execute(sql, parameters)
    names = [column[0] for column in cursor.description]
    return [_told(dict(zip(names, row, strict=True))) for row in cursor.fetchall()]


def _told(row: Fields) -> Fields:
    told: Fields = {}
    for name, value in row.items():
        label = _camel(name)
        if name in _YES_OR_NO:
            told[label] = None if value is None else bool(value)
        elif name not in _JSON or value is None:
            told[label] = value
        else:
            told |= _decoded(label, value if isinstance(value, bytes) else value.encode())
            if name in _TIMES and isinstance(told[label], list):
                told[label] = [_dated(item, _TIMES[name]) for item in told[label]]
    return told


def _dated(item: Fields, name: str) -> Fields:
    return {**item, name: iso_utc(item[name])}


def _decoded(label: str, value: bytes) -> Fields:
    """JSON as what it says; anything else, or what is nested too deeply to be shown, as text, its bytes beside it."""
    if _nesting(value) <= MAX_DEPTH:
        try:
            return {label: msgspec.json.decode(value)}
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
    return {label: value.decode(errors="replace"), label + "Base64": base64.b64encode(value).decode()}


def _nesting(value: bytes) -> int:
    """How deep brackets are nested, outside of strings."""
    depth = deepest = 0
    for character in _STRINGS.sub(b"", value):
        if character in b"[{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in b"]}":
            depth -= 1
    return deepest


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))
