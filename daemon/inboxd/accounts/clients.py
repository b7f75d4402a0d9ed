"""The two ways in which commands reach accounts: directly in the database, or through the running daemon."""

from typing import Protocol
from urllib.parse import quote

from inboxd.accounts.check import AccountCheck
from inboxd.accounts.choices import change
from inboxd.accounts.managed_account import ManagedAccount
from inboxd.accounts.manager import AccountManager
from inboxd.accounts.resources import (
    AccountList,
    AccountResource,
    AccountSettings,
    ChangedAccount,
    CheckedAccount,
    NewAccount,
)
from inboxd.domain.account import LoginType
from inboxd.http.client import AdminClient
from inboxd.runtime.errors import EX_USAGE, InboxdError
from inboxd.runtime.secret import Secret


class NoSuchAccountError(InboxdError):
    """The account is not served."""

    exit_code = EX_USAGE


class AccountsClient(Protocol):
    """What commands can do with accounts, in either way."""

    async def all(self) -> list[AccountResource]:
        """Every account."""

    async def add(self, token: Secret, login_type: LoginType, name: str) -> CheckedAccount:
        """Serve the account that a token belongs to."""

    async def change(self, account_id: str, wanted: AccountSettings) -> ChangedAccount:
        """Change what a person chooses about an account."""

    async def check(self, account_id: str) -> CheckedAccount:
        """Check an account."""

    async def remove(self, account_id: str) -> None:
        """Stop serving an account."""


class LocalAccounts:
    """The accounts in a database that no daemon is using. Raises InboxdError."""

    def __init__(self, accounts: AccountManager, check: AccountCheck) -> None:
        self._accounts = accounts
        self._check = check

    async def all(self) -> list[AccountResource]:
        """Every account."""
        managed = sorted(self._accounts.served.values(), key=lambda one: one.account.id)
        return [AccountResource.of(one.account) for one in managed]

    async def add(self, token: Secret, login_type: LoginType, name: str) -> CheckedAccount:
        """Serve the account that a token belongs to."""
        managed, findings = await self._check.add(token, login_type, name=name)
        return CheckedAccount(account=AccountResource.of(managed.account), findings=findings)

    async def change(self, account_id: str, wanted: AccountSettings) -> ChangedAccount:
        """Change what a person chooses about an account."""
        managed = self._find(account_id)
        changed = await change(self._accounts, self._check, managed, wanted)
        if changed is None:
            raise _not_served(account_id)
        return changed

    async def check(self, account_id: str) -> CheckedAccount:
        """Check an account."""
        managed = self._find(account_id)
        findings = await self._check.check(managed)
        return CheckedAccount(account=AccountResource.of(managed.account), findings=findings)

    async def remove(self, account_id: str) -> None:
        """Stop serving an account."""
        managed = self._find(account_id)
        if managed.account.configured:
            msg = f"the account {account_id} stands in the configuration: remove it there"
            raise NoSuchAccountError(msg)
        await self._accounts.remove(managed)

    def _find(self, account_id: str) -> ManagedAccount:
        managed = self._accounts.served.get(account_id)
        if managed is None:
            raise _not_served(account_id)
        return managed


class RemoteAccounts:
    """The accounts of the running daemon. Raises InboxdError."""

    def __init__(self, remote: AdminClient) -> None:
        self._remote = remote

    async def all(self) -> list[AccountResource]:
        """Every account."""
        return (await self._remote.call("GET", "/api/accounts", AccountList)).accounts

    async def add(self, token: Secret, login_type: LoginType, name: str) -> CheckedAccount:
        """Serve the account that a token belongs to."""
        wanted = NewAccount(token=token.reveal(), login_type=login_type, name=name)
        return await self._remote.call("POST", "/api/accounts", CheckedAccount, wanted)

    async def change(self, account_id: str, wanted: AccountSettings) -> ChangedAccount:
        """Change what a person chooses about an account."""
        path = f"/api/accounts/{quote(account_id, safe='')}"
        return await self._remote.call("PATCH", path, ChangedAccount, wanted, absent=NoSuchAccountError)

    async def check(self, account_id: str) -> CheckedAccount:
        """Check an account."""
        path = f"/api/accounts/{quote(account_id, safe='')}/check"
        return await self._remote.call("POST", path, CheckedAccount, absent=NoSuchAccountError)

    async def remove(self, account_id: str) -> None:
        """Stop serving an account."""
        path = f"/api/accounts/{quote(account_id, safe='')}"
        await self._remote.call("DELETE", path, type(None), absent=NoSuchAccountError)


def _not_served(account_id: str) -> NoSuchAccountError:
    return NoSuchAccountError(f"no account {account_id} is served; 'inboxd account list' shows which are")
