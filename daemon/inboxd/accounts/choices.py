"""What a person chooses about an account: whether humans may answer for longer, and whether comments are wanted."""

from typing import Any

import msgspec
from msgspec import UNSET

from inboxd.accounts.check import AccountCheck
from inboxd.accounts.managed_account import ManagedAccount
from inboxd.accounts.manager import AccountManager
from inboxd.accounts.resources import AccountSettings, ChangedAccount
from inboxd.runtime.errors import EX_USAGE, InboxdError


class ConfiguredAccountError(InboxdError):
    """The account is in the configuration file, which decides."""

    exit_code = EX_USAGE


async def change(
    accounts: AccountManager, check: AccountCheck, managed: ManagedAccount, wanted: AccountSettings
) -> ChangedAccount | None:
    """Store what is wanted of an account, and unsubscribe comments that are not. None when it was removed meanwhile.

    Raises ConfiguredAccountError when the configuration file decides otherwise, and StorageError.
    """
    if not await choose(accounts, managed, wanted):
        return None
    # Asked for again, it is tried again: Meta may not have answered the first time.
    findings = [await check.unsubscribe_comments(managed)] if wanted.comments is False else []
    if accounts.served.get(managed.account.id) is not managed:
        return None
    return msgspec.structs.replace(ChangedAccount.of(managed.account), findings=findings)


async def choose(accounts: AccountManager, managed: ManagedAccount, wanted: AccountSettings) -> bool:
    """Store what is wanted of an account. False when the account was removed meanwhile.

    Raises ConfiguredAccountError when the configuration file decides, and StorageError.
    """
    account, changes = managed.account, dict[str, Any]()
    if wanted.human_agent is not UNSET:
        changes["human_agent"] = wanted.human_agent
        if wanted.human_agent:  # it may have been granted since Meta last refused it
            changes["human_agent_refused_at"] = None
    if wanted.comments is not UNSET:
        changes["wants_comments"] = wanted.comments
        if wanted.comments:  # what was refused may have been granted
            changes |= {"refused_fields": {}, "refused_fields_at": None}
    if all(getattr(account, name) == value for name, value in changes.items()):
        return True
    if account.configured:
        msg = (
            f"the account {account.id} stands in the configuration: set human_agent and comments of its [[accounts]] "
            "there and restart"
        )
        raise ConfiguredAccountError(msg)
    return await accounts.update(managed, **changes)
