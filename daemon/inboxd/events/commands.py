"""`inboxd events`: the event log on a terminal, or as JSON Lines for other programs."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urlencode

import click
import msgspec

from inboxd.events.log import LATEST, EventReader
from inboxd.events.store import EventFilter
from inboxd.http.client import AdminClient, UnreachableError
from inboxd.http.command_access import CommandAccess
from inboxd.runtime.command_line import config_option, run_async
from inboxd.runtime.errors import EX_OK, EX_USAGE, InboxdError
from inboxd.runtime.terminal import printable

PATH: Final = "/api/events"
PAGE: Final = 200
WAIT_S: Final = 30
"""How long a request waits for the next event."""
RETRY_S: Final = 1.0
"""Rest before a daemon that does not answer is asked again."""
_INTERRUPTED: Final = 130
_MAX_TEXT: Final = 200

EventsSetup = Callable[[Path | None], CommandAccess[EventReader]]
"""Gives the command its access, to the daemon or the database, from the path of the configuration file."""


class UnknownTypeError(InboxdError):
    """No type of event matches what was asked for."""

    exit_code = EX_USAGE


class Wanted(NamedTuple):
    """Which events are wanted, in the words of the command line."""

    types: tuple[str, ...]
    account_ids: tuple[str, ...]


class EventsPage(msgspec.Struct, frozen=True, rename="camel"):
    """A page of events, as the API gives it."""

    events: list[msgspec.Raw]
    next_cursor: str
    has_more: bool


class Source(Protocol):
    """Where events are read from."""

    async def page(self, after: str | None, *, wait_s: int) -> EventsPage:
        """Events after a cursor. With `wait_s` it may wait so long for one. Raises InboxdError."""


@click.command()
@config_option
@click.option("--follow", is_flag=True, help="Go on with what happens, until Ctrl-C. Without --after: from now.")
@click.option("--type", "types", multiple=True, metavar="TYPE", help="Only this type, or 'message.*'. Repeatable.")
@click.option("--account", "account_ids", multiple=True, metavar="ID", help="Only of this account. Repeatable.")
@click.option("--after", help="The cursor to begin behind, or 'latest'. Default: the oldest event that is kept.")
@click.option("--json", "as_json", is_flag=True, help="The events as the API has them, one a line.")
@click.pass_obj
def events(
    set_up: EventsSetup,
    config_path: Path | None,
    *,
    follow: bool,
    types: tuple[str, ...],
    account_ids: tuple[str, ...],
    after: str | None,
    as_json: bool,
) -> None:
    """Show what happened, from the event log: time, type, who, text. --follow goes on with what happens.

    Through the running daemon, or from the database when none runs. --follow outlives a restart of the daemon.
    docs/events.md lists the types.
    """
    if after is not None and after != LATEST and not (after.isascii() and after.isdigit() and len(after) <= 18):
        msg = f"{after!r} is no cursor: give nextCursor of a page, or 'latest'"
        raise click.UsageError(msg)
    show = _json_line if as_json else _line
    found = _read(set_up(config_path), Wanted(types, account_ids), after, follow=follow)
    try:
        sys.exit(run_async(_print(found, show)))
    except KeyboardInterrupt:
        sys.exit(EX_OK if follow else _INTERRUPTED)


async def _print(found: AsyncGenerator[list[msgspec.Raw], None], show: Callable[[msgspec.Raw], str]) -> int:
    async with aclosing(found):
        async for some in found:
            for event in some:
                click.echo(show(event))
            sys.stdout.flush()
    return EX_OK


async def _read(
    access: CommandAccess[EventReader], wanted: Wanted, after: str | None, *, follow: bool
) -> AsyncGenerator[list[msgspec.Raw], None]:
    """The wanted events, page by page. Raises InboxdError."""
    cursor = LATEST if follow and after is None else after
    async with access.open() as opened:
        local = not isinstance(opened, AdminClient)
        source: Source = _Remote(opened, wanted) if isinstance(opened, AdminClient) else _Local(opened, wanted)
        more = True
        while more:
            page = await source.page(cursor, wait_s=0)
            yield page.events
            cursor, more = page.next_cursor, page.has_more
    if follow and local:
        click.echo("inboxd: no daemon runs; waiting for one", err=True)
    while follow:
        try:
            async with access.client() as client:
                source = _Remote(client, wanted)
                while True:
                    page = await source.page(cursor, wait_s=WAIT_S)
                    yield page.events
                    cursor = page.next_cursor
        except UnreachableError:
            await asyncio.sleep(RETRY_S)


class _Remote:
    """Events from the running daemon."""

    def __init__(self, client: AdminClient, wanted: Wanted) -> None:
        self._client = client
        asked = {"types": ",".join(wanted.types), "accountId": ",".join(wanted.account_ids)}
        self._query = {name: value for name, value in asked.items() if value}

    async def page(self, after: str | None, *, wait_s: int) -> EventsPage:
        query: dict[str, Any] = {**self._query, "limit": PAGE, "wait": wait_s}
        if after is not None:
            query["after"] = after
        return await self._client.call("GET", f"{PATH}?{urlencode(query)}", EventsPage)


class _Local:
    """Events from the database, of which this process has the lock. It waits for none."""

    def __init__(self, reader: EventReader, wanted: Wanted) -> None:
        self._reader = reader
        for pattern in wanted.types:
            if not reader.names([pattern]):
                msg = f"no type of event matches {pattern!r}; there are: {', '.join(sorted(reader.types))}"
                raise UnknownTypeError(msg)
        self._only = EventFilter(
            types=reader.names(wanted.types) if wanted.types else None, account_ids=wanted.account_ids or None
        )

    async def page(self, after: str | None, *, wait_s: int) -> EventsPage:  # noqa: ARG002 - nobody writes
        page = await self._reader.page(await self._reader.cursor(after), limit=PAGE, only=self._only)
        return EventsPage([msgspec.Raw(event.body) for event in page.events], str(page.next_cursor), page.more)


class _Event(msgspec.Struct, frozen=True, rename="camel"):
    type: str
    occurred_at: str
    account_id: str | None
    data: dict[str, Any]


_decode: Final = msgspec.json.Decoder(_Event).decode


def _json_line(event: msgspec.Raw) -> str:
    return bytes(event).decode()


def _line(event: msgspec.Raw) -> str:
    """Time, type, who, text: `2026-01-01 00:00:00  message.received  garden.friend  Do you still have it?`."""
    found = _decode(event)
    moment = found.occurred_at[:19].replace("T", " ")
    text = printable(_text(found.data))
    shortened = text if len(text) <= _MAX_TEXT else text[: _MAX_TEXT - 1] + "…"
    return f"{moment}  {printable(found.type):<24}  {printable(_who(found)):<20}  {shortened}".rstrip()


def _who(event: _Event) -> str:
    participant = _part(event.data, "participant")
    return _first(
        (
            participant.get("username"),
            participant.get("name"),
            _part(event.data, "from").get("username"),
            event.data.get("participantPlatformId"),
            event.account_id,
        )
    )


def _text(data: Mapping[str, Any]) -> str:
    reaction = _part(data, "reaction")
    message = _part(data, "message")
    described = message.get("content") or (f"[{message['messageType']}]" if message.get("messageType") else None)
    if reaction:
        return f"{_first((reaction.get('emoji'), reaction.get('reaction')))} to: {described or ''}"
    was = data.get("previousUsername")
    return _first((described, data.get("text"), was and f"was {was}", data.get("error"), _status(data)))


def _status(data: Mapping[str, Any]) -> str | None:
    conversation = _part(data, "conversation")
    status = data.get("status") or data.get("profileState") or conversation.get("status")
    if status is None:
        return None
    done = data.get("successCount")
    return f"{status}" if done is None else f"{status}: {done} of {data.get('total')}"


def _part(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    found = data.get(name)
    return found if isinstance(found, dict) else {}


def _first(values: Iterable[Any]) -> str:
    return next((str(value) for value in values if value), "")
