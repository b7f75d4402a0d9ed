"""`inboxd send`: a message through the running daemon."""

import asyncio
import secrets
import sys
import time
from collections.abc import Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Final, TypedDict, Unpack

import click
import msgspec

from inboxd.domain.outbound import AttachmentType, OutboundAttachment, OutboundState, SentBy
from inboxd.domain.outbound_content import MAX_ATTACHMENTS, MAX_TEXT
from inboxd.http.client import DaemonError, UnreachableError
from inboxd.runtime.command_line import Span, config_option, json_option, run_async
from inboxd.runtime.errors import EX_DATAERR, EX_OK, EX_TEMPFAIL, InboxdError
from inboxd.runtime.terminal import printable
from inboxd.sending.clients import NoSuchRecipientError, OutboxClient
from inboxd.sending.input_resources import NewDirectMessage, NewMessage
from inboxd.sending.outbox_commands import OutboxSetup, print_json, told
from inboxd.sending.resources import OutboundResource

FAILED: Final = 1
"""The exit code when it was not sent, or not all of it."""
UNKNOWN: Final = 2
"""The exit code when it is not known whether it was sent."""
_WAIT_S: Final = 30
_LOOK_EVERY_S: Final = 0.2
_SENT: Final = frozenset({OutboundState.SENT, OutboundState.DELIVERED, OutboundState.READ})
_SETTLED: Final = _SENT | {OutboundState.FAILED, OutboundState.CANCELED}
_REFUSALS: Final = frozenset(
    {HTTPStatus.CONFLICT, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.BAD_REQUEST, HTTPStatus.NOT_FOUND}
    | {HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNSUPPORTED_MEDIA_TYPE}
)


class RefusedError(InboxdError):
    """The daemon did not take the message. Nothing is sent."""

    exit_code = EX_DATAERR


