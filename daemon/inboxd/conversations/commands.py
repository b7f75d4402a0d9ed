"""`inboxd import-conversations`: known conversations from a CSV or JSON Lines file."""

import csv
import itertools
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn, Protocol, TextIO

import click
import msgspec

from inboxd.conversations.conversation_import import ConversationExistsError, MisnamedError, import_conversation
from inboxd.conversations.input_resources import (
    IMPORT_REQUIRED,
    ImportReport,
    NewConversation,
    NewImport,
    import_fields,
)
from inboxd.domain.payload import is_shallow
from inboxd.events.log import EventLog
from inboxd.http.client import AdminClient
from inboxd.http.command_access import CommandAccess
from inboxd.runtime.clock import Clock
from inboxd.runtime.command_line import config_option, opened, run_async
from inboxd.runtime.errors import EX_DATAERR, EX_OK, InboxdError
from inboxd.runtime.plural import counted
from inboxd.runtime.terminal import printable
from inboxd.storage.database import Database

IMPORTS: Final = "/api/messaging/imports"
CHUNK: Final = 200
"""Rows that are sent to the daemon at once…"""
CHUNK_BYTES: Final = 500_000
"""…unless they are larger together: the admin listener takes bodies of 1 MiB."""
WITH_ERRORS: Final = 1
"""The exit code when rows were left out."""
_IDS: Final = ("clientAccountId", "participantPlatformId", "platformConversationId")
_MAX_COUNT_DIGITS: Final = 9
_MAX_UNKNOWN: Final = 100
"""How many unknown columns are named."""

NumberedRow = tuple[int, dict[str, Any]]


class OfflineInbox(NamedTuple):
    """What an import works with when no daemon runs."""

    database: Database
    event_log: EventLog


ImportSetup = Callable[[Path | None], CommandAccess[OfflineInbox]]
"""Gives the command its access, to the daemon or the database, from the path of the configuration file."""


class ImportFileError(InboxdError):
    """The file cannot be imported."""

    exit_code = EX_DATAERR


class Importer(Protocol):
    """Imports rows: into a database, or through a running daemon."""

    async def add(self, rows: Sequence[NumberedRow]) -> list[tuple[int, str]]:
        """Import rows. Returns the numbers of those that were left out, and why."""


@click.command("import-conversations")
@config_option
@click.argument("file", type=click.Path(allow_dash=True))
@click.pass_obj
def import_conversations(set_up: ImportSetup, config_path: Path | None, file: str) -> None:
    """Register known conversations from FILE: CSV with a heading, or JSON Lines; - is standard input.

    Fields are those of the API, in camelCase or snake_case: clientAccountId, participantPlatformId, and optionally
    platformConversationId (another system's is kept in the metadata), participantUsername, participantProfilePic,
    unreadCount, status and metadata. Other columns are named and left out. Bad rows are reported by their number and
    left out; exits 1 then.
    """
    with opened(file) as rows:
        sys.exit(run_async(import_rows(set_up(config_path), rows)))


async def import_rows(access: CommandAccess[OfflineInbox], file: TextIO) -> int:
    """Import every row that can be imported, and report the others by their numbers. Returns the exit code.

    Raises ImportFileError when the file as a whole cannot be imported.
    """
    good = bad = 0
    rows = _rows(file, _Unknown())
    async with _importer(access) as importer:
        while chunk := list(itertools.islice(rows, CHUNK)):
            wrong = [(number, row) for number, row in chunk if isinstance(row, str)]
            sound = [(number, row) for number, row in chunk if not isinstance(row, str)]
            problems = wrong + (await importer.add(sound) if sound else [])
            for number, error in sorted(problems):
                click.echo(f"row {number}: {printable(error)}", err=True)
            bad += len(problems)
            good += len(chunk) - len(problems)
    click.echo(f"{counted(good, 'conversation')} imported, {counted(bad, 'row')} left out")
    return WITH_ERRORS if bad else EX_OK


@asynccontextmanager
async def _importer(access: CommandAccess[OfflineInbox]) -> AsyncIterator[Importer]:
    async with access.open() as found:
        yield _RemoteImporter(found) if isinstance(found, AdminClient) else _LocalImporter(found)


class _Unknown:
    """Reports unknown columns, each of them once."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def say(self, names: Sequence[str]) -> None:
        for name in names:
            if name not in self._said and len(self._said) < _MAX_UNKNOWN:
                self._said.add(name)
                click.echo(f"'{printable(name[:100])}' is not known and left out, in every row", err=True)


def _rows(file: TextIO, unknown: _Unknown) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Rows with their numbers in the file (from 1). In place of an invalid row: what is wrong with it."""
    first = file.readline()
    if not first.strip():
        msg = "there is nothing to import: the first line must be a heading (CSV) or a row (JSON Lines)"
        raise ImportFileError(msg)
    if first.lstrip().startswith("{"):
        for number, line in enumerate(itertools.chain([first], file), start=1):
            if line.strip():
                yield number, _json_row(line, unknown)
        return
    reader = csv.reader(itertools.chain([first], file), strict=True)
    names = _next(reader)
    if isinstance(names, str):
        msg = (
            f"the first line is neither a heading ({names}) nor a JSON object: CSV, or JSON Lines with an object a line"
        )
        raise ImportFileError(msg)
    heading = _heading(names or [], unknown)
    while (row := _next(reader)) is not None:
        if row != []:
            yield reader.line_num, row if isinstance(row, str) else _csv_row(heading, row)


