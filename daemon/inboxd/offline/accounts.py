"""For the commands of accounts."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from inboxd.accounts.check import AccountCheck
from inboxd.accounts.clients import LocalAccounts
from inboxd.accounts.feature import open_manager
from inboxd.config.schema import Settings
from inboxd.config.secrets import Secrets
from inboxd.conversations.store import last_message_at
from inboxd.http.command_access import CommandAccess
from inboxd.offline.configuration import configuration, event_log_of
from inboxd.options import account_options
from inboxd.runtime.clock import Clock
from inboxd.storage.database import Database


def accounts(config_path: Path | None) -> CommandAccess[LocalAccounts]:
    """For the commands of accounts. Raises ConfigError."""
    found = configuration(config_path)
    return CommandAccess(found.client, partial(_accounts, *found))


@asynccontextmanager
async def _accounts(settings: Settings, secrets: Secrets, database_path: Path) -> AsyncIterator[LocalAccounts]:
    """The accounts, loaded; nobody works for them. Raises InboxdError."""
    clock = Clock()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database(database_path))
        options = account_options(settings, secrets)
        accounts = await open_manager(stack, database, clock, options, event_log_of(settings))
        await accounts.load(options.configured)
        check = AccountCheck(accounts, clock, partial(last_message_at, database.read))
        yield LocalAccounts(accounts, check)