class Options(TypedDict):
    """What is wanted, in the words of the command line."""

    to: str | None
    comment: str | None
    account: str | None
    reply_to: str | None
    automation: bool
    split: bool
    wait: int
    key: str | None


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line asks for."""

    to: str | None
    comment: str | None
    account: str | None
    message: NewMessage
    files: Sequence[Path]
    key: str


@click.command()
@config_option
@json_option
@click.option("--to", metavar="WHOM", help="A conversation's id, @username, or a participant's id.")
@click.option("--comment", metavar="ID", help="Answer the author of this comment in private; needs --account.")
@click.option("--account", metavar="ID", help="The account that sends, where it is not clear.")
@click.option(
    "--file",
    "files",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, readable=True),
    multiple=True,
    metavar="FILE",
    help="A picture, video, sound or PDF to attach. May be given several times.",
)
@click.option("--reply-to", metavar="ID", help="The message of the conversation that this answers.")
@click.option("--automation", is_flag=True, help="A program wrote it: it is not sent after the reply window.")
@click.option("--split", is_flag=True, help="Send a text over 1000 bytes in several messages.")
@click.option(
    "--wait", type=Span(), default=_WAIT_S, help="How long to wait until it is sent, such as 2m; 0: not. [30s]"
)
@click.option("--key", metavar="KEY", help="Its Idempotency-Key: the same key again sends nothing more.")
@click.argument("text", nargs=-1)
@click.pass_obj
def send(
    set_up: OutboxSetup,
    config_path: Path | None,
    *,
    as_json: bool,
    files: Sequence[Path],
    text: Sequence[str],
    **given: Unpack[Options],
) -> None:
    """Send a message through the running daemon, and wait until it is sent.

    TEXT is one argument; - reads it from standard input. Write -- before a text that begins with a dash.

    Exits 0 when it is sent (or is in the outbox, with --wait 0), 1 when it failed, 2 when it is not known whether it
    was sent, 65 when it was refused, and 75 when it still waits. What waits, or is unknown, stays in the outbox.
    """
    _check(given, text, files)
    words = _text_of(text)
    if not (words or "").strip() and not files:
        msg = "there is nothing to send: give a text, - to read it from standard input, or --file"
        raise click.UsageError(msg)
    message = NewMessage(
        text=words,
        reply_to=given["reply_to"],
        split=given["split"],
        sent_by=SentBy.AUTOMATION if given["automation"] else SentBy.HUMAN,
    )
    key = given["key"] or f"cli-{secrets.token_hex(16)}"
    request = Request(
        to=given["to"], comment=given["comment"], account=given["account"], message=message, files=files, key=key
    )

    async def carry_out() -> OutboundResource:
        async with set_up(config_path) as client:
            outbox = OutboxClient(client)
            accepted = await _accepted(outbox, request)
            return await _settled(outbox, accepted, given["wait"])

    ended = run_async(carry_out())
    if as_json:
        print_json(ended)
    else:
        click.echo(told(ended))
    sys.exit(_exit_code(ended, waited=given["wait"] > 0))


def _check(given: Options, text: Sequence[str], files: Sequence[Path]) -> None:
    """Raises UsageError: what the options say together makes no sense."""
    reply_to = given["reply_to"]
    if (given["to"] is None) == (given["comment"] is None):
        msg = "say to whom: either --to with a conversation's id, @username or participant's id, or --comment"
        raise click.UsageError(msg)
    if given["comment"] is not None and given["account"] is None:
        msg = "--comment needs --account: the account under whose post the comment is"
        raise click.UsageError(msg)
    if given["comment"] is not None and (reply_to is not None or files):
        msg = "a private answer to a comment is a text: leave out --reply-to and --file"
        raise click.UsageError(msg)
    if reply_to is not None and not (reply_to.isascii() and reply_to.isdigit() and len(reply_to) < 19):
        msg = "--reply-to takes the id of a message as the API shows it, a number"
        raise click.UsageError(msg)
    if len(text) > 1:
        msg = f"the text is {len(text)} arguments: put it in quotes"
        raise click.UsageError(msg)
    if len(files) > MAX_ATTACHMENTS:
        msg = f"at most {MAX_ATTACHMENTS} files are sent at once"
        raise click.UsageError(msg)


def _text_of(text: Sequence[str]) -> str | None:
    """The text; without the line end with which a program prints it. Raises UsageError."""
    if not text:
        return None
    if text[0] != "-":
        words = text[0]
    else:
        read = sys.stdin.buffer.read(MAX_TEXT * 4 + 1)
        try:
            words = read.decode("utf-8-sig").rstrip("\r\n")
        except UnicodeDecodeError as error:
            if len(read) <= MAX_TEXT * 4:
                msg = "standard input is no text in UTF-8"
                raise click.UsageError(msg) from error
            words = "x" * (MAX_TEXT + 1)
    if len(words) > MAX_TEXT:
        msg = f"the text is longer than {MAX_TEXT:,} characters"
        raise click.UsageError(msg)
    return words


async def _accepted(outbox: OutboxClient, request: Request) -> OutboundResource:
    """It, in the outbox. Raises InboxdError."""
    try:
        conversation = None if request.to is None else await outbox.conversation(request.to, request.account)
        if request.to is not None and conversation is None and request.account is None:
            msg = (
                f"there is no conversation {request.to}, nor one with a participant of this id; "
                "'inboxd conversations' shows which there are"
            )
            raise NoSuchRecipientError(msg)
        uploaded = [await outbox.upload(path, request.key) for path in request.files]
        attachments = [OutboundAttachment(type=AttachmentType(one.type), upload_id=one.id) for one in uploaded]
        message = msgspec.structs.replace(request.message, attachments=tuple(attachments))
        if conversation is not None:
            return await outbox.answer(conversation.id, message, request.key)
        direct = NewDirectMessage(
            **msgspec.structs.asdict(message),
            account_id=request.account or "",
            participant_platform_id=request.to,
            comment_id=request.comment,
        )
        return await outbox.send(direct, request.key)
    except UnreachableError as error:
        msg = f"{error}. Is it in the outbox? The same with --key {request.key} sends it once in any case"
        raise UnreachableError(msg, status=error.status) from error
    except DaemonError as error:
        if error.status not in _REFUSALS:
            raise
        raise RefusedError(_in_options(str(error))) from error


async def _settled(outbox: OutboxClient, one: OutboundResource, wait_s: int) -> OutboundResource:
    """It as soon as it is settled, or as it is after `wait_s`. Raises InboxdError."""
    deadline = time.monotonic() + wait_s
    while one.state not in _SETTLED and time.monotonic() < deadline:
        await asyncio.sleep(_LOOK_EVERY_S)
        one = await outbox.one(one.id)
    return one


def _in_options(words: str) -> str:
    """What the API says, in the words of the command line."""
    for member, option in (
        ('with "split": true', "with --split"),
        ('("sentBy": "human")', "(without --automation)"),
        ("replyTo:", "--reply-to:"),
    ):
        words = words.replace(member, option)
    return printable(words)


def _exit_code(one: OutboundResource, *, waited: bool) -> int:
    if one.state in _SENT:
        return EX_OK
    if one.state in {OutboundState.FAILED, OutboundState.CANCELED}:
        return FAILED
    if one.state is OutboundState.UNKNOWN:
        return UNKNOWN
    return EX_TEMPFAIL if waited else EX_OK
