"""For the commands that import conversations."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from inboxd.config.schema import Settings
from inboxd.conversations.commands import OfflineInbox
from inboxd.http.command_access import CommandAccess
from inboxd.offline.configuration import configuration, event_log_of
from inboxd.storage.database import Database


def inbox(config_path: Path | None) -> CommandAccess[OfflineInbox]:
    """For the commands that import conversations. Raises ConfigError."""
    found = configuration(config_path)
    return CommandAccess(found.client, partial(_inbox, found.settings, found.database))


@asynccontextmanager
async def _inbox(settings: Settings, path: Path) -> AsyncIterator[OfflineInbox]:
    """The database, and the event log in it. Raises InboxdError."""
    async with Database(path) as database:
        yield OfflineInbox(database, event_log_of(settings))
