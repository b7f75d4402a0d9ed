"""`inboxd outbox`: what is to be sent, through the running daemon."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.table import Table
from rich.text import Text

from inboxd.domain.outbound import OutboundKind, OutboundState
from inboxd.http.client import AdminClient
from inboxd.http.operations import MAX_LIMIT
from inboxd.runtime.command_line import config_option, json_option, run_async
from inboxd.runtime.console import console
from inboxd.runtime.terminal import printable
from inboxd.sending.clients import OutboxClient
from inboxd.sending.resources import OutboundResource

OutboxSetup = Callable[[Path | None], AdminClient]
"""Takes the path of the configuration file and returns the way to the running daemon."""
_WORDS: Final = {
    OutboundState.QUEUED: "waits",
    OutboundState.SENDING: "is being sent",
    OutboundState.UNKNOWN: "may have been sent: Meta's answer was not seen, and it is being found out",
    OutboundState.SENT: "is sent",
    OutboundState.DELIVERED: "is delivered",
    OutboundState.READ: "is read",
    OutboundState.FAILED: "was not sent",
    OutboundState.CANCELED: "is canceled",
}
_STYLES: Final = {
    OutboundState.FAILED: "red",
    OutboundState.UNKNOWN: "yellow",
    OutboundState.SENT: "green",
    OutboundState.DELIVERED: "green",
    OutboundState.READ: "green",
}
_SHOWN_TEXT: Final = 60


@click.group(invoke_without_command=True)
@config_option
@json_option
@click.option("--state", type=click.Choice([state.value for state in OutboundState]), help="Only in this state.")
@click.option("--account", metavar="ID", help="Only of this account.")
@click.option("--limit", type=click.IntRange(1, MAX_LIMIT), default=50, show_default=True)
@click.pass_context
def outbox(
    ctx: click.Context,
    config_path: Path | None,
    *,
    as_json: bool,
    state: str | None,
    account: str | None,
    limit: int,
) -> None:
    """Show what is to be sent and what became of it; cancel it, or send it again.

    The latest messages come first.
    """
    if ctx.invoked_subcommand is not None:
        return
    set_up: OutboxSetup = ctx.obj

    async def look() -> None:
        async with set_up(config_path) as client:
            found = await OutboxClient(client).page(state, account, limit)
            if as_json:
                print_json(found)
            else:
                console().print(_table(found.outbound))

    run_async(look())


@outbox.command("show")
@config_option
@json_option
@click.argument("outbound_id", metavar="ID")
@click.pass_obj
def show_command(set_up: OutboxSetup, config_path: Path | None, outbound_id: str, *, as_json: bool) -> None:
    """Show one message, and why it waits, failed or is unknown."""

    async def look() -> OutboundResource:
        async with set_up(config_path) as client:
            return await OutboxClient(client).one(outbound_id)

    _tell(run_async(look()), as_json=as_json)


@outbox.command("cancel")
@config_option
@json_option
@click.argument("outbound_id", metavar="ID")
@click.pass_obj
def cancel_command(set_up: OutboxSetup, config_path: Path | None, outbound_id: str, *, as_json: bool) -> None:
    """Do not send what is not sent yet. What waits for it goes on."""

    async def cancel() -> OutboundResource:
        async with set_up(config_path) as client:
            return await OutboxClient(client).cancel(outbound_id)

    _tell(run_async(cancel()), as_json=as_json)


@outbox.command("retry")
@config_option
@json_option
@click.option("--force", is_flag=True, help="Also when it may have been sent: the participant may get it twice.")
@click.argument("outbound_id", metavar="ID")
@click.pass_obj
def retry_command(
    set_up: OutboxSetup, config_path: Path | None, outbound_id: str, *, force: bool, as_json: bool
) -> None:
    """Send a message that failed once more, as its reply window allows now."""

    async def retry() -> OutboundResource:
        async with set_up(config_path) as client:
            return await OutboxClient(client).retry(outbound_id, force=force)

    _tell(run_async(retry()), as_json=as_json)


def told(one: OutboundResource) -> str:
    """What became of it, in words, as one line for a terminal."""
    where = "" if one.conversation_id is None else f" (conversation {one.conversation_id})"
    words = f"Outbound {one.id}{where} {_WORDS[one.state]}"
    if one.state is OutboundState.UNKNOWN and one.reason_code == "unresolved":
        words = f"Outbound {one.id}{where} may have been sent, and it could not be found out"
    if one.reason:
        words += f": {one.reason.rstrip('.')}"
    if one.waits_until is not None:
        words += f". It is looked at again at {_time(one.waits_until)} UTC"
    return printable(f"{words}.")


def print_json(resource: msgspec.Struct) -> None:
    """The API's JSON."""
    click.echo(msgspec.json.encode(resource).decode())


def _tell(one: OutboundResource, *, as_json: bool) -> None:
    if as_json:
        print_json(one)
    else:
        click.echo(told(one))


def _table(found: list[OutboundResource]) -> Table:
    title = "Outbox" if found else "Nothing is in the outbox."
    table = Table(title=title, title_justify="left", expand=False)
    for heading in ("Id", "Accepted (UTC)", "To", "By", "State", "What", "Why"):
        table.add_column(heading, overflow="fold")
    for one in found:
        table.add_row(
            one.id,
            _time(one.created_at),
            printable(_recipient(one)),
            one.sent_by.value,
            Text(one.state.value, style=_STYLES.get(one.state, "")),
            printable(_content(one)),
            printable(one.reason or ""),
        )
    return table


def _recipient(one: OutboundResource) -> str:
    if one.kind is not OutboundKind.MESSAGE:
        return f"comment {one.comment_id}"
    return f"conversation {one.conversation_id}" if one.conversation_id else f"{one.participant_platform_id}"


def _content(one: OutboundResource) -> str:
    pieces = [one.text] if one.text else []
    pieces += [f"[{attachment.type.value}]" for attachment in one.attachments]
    pieces += ["[template]"] if one.template is not None else []
    text = " ".join(pieces)
    return text if len(text) <= _SHOWN_TEXT else text[: _SHOWN_TEXT - 1] + "…"


def _time(iso: str) -> str:
    return iso[:19].replace("T", " ")
