"""For the commands of history imports."""

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from inboxd.accounts.feature import open_manager
from inboxd.config.schema import Settings
from inboxd.config.secrets import Secrets
from inboxd.conversations.read_back import ReadBackService
from inboxd.http.command_access import CommandAccess
from inboxd.offline.configuration import configuration, event_log_of
from inboxd.options import account_options
from inboxd.reconciliation.store import ReconciliationStore
from inboxd.runs.account_workers import RunWorkers
from inboxd.runs.commands import OpenedRuns, RunsAccess
from inboxd.runs.history.imported_conversations_store import ImportedConversationStore
from inboxd.runs.history.service import HistoryService
from inboxd.runs.history.store import HistoryStore
from inboxd.runs.history.worker import SCHEDULE as HISTORY_SCHEDULE
from inboxd.runs.history.worker import HistoryServices, HistoryWorker
from inboxd.runtime.clock import Clock
from inboxd.runtime.metrics import Metrics
from inboxd.runtime.supervisor import Supervisor
from inboxd.storage.database import Database


def history(config_path: Path | None) -> RunsAccess:
    """For the commands of history imports. Raises ConfigError."""
    found = configuration(config_path)
    return RunsAccess(
        CommandAccess(found.client, partial(_importing, *found)),
        CommandAccess(found.client, partial(_imports, found.settings, found.database)),
    )


@asynccontextmanager
async def _imports(settings: Settings, path: Path) -> AsyncIterator[OpenedRuns]:
    """History imports, which nobody carries out. Raises InboxdError."""
    async with Database(path) as database:
        imports = HistoryStore(database, event_log_of(settings))
        yield HistoryService(imports, Clock()), imports


@asynccontextmanager
async def _importing(settings: Settings, secrets: Secrets, database_path: Path) -> AsyncIterator[OpenedRuns]:
    """History imports without a daemon: they are carried out for as long as this is open. Raises InboxdError."""
    clock, metrics = Clock(), Metrics()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database(database_path))
        options, event_log = account_options(settings, secrets), event_log_of(settings)
        accounts = await open_manager(stack, database, clock, options, event_log)
        supervisor = await stack.enter_async_context(Supervisor(clock, metrics, random.random, on_give_up=lambda: None))
        await accounts.load(options.configured)
        imports = HistoryStore(database, event_log)
        service = HistoryService(imports, clock)
        services = HistoryServices(
            imports=imports,
            imported=ImportedConversationStore(database),
            read_back=ReadBackService(database, event_log, clock),
            aliases=accounts.aliases,
            reconciled=ReconciliationStore(database),
            clock=clock,
            random=random.random,
        )
        workers = RunWorkers(service, imports, clock, HISTORY_SCHEDULE, lambda one: HistoryWorker(one, services))
        for managed in accounts.served.values():
            for worker, schedule in workers.for_account(managed):
                supervisor.start(worker, schedule)
        yield service, imports
