"""What a person chooses about an account: whether humans may answer for longer, and whether comments are wanted."""

from typing import Any

from msgspec import UNSET

from inboxd.accounts.managed_account import ManagedAccount
from inboxd.accounts.manager import AccountManager
from inboxd.accounts.resources import AccountSettings
from inboxd.runtime.errors import EX_USAGE, InboxdError


class ConfiguredAccountError(InboxdError):
    """The account is in the configuration file, which decides."""

    exit_code = EX_USAGE


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
    if changes and account.configured:
        msg = (
            f"the account {account.id} stands in the configuration: set human_agent and comments of its [[accounts]] "
            "there and restart"
        )
        raise ConfiguredAccountError(msg)
    if all(getattr(account, name) == value for name, value in changes.items()):
        return True
    return await accounts.update(managed, **changes)
