"""For the commands of webhook endpoints."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from inboxd.accounts.vault import Vault, key_from
from inboxd.config.secrets import Secrets
from inboxd.events.log import EventReader
from inboxd.forwarding.clients import LocalEndpoints, NoWorkers
from inboxd.forwarding.progress_store import ProgressStore
from inboxd.forwarding.service import EndpointService
from inboxd.forwarding.store import EndpointStore
from inboxd.forwarding.target import TargetClient
from inboxd.http.command_access import CommandAccess
from inboxd.offline.configuration import configuration
from inboxd.runtime.clock import Clock
from inboxd.storage.database import Database


def endpoints(config_path: Path | None) -> CommandAccess[LocalEndpoints]:
    """For the commands of webhook endpoints. Raises ConfigError."""
    found = configuration(config_path)
    return CommandAccess(found.client, partial(_endpoints, found.secrets, found.database))


@asynccontextmanager
async def _endpoints(secrets: Secrets, database_path: Path) -> AsyncIterator[LocalEndpoints]:
    """The webhook endpoints, to look at; nothing is pushed. Raises InboxdError."""
    clock = Clock()
    async with Database(database_path) as database:
        vault = Vault(secrets.storage_keys or (key_from(database_path.parent)[0],))
        store, progress = EndpointStore(database, vault), ProgressStore(database)
        target = TargetClient(clock, tuple)
        yield LocalEndpoints(EndpointService(store, progress, EventReader(database, ()), target, clock, NoWorkers()))
