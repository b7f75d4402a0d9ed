"""`inboxd account`: through the running daemon, or on the database itself when none runs."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import quote

import click
import msgspec

from inboxd import core as parts
from inboxd.accounts.check import Checkup, Outcome
from inboxd.accounts.manager import Accounts, Served
from inboxd.accounts.resources import AccountList, AccountResource, CheckedAccount, NewAccount
from inboxd.config.admin_access import admin_access
from inboxd.config.schema import Secrets, Settings
from inboxd.domain.account import Flavour
from inboxd.http.client import AdminClient
from inboxd.runtime.clock import Clock
from inboxd.runtime.console import account_table, console, finding_table
from inboxd.runtime.errors import EX_OK, EX_USAGE, DatabaseLockedError, InboxdError
from inboxd.runtime.secret import Secret
from inboxd.storage.database import Database

INCOMPLETE: Final = 1
"""The exit code when something is missing."""


class NoSuchAccountError(InboxdError):
    """The account is not served."""

    exit_code = EX_USAGE


class Desk(Protocol):
    """Where accounts are looked after."""

    async def all(self) -> list[AccountResource]:
        """Every account."""

    async def add(self, token: Secret, flavour: Flavour, name: str) -> CheckedAccount:
        """Serve the account that a token belongs to."""

    async def check(self, account_id: str) -> CheckedAccount:
        """Look an account over."""

    async def remove(self, account_id: str) -> None:
        """Stop serving an account."""


@asynccontextmanager
async def desk(settings: Settings, secrets: Secrets, database_path: Path) -> AsyncIterator[Desk]:
    """The desk of the running daemon, or one of our own when the database is free. Raises InboxdError."""
    async with AsyncExitStack() as stack:
        try:
            database = await stack.enter_async_context(Database(database_path))
        except DatabaseLockedError:
            yield _RemoteDesk(await stack.enter_async_context(AdminClient(*admin_access(settings, secrets))))
            return
        clock = Clock()
        accounts = await stack.enter_async_context(parts.serving_accounts(settings, secrets, database, clock))
        await accounts.load(parts.configured_accounts(settings, secrets))
        yield _LocalDesk(accounts, Checkup(accounts, clock))


async def show_all(settings: Settings, secrets: Secrets, path: Path, *, as_json: bool) -> None:
    """`inboxd account list`."""
    async with desk(settings, secrets, path) as found:
        accounts = await found.all()
    if as_json:
        _print_json(AccountList(accounts=accounts))
    else:
        console().print(account_table(accounts))


async def add(
    settings: Settings, secrets: Secrets, path: Path, token: Secret, *, flavour: str, name: str, as_json: bool
) -> int:
    """`inboxd account add`; returns the exit code."""
    async with desk(settings, secrets, path) as found:
        return _tell(await found.add(token, Flavour(flavour), name), as_json=as_json)


async def check(settings: Settings, secrets: Secrets, path: Path, account_id: str, *, as_json: bool) -> int:
    """`inboxd account check`; returns the exit code."""
    async with desk(settings, secrets, path) as found:
        return _tell(await found.check(account_id), as_json=as_json)


async def remove(settings: Settings, secrets: Secrets, path: Path, account_id: str) -> None:
    """`inboxd account remove`."""
    async with desk(settings, secrets, path) as found:
        await found.remove(account_id)


def _tell(checked: CheckedAccount, *, as_json: bool) -> int:
    if as_json:
        _print_json(checked)
    else:
        console().print(finding_table(checked))
    missing = any(finding.outcome is Outcome.MISSING for finding in checked.findings)
    return INCOMPLETE if missing else EX_OK


def _print_json(resource: msgspec.Struct) -> None:
    click.echo(msgspec.json.encode(resource).decode())


class _LocalDesk:
    def __init__(self, accounts: Accounts, checkup: Checkup) -> None:
        self._accounts = accounts
        self._checkup = checkup

    async def all(self) -> list[AccountResource]:
        served = sorted(self._accounts.served.values(), key=lambda one: one.account.id)
        return [AccountResource.of(one.account) for one in served]

    async def add(self, token: Secret, flavour: Flavour, name: str) -> CheckedAccount:
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

    def _find(self, account_id: str) -> Served:
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

    async def add(self, token: Secret, flavour: Flavour, name: str) -> CheckedAccount:
        wanted = NewAccount(token=token.reveal(), flavour=flavour, name=name)
        return await self._remote.call("POST", "/api/accounts", CheckedAccount, wanted)

    async def check(self, account_id: str) -> CheckedAccount:
        path = f"/api/accounts/{quote(account_id, safe='')}/check"
        return await self._remote.call("POST", path, CheckedAccount, absent=NoSuchAccountError)

    async def remove(self, account_id: str) -> None:
        path = f"/api/accounts/{quote(account_id, safe='')}"
        await self._remote.call("DELETE", path, type(None), absent=NoSuchAccountError)