def _next(reader: Any) -> list[str] | str | None:  # noqa: ANN401 - csv's reader has no public name
    """The next row, what is wrong with it, or None at the end."""
    try:
        return next(reader, None)
    except csv.Error as error:
        return f"not CSV: {error}"


def _heading(names: Sequence[str], unknown: _Unknown) -> list[str | None]:
    """The field of each column, or None. Raises ImportFileError."""
    stripped = [name.strip() for name in names]
    fields, left_out = import_fields(dict.fromkeys(stripped))
    missing = [name for name in IMPORT_REQUIRED if name not in fields]
    if missing:
        told = " and ".join(missing)
        msg = f"the heading has no column {told} (in camelCase or snake_case); without it nothing can be imported"
        raise ImportFileError(msg)
    unknown.say(left_out)
    return [next(iter(import_fields({name: None})[0]), None) for name in stripped]


def _json_row(line: str, unknown: _Unknown) -> dict[str, Any] | str:
    try:
        row = _json(line)
    except (ValueError, RecursionError):
        return "not JSON, or nested too deeply"
    if not isinstance(row, dict):
        return "not a JSON object"
    fields, left_out = import_fields(row)
    unknown.say(left_out)
    return _texts(fields)


def _csv_row(heading: Sequence[str | None], texts: Sequence[str]) -> dict[str, Any] | str:
    if len(texts) > len(heading):
        return f"it has {len(texts)} columns, and the heading {len(heading)}"
    row: dict[str, Any] = {
        name: text for name, text in zip(heading, texts, strict=False) if name is not None and text != ""
    }
    try:
        if "metadata" in row:
            row["metadata"] = _json(row["metadata"])
    except (ValueError, RecursionError):
        return "'metadata' is not JSON, or nested too deeply"
    count = row.get("unreadCount", "")
    if count.isdecimal() and len(count) <= _MAX_COUNT_DIGITS:
        row["unreadCount"] = int(count)
    return _texts(row)


def _texts(row: dict[str, Any]) -> dict[str, Any] | str:
    """The row with its ids as text: a JSON file may have numbers. Or what is wrong with the row."""
    for name in _IDS:
        if isinstance(row.get(name), int) and not isinstance(row[name], bool):
            row[name] = str(row[name])
    try:
        msgspec.json.encode(row)
    except (UnicodeEncodeError, RecursionError):
        return "not UTF-8 text, or nested too deeply"
    if not all(map(is_shallow, row.values())):  # the daemon would refuse all rows that are sent with it
        return "nested too deeply"
    return row


def _json(text: str) -> Any:  # noqa: ANN401 - JSON
    return json.loads(text, parse_constant=_refuse)


def _refuse(name: str) -> NoReturn:
    msg = f"{name} is not JSON"
    raise ValueError(msg)


class _LocalImporter:
    def __init__(self, inbox: OfflineInbox) -> None:
        self._inbox = inbox
        self._clock = Clock()

    async def add(self, rows: Sequence[NumberedRow]) -> list[tuple[int, str]]:
        problems = []
        for number, row in rows:
            try:
                known = msgspec.convert(row, NewConversation)
                await import_conversation(*self._inbox, known, self._clock.now_ms(), keep_foreign_id=True)
            except (msgspec.ValidationError, MisnamedError, ConversationExistsError) as error:
                problems.append((number, str(error)))
        return problems


class _RemoteImporter:
    def __init__(self, remote: AdminClient) -> None:
        self._remote = remote

    async def add(self, rows: Sequence[NumberedRow]) -> list[tuple[int, str]]:
        problems: list[tuple[int, str]] = []
        chunk: list[NumberedRow] = []
        size = 0
        for number, row in rows:
            needed = len(msgspec.json.encode(row))
            if needed > CHUNK_BYTES:
                problems.append((number, f"larger than {CHUNK_BYTES} bytes"))
                continue
            if chunk and size + needed > CHUNK_BYTES:
                problems += await self._send(chunk)
                chunk, size = [], 0
            chunk.append((number, row))
            size += needed
        return problems + (await self._send(chunk) if chunk else [])

    async def _send(self, rows: Sequence[NumberedRow]) -> list[tuple[int, str]]:
        wanted = NewImport(conversations=[row for _, row in rows])
        report = await self._remote.call("POST", IMPORTS, ImportReport, wanted)
        return [(rows[problem.row - 1][0], problem.error) for problem in report.errors]
