"""`inboxd account`: uses the running daemon, or the database directly when no daemon runs."""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import click
import msgspec
from click.core import ParameterSource
from msgspec import UNSET

from inboxd.accounts.check import CheckOutcome
from inboxd.accounts.clients import AccountsClient, LocalAccounts, RemoteAccounts
from inboxd.accounts.resources import AccountList, AccountSettings, CheckedAccount
from inboxd.accounts.tables import account_table, finding_table
from inboxd.domain.account import LoginType
from inboxd.http.client import AdminClient
from inboxd.http.command_access import CommandAccess
from inboxd.runtime.command_line import config_option, json_option, opened, run_async
from inboxd.runtime.console import console
from inboxd.runtime.errors import EX_OK
from inboxd.runtime.secret import Secret

INCOMPLETE: Final = 1
"""The exit code when something is missing."""

AccountsAccess = CommandAccess[LocalAccounts]
AccountsSetup = Callable[[Path | None], AccountsAccess]
"""Takes the path of the configuration file and returns both ways to reach the accounts."""


@click.group()
def account() -> None:
    """Add, list, set, check and remove accounts, through the running daemon or on the database when none runs."""


@account.command("list")
@config_option
@json_option
@click.pass_obj
def list_command(set_up: AccountsSetup, config_path: Path | None, *, as_json: bool) -> None:
    """Show who is served, and how they stand with Meta."""
    run_async(_list(set_up(config_path), as_json=as_json))


async def _list(access: AccountsAccess, *, as_json: bool) -> None:
    async with _client(access) as client:
        accounts = await client.all()
    if as_json:
        _print_json(AccountList(accounts=accounts))
    else:
        console().print(account_table(accounts))


@account.command("add")
@config_option
@json_option
@click.option(
    "--login-type",
    type=click.Choice(["instagram", "facebook"]),
    default="instagram",
    show_default=True,
    help="Which of Meta's two products the token is for.",
)
@click.option("--flavour", type=click.Choice(["instagram", "facebook"]), hidden=True, help="The older name.")
@click.option("--name", default="", help="What you call it.")
@click.option(
    "--token-file",
    type=click.Path(allow_dash=True),
    help="Where the access token stands; - is standard input. Without it, you are asked.",
)
@click.pass_obj
def add_command(
    set_up: AccountsSetup,
    config_path: Path | None,
    *,
    as_json: bool,
    login_type: str,
    flavour: str | None,
    name: str,
    token_file: str | None,
) -> None:
    """Serve the account that an access token belongs to; a served one gets a new token. Exits 1 if anything is missing.

    Meta is asked whose token it is. The account is subscribed to webhooks, and what is missing is said.
    """
    if flavour is not None and flavour != login_type:
        if click.get_current_context().get_parameter_source("login_type") is not ParameterSource.DEFAULT:
            msg = "--login-type and --flavour are two names of one option: give one of them"
            raise click.UsageError(msg)
        login_type = flavour
    token = _token(token_file)
    sys.exit(run_async(_add(set_up(config_path), token, LoginType(login_type), name, as_json=as_json)))


def _token(file_name: str | None) -> Secret:
    """The access token, from the file or typed in. Raises UsageError when the text cannot be a token."""
    if file_name is None:
        text = click.prompt("Access token", hide_input=True)
    else:
        with opened(file_name) as file:
            text = file.read()
    if not text.strip():
        msg = "the access token is blank"
        raise click.UsageError(msg)
    if not text.strip().isascii() or not text.strip().isprintable():
        msg = "this is no access token: it must be one line of ASCII"
        raise click.UsageError(msg)
    return Secret(text.strip())


async def _add(access: AccountsAccess, token: Secret, login_type: LoginType, name: str, *, as_json: bool) -> int:
    async with _client(access) as client:
        added = await client.add(token, login_type, name)
    if not as_json:
        click.echo(
            f"Earlier conversations are at Meta: 'inboxd import-history --account {added.account.id}' imports them."
        )
    return _tell(added, as_json=as_json)


@account.command("set")
@config_option
@json_option
@click.argument("account_id")
@click.option(
    "--human-agent/--no-human-agent",
    default=None,
    help="Whether Meta approved the Human Agent feature: humans may answer for seven days, not one.",
)
@click.option("--comments/--no-comments", default=None, help="Whether to subscribe to comments and mentions.")
@click.pass_obj
def set_command(
    set_up: AccountsSetup,
    config_path: Path | None,
    account_id: str,
    *,
    as_json: bool,
    human_agent: bool | None,
    comments: bool | None,
) -> None:
    """Change what may be chosen about an account. What is not named stays.

    An account of the configuration file is changed there.
    """
    wanted = AccountSettings(
        human_agent=UNSET if human_agent is None else human_agent, comments=UNSET if comments is None else comments
    )
    if wanted == AccountSettings():
        msg = "say what to change: --human-agent, --comments, or their --no- form"
        raise click.UsageError(msg)
    run_async(_set(set_up(config_path), account_id, wanted, as_json=as_json))


async def _set(access: AccountsAccess, account_id: str, wanted: AccountSettings, *, as_json: bool) -> None:
    async with _client(access) as client:
        changed = await client.change(account_id, wanted)
    if as_json:
        _print_json(changed)
        return
    for name, is_on in (("human agent", changed.human_agent), ("comments and mentions", changed.comments)):
        click.echo(f"{changed.id}: {name} {'on' if is_on else 'off'}")
    for finding in changed.findings:
        told = f"{changed.id}: {finding.detail}.{f' {finding.remedy}' if finding.remedy else ''}"
        click.echo(told, err=finding.outcome is not CheckOutcome.OK)


@account.command("check")
@config_option
@json_option
@click.argument("account_id")
@click.pass_obj
def check_command(set_up: AccountsSetup, config_path: Path | None, account_id: str, *, as_json: bool) -> None:
    """Look an account over: token, permissions, settings, subscription. Exits 1 if anything is missing."""
    sys.exit(run_async(_check(set_up(config_path), account_id, as_json=as_json)))


async def _check(access: AccountsAccess, account_id: str, *, as_json: bool) -> int:
    async with _client(access) as client:
        return _tell(await client.check(account_id), as_json=as_json)


@account.command("remove")
@config_option
@click.argument("account_id")
@click.pass_obj
def remove_command(set_up: AccountsSetup, config_path: Path | None, account_id: str) -> None:
    """Stop serving an account and forget its token; its conversations stay."""
    run_async(_remove(set_up(config_path), account_id))
    click.echo(f"{account_id} is no longer served")


async def _remove(access: AccountsAccess, account_id: str) -> None:
    async with _client(access) as client:
        await client.remove(account_id)


@asynccontextmanager
async def _client(access: AccountsAccess) -> AsyncIterator[AccountsClient]:
    async with access.open() as opened_by:
        yield RemoteAccounts(opened_by) if isinstance(opened_by, AdminClient) else opened_by


def _tell(checked: CheckedAccount, *, as_json: bool) -> int:
    if as_json:
        _print_json(checked)
    else:
        console().print(finding_table(checked))
    missing = any(finding.outcome is CheckOutcome.MISSING for finding in checked.findings)
    return INCOMPLETE if missing else EX_OK


def _print_json(resource: msgspec.Struct) -> None:
    click.echo(msgspec.json.encode(resource).decode())
