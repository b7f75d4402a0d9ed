"""What privacy asks of the accounts, and what it has them do. Meta names an app user; we know accounts."""

from inboxd.accounts.manager import AccountManager
from inboxd.domain.account import LoginType


class AppUsers:
    """The accounts, as the app users that Meta's callbacks are about."""

    def __init__(self, accounts: AccountManager) -> None:
        self._accounts = accounts

    def account_of(self, user_id: str) -> str | None:
        """The id of the account that belongs to an app user; None when it is not known."""
        managed = self._accounts.find(user_id)
        return None if managed is None else managed.account.id

    def others(self, user_id: str) -> frozenset[str]:
        """The accounts that certainly belong to somebody else than this app user.

        Nobody knows whose an account with Facebook Login is: Meta names a person, and never tells us of that person.
        """
        known = [one.account for one in self._accounts.served.values() if one.account.app_scoped_id is not None]
        return frozenset(
            one.id for one in known if one.login_type is LoginType.INSTAGRAM and one.app_scoped_id != user_id
        )

    async def deauthorize(self, user_id: str) -> str | None:
        """An app user removed the app: their account makes no call any more. Its id; None when it is not known."""
        managed = self._accounts.find(user_id)
        if managed is None:
            return None
        await self._accounts.app_removed(managed, "the owner removed the app; log in again to serve the account")
        return managed.account.id

    async def stop_calls(self, account_id: str) -> None:
        """The data of an account is to be deleted: it makes no call any more."""
        managed = self._accounts.served.get(account_id)
        if managed is not None:
            await self._accounts.app_removed(managed, "its data was deleted; log in again to serve it")

    async def erased(self, account_id: str) -> None:
        """The data of an account was erased. One that is configured stays, without what Meta said of its owner."""
        managed = self._accounts.served.get(account_id)
        if managed is None:
            return
        if managed.account.configured:
            await self._accounts.update(managed, username=None, app_scoped_id=None)
        else:
            await self._accounts.remove(managed, erased=True)
