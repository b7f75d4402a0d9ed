"""`inboxd import-conversations`: known conversations from a CSV or JSON Lines file."""

import csv
import itertools
import json
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol, TextIO

import click
import msgspec

from inboxd.clock import Clock
from inboxd.commands.remote import Remote
from inboxd.config import Secrets, Settings
from inboxd.errors import EX_OK, DatabaseLockedError
from inboxd.store.database import Database
from inboxd.terminal import printable
from inboxd.web.api.resources.conversations import ImportReport, NewConversation, NewImport
from inboxd.workers.registry import ConversationExistsError, MisnamedError, register

IMPORTS: Final = "/api/messaging/imports"
CHUNK: Final = 200
"""Rows that go to the daemon at once."""
WITH_ERRORS: Final = 1
"""The exit code when rows were left out."""


NumberedRow = tuple[int, dict[str, Any]]


class Registry(Protocol):
    """Where conversations are registered."""

    async def register(self, rows: Sequence[NumberedRow]) -> list[tuple[int, str]]:
        """Register rows; the numbers of those that were left out, and why."""


async def import_conversations(settings: Settings, secrets: Secrets, path: Path, file: TextIO) -> int:
    """Import every row that can be, and report each that cannot by its number; the exit code."""
    good = bad = 0
    async with _registry(settings, secrets, path) as registry:
        rows = _rows(file)
        while chunk := list(itertools.islice(rows, CHUNK)):
            wrong = [(number, row) for number, row in chunk if isinstance(row, str)]
            sound = [(number, row) for number, row in chunk if not isinstance(row, str)]
            problems = wrong + (await registry.register(sound) if sound else [])
            for number, error in sorted(problems):
                click.echo(f"row {number}: {printable(error)}", err=True)
            bad += len(problems)
            good += len(chunk) - len(problems)
    click.echo(f"{good} conversations imported, {bad} rows left out")
    return WITH_ERRORS if bad else EX_OK


@asynccontextmanager
async def _registry(settings: Settings, secrets: Secrets, path: Path) -> AsyncIterator[Registry]:
    async with AsyncExitStack() as stack:
        try:
            database = await stack.enter_async_context(Database(path))
        except DatabaseLockedError:
            yield _RemoteRegistry(await stack.enter_async_context(Remote(settings, secrets)))
            return
        yield _LocalRegistry(database)


def _rows(file: TextIO) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Rows with their number in the file (from 1); of what cannot be a row, what is wrong with it."""
    first = file.readline()
    if first.lstrip().startswith("{"):
        for number, line in enumerate(itertools.chain([first], file), start=1):
            if line.strip():
                yield number, _json_row(line)
        return
    reader = csv.DictReader(itertools.chain([first], file))
    for row in reader:
        yield reader.line_num, _csv_row(row)


def _json_row(line: str) -> dict[str, Any] | str:
    try:
        row = json.loads(line)
    except ValueError:
        return "not JSON"
    return row if isinstance(row, dict) else "not a JSON object"


def _csv_row(texts: dict[str | Any, Any]) -> dict[str, Any] | str:
    row: dict[str, Any] = {name: text for name, text in texts.items() if name is not None and text not in {None, ""}}
    try:
        if "metadata" in row:
            row["metadata"] = json.loads(row["metadata"])
    except ValueError:
        return "'metadata' is not JSON"
    if row.get("unreadCount", "").isdecimal():
        row["unreadCount"] = int(row["unreadCount"])
    return row


class _LocalRegistry:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._clock = Clock()

    async def register(self, rows: Sequence[NumberedRow]) -> list[tuple[int, str]]:
        problems = []
        for number, row in rows:
            try:
                known = msgspec.convert(row, NewConversation).known()
                await register(self._database, known, self._clock.now_ms())
            except (msgspec.ValidationError, MisnamedError, ConversationExistsError) as error:
                problems.append((number, str(error)))
        return problems


class _RemoteRegistry:
    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    async def register(self, rows: Sequence[NumberedRow]) -> list[tuple[int, str]]:
        wanted = NewImport(conversations=[row for _, row in rows])
        report = await self._remote.call("POST", IMPORTS, ImportReport, wanted)
        return [(rows[problem.row - 1][0], problem.error) for problem in report.errors]
