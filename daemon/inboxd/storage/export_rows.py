"""Rows in the form of an export document: camelCase names, decoded JSON, dates instead of milliseconds."""

import base64
import re
import sqlite3
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec

from inboxd.domain.payload import MAX_DEPTH
from inboxd.runtime.clock import iso_utc
from inboxd.storage.database import Database

_STRINGS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"')

Fields = dict[str, Any]


class Columns(NamedTuple):
    """Columns that need more than their plain number or text."""

    json: frozenset[str] = frozenset()
    times: Mapping[str, str] = {}
    """JSON columns that hold a list, each with the member of its items that is a time in ms."""
    booleans: frozenset[str] = frozenset()


async def exported(database: Database, columns: Columns, sql: str, parameters: Sequence[object]) -> list[Fields]:
    """The rows of one query. Raises StorageError.

    JSON that cannot be decoded, or is nested too deeply to be shown, is given as text, with a replacement character for
    each wrong byte. Then `<name>Base64` has the exact bytes.
    """
    return await database.reading(partial(_rows, columns=columns, sql=sql, parameters=parameters))


def _rows(connection: sqlite3.Connection, columns: Columns, sql: str, parameters: Sequence[object]) -> list[Fields]:
    cursor = connection.execute(sql, parameters)
    names = [column[0] for column in cursor.description]
    return [_told(columns, dict(zip(names, row, strict=True))) for row in cursor.fetchall()]


def _told(columns: Columns, row: Fields) -> Fields:
    told: Fields = {}
    for name, value in row.items():
        label = _camel(name)
        if name in columns.booleans:
            told[label] = None if value is None else bool(value)
        elif name not in columns.json or value is None:
            told[label] = value
        else:
            told |= _decoded(label, value if isinstance(value, bytes) else value.encode())
            if name in columns.times and isinstance(told[label], list):
                told[label] = [_dated(item, columns.times[name]) for item in told[label]]
    return told


def _dated(item: Fields, name: str) -> Fields:
    return {**item, name: iso_utc(item[name])}


def _decoded(label: str, value: bytes) -> Fields:
    if _nesting(value) <= MAX_DEPTH:
        try:
            return {label: msgspec.json.decode(value)}
        except (msgspec.DecodeError, UnicodeDecodeError):
            pass
    return {label: value.decode(errors="replace"), label + "Base64": base64.b64encode(value).decode()}


def _nesting(value: bytes) -> int:
    """The greatest nesting depth of brackets outside strings."""
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
