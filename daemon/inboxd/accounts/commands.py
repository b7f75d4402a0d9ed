"""`inboxd account`: through the running daemon, or on the database itself when none runs."""

import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

import click
import msgspec

from inboxd.accounts.check import AccountCheck, CheckOutcome
from inboxd.accounts.manager import AccountManager, ManagedAccount
from inboxd.accounts.resources import AccountList, AccountResource, CheckedAccount, NewAccount
from inboxd.accounts.tables import account_table, finding_table
from inboxd.domain.account import LoginType
from inboxd.http.client import AdminClient
from inboxd.http.command_access import CommandAccess
from inboxd.runtime.clock import Clock
from inboxd.runtime.command_line import config_option, json_option, opened, run_async
from inboxd.runtime.console import console
from inboxd.runtime.errors import EX_OK, EX_USAGE, InboxdError
from inboxd.runtime.secret import Secret

INCOMPLETE: Final = 1
"""The exit code when something is missing."""

AccountsSetup = Callable[[Path | None], CommandAccess[AccountManager]]
"""What the commands are given: both ways to the accounts, by the path of the configuration file."""


class NoSuchAccountError(InboxdError):
    """The account is not served."""

    exit_code = EX_USAGE


class AccountsClient(Protocol):
    """Where accounts are looked after."""

    async def all(self) -> list[AccountResource]:
        """Every account."""

    async def add(self, token: Secret, flavour: LoginType, name: str) -> CheckedAccount:
        """Serve the account that a token belongs to."""

    async def check(self, account_id: str) -> CheckedAccount:
        """Look an account over."""

    async def remove(self, account_id: str) -> None:
        """Stop serving an account."""


@click.group()
def account() -> None:
    """Add, list, check and remove accounts, through the running daemon or on the database when none runs."""


@account.command("list")
@config_option
@json_option
@click.pass_obj
def list_command(set_up: AccountsSetup, config_path: Path | None, *, as_json: bool) -> None:
    """Show who is served, and how they stand with Meta."""
    run_async(_list(set_up(config_path), as_json=as_json))


async def _list(access: CommandAccess[AccountManager], *, as_json: bool) -> None:
    async with _desk(access) as desk:
        accounts = await desk.all()
    if as_json:
        _print_json(AccountList(accounts=accounts))
    else:
        console().print(account_table(accounts))


@account.command("add")
@config_option
@json_option
@click.option("--flavour", type=click.Choice(["instagram", "facebook"]), default="instagram", show_default=True)
@click.option("--name", default="", help="What you call it.")
@click.option(
    "--token-file",
    type=click.Path(allow_dash=True),
    help="Where the access token stands; - is standard input. Without it, you are asked.",
)
@click.pass_obj
def add_command(
    set_up: AccountsSetup, config_path: Path | None, *, as_json: bool, flavour: str, name: str, token_file: str | None
) -> None:
    """Serve the account that an access token belongs to; a served one gets a new token. Exits 1 if anything is missing.

    Meta is asked whose token it is. The account is subscribed to webhooks, and what is missing is said.
    """
    token = _token(token_file)
    sys.exit(run_async(_add(set_up(config_path), token, LoginType(flavour), name, as_json=as_json)))


def _token(file_name: str | None) -> Secret:
    """The access token in the file, or typed in. Raises UsageError when it can be none."""
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


async def _add(
    access: CommandAccess[AccountManager], token: Secret, flavour: LoginType, name: str, *, as_json: bool
) -> int:
    async with _desk(access) as desk:
        return _tell(await desk.add(token, flavour, name), as_json=as_json)


@account.command("check")
@config_option
@json_option
@click.argument("account_id")
@click.pass_obj
def check_command(set_up: AccountsSetup, config_path: Path | None, account_id: str, *, as_json: bool) -> None:
    """Look an account over: token, permissions, settings, subscription. Exits 1 if anything is missing."""
    sys.exit(run_async(_check(set_up(config_path), account_id, as_json=as_json)))


async def _check(access: CommandAccess[AccountManager], account_id: str, *, as_json: bool) -> int:
    async with _desk(access) as desk:
        return _tell(await desk.check(account_id), as_json=as_json)


@account.command("remove")
@config_option
@click.argument("account_id")
@click.pass_obj
def remove_command(set_up: AccountsSetup, config_path: Path | None, account_id: str) -> None:
    """Stop serving an account and forget its token; its conversations stay."""
    run_async(_remove(set_up(config_path), account_id))
    click.echo(f"{account_id} is no longer served")


async def _remove(access: CommandAccess[AccountManager], account_id: str) -> None:
    async with _desk(access) as desk:
        await desk.remove(account_id)


@asynccontextmanager
async def _desk(access: CommandAccess[AccountManager]) -> AsyncIterator[AccountsClient]:
    async with access.open() as opened_by:
        if isinstance(opened_by, AdminClient):
            yield _RemoteDesk(opened_by)
        else:
            yield _LocalDesk(opened_by, AccountCheck(opened_by, Clock()))


def _tell(checked: CheckedAccount, *, as_json: bool) -> int:
    if as_json:
        _print_json(checked)
    else:
        console().print(finding_table(checked))
    missing = any(finding.outcome is CheckOutcome.MISSING for finding in checked.findings)
    return INCOMPLETE if missing else EX_OK


def _print_json(resource: msgspec.Struct) -> None:
    click.echo(msgspec.json.encode(resource).decode())


class _LocalDesk:
    def __init__(self, accounts: AccountManager, checkup: AccountCheck) -> None:
        self._accounts = accounts
        self._checkup = checkup

    async def all(self) -> list[AccountResource]:
        served = sorted(self._accounts.served.values(), key=lambda one: one.account.id)
        return [AccountResource.of(one.account) for one in served]

    async def add(self, token: Secret, flavour: LoginType, name: str) -> CheckedAccount:
        served, findings = await self._checkup.add(token, flavour, name=name)
        return CheckedAccount(account=AccountResource.of(served.account), findings=findings)

    async def check(self, account_id: str) -> CheckedAccount:
        served = self._find(account_id)
        findings = await self._checkup.check(served)
        return CheckedAccount(account=AccountResource.of(served.account), findings=findings)

    async def remove(self, account_id: str) -> None:
        served = self._find(account_id)
        if served.account.configured:
            msg = f"the account {account_id} stands in the configuration: remove it there"
            raise NoSuchAccountError(msg)
        await self._accounts.remove(served)

    def _find(self, account_id: str) -> ManagedAccount:
        served = self._accounts.served.get(account_id)
        if served is None:
            msg = f"no account {account_id} is served; 'inboxd account list' shows which are"
            raise NoSuchAccountError(msg)
        return served


class _RemoteDesk:
    def __init__(self, remote: AdminClient) -> None:
        self._remote = remote

    async def all(self) -> list[AccountResource]:
        return (await self._remote.call("GET", "/api/accounts", AccountList)).accounts

    async def add(self, token: Secret, flavour: LoginType, name: str) -> CheckedAccount:
        wanted = NewAccount(token=token.reveal(), flavour=flavour, name=name)
        return await self._remote.call("POST", "/api/accounts", CheckedAccount, wanted)

    async def check(self, account_id: str) -> CheckedAccount:
        path = f"/api/accounts/{quote(account_id, safe='')}/check"
        return await self._remote.call("POST", path, CheckedAccount, absent=NoSuchAccountError)

    async def remove(self, account_id: str) -> None:
        path = f"/api/accounts/{quote(account_id, safe='')}"
        await self._remote.call("DELETE", path, type(None), absent=NoSuchAccountError)
