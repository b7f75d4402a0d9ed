"""`inboxd import-conversations`: known conversations from a CSV or JSON Lines file."""

import csv
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final, Protocol, TextIO

import click
import msgspec

from inboxd.clock import Clock
from inboxd.commands.remote import DaemonError, Remote
from inboxd.config import Secrets, Settings
from inboxd.errors import EX_OK, DatabaseLockedError, InboxdError
from inboxd.store.database import Database
from inboxd.web.api.conversations import PATH
from inboxd.web.api.resources import ConversationResource, NewConversation
from inboxd.workers.registry import ConversationExistsError, MisnamedError, register

WITH_ERRORS: Final = 1
"""The exit code when rows were left out."""


class RowError(InboxdError):
    """A row that cannot be imported, with the reason."""


class Registry(Protocol):
    """Where conversations are registered."""

    async def register(self, wanted: NewConversation) -> None:
        """Register one. Raises RowError."""


async def import_conversations(settings: Settings, secrets: Secrets, path: Path, file: TextIO) -> int:
    """Import every row that can be, and report each that cannot by its number; the exit code."""
    good = bad = 0
    async with _registry(settings, secrets, path) as registry:
        for number, row in _rows(file):
            try:
                await registry.register(_wanted(row))
            except RowError as error:
                bad += 1
                click.echo(f"row {number}: {error}", err=True)
            else:
                good += 1
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
    """Rows with their number in the file (from 1); what is no row at all is given as its text."""
    first = file.readline()
    if first.lstrip().startswith("{"):
        for number, line in enumerate((first, *file), start=1):
            if line.strip():
                yield number, _json_row(line)
        return
    reader = csv.DictReader((first, *file))
    for row in reader:
        yield reader.line_num, {name: text for name, text in row.items() if name is not None and text not in {None, ""}}


def _json_row(line: str) -> dict[str, Any] | str:
    try:
        row = json.loads(line)
    except ValueError:
        return line
    return row if isinstance(row, dict) else line


def _wanted(row: dict[str, Any] | str) -> NewConversation:
    if isinstance(row, str):
        msg = "not a JSON object"
        raise RowError(msg)
    metadata = row.get("metadata")
    try:
        if isinstance(metadata, str):  # a column of a CSV file
            row = {**row, "metadata": json.loads(metadata)}
        return msgspec.convert(row, NewConversation, strict=False)
    except msgspec.ValidationError as error:
        raise RowError(str(error)) from error
    except ValueError as error:
        msg = "'metadata' is not JSON"
        raise RowError(msg) from error


class _LocalRegistry:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._clock = Clock()

    async def register(self, wanted: NewConversation) -> None:
        try:
            await register(self._database, wanted.known(), self._clock.now_ms())
        except (MisnamedError, ConversationExistsError) as error:
            raise RowError(str(error)) from error


class _RemoteRegistry:
    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    async def register(self, wanted: NewConversation) -> None:
        try:
            await self._remote.call("POST", PATH, ConversationResource, wanted)
        except DaemonError as error:
            raise RowError(str(error)) from error
