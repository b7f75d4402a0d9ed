"""For the commands of backfill."""

import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from inboxd.accounts.feature import open_manager
from inboxd.config.schema import Settings
from inboxd.config.secrets import Secrets
from inboxd.conversations.store import participant_changed
from inboxd.http.command_access import CommandAccess
from inboxd.offline.configuration import configuration, event_log_of
from inboxd.options import account_options
from inboxd.profiles.cache import ProfileCache
from inboxd.profiles.metrics import ProfileMetrics
from inboxd.profiles.sync import ProfileSyncs, SyncServices
from inboxd.runs.backfill.account_workers import BackfillWorkers
from inboxd.runs.backfill.service import BackfillService
from inboxd.runs.backfill.store import BackfillStore
from inboxd.runs.commands import OpenedRuns, RunsAccess
from inboxd.runtime.clock import Clock
from inboxd.runtime.metrics import Metrics
from inboxd.runtime.supervisor import Supervisor
from inboxd.storage.database import Database


def backfill(config_path: Path | None) -> RunsAccess:
    """For the commands of backfill. Raises ConfigError."""
    found = configuration(config_path)
    return RunsAccess(
        CommandAccess(found.client, partial(_backfilling, *found)),
        CommandAccess(found.client, partial(_backfills, found.settings, found.database)),
    )


@asynccontextmanager
async def _backfills(settings: Settings, path: Path) -> AsyncIterator[OpenedRuns]:
    """Backfill runs, which nobody carries out. Raises InboxdError."""
    async with Database(path) as database:
        backfills = BackfillStore(database, event_log_of(settings))
        yield BackfillService(backfills, Clock()), backfills


@asynccontextmanager
async def _backfilling(settings: Settings, secrets: Secrets, database_path: Path) -> AsyncIterator[OpenedRuns]:
    """Backfill without a daemon: runs are carried out for as long as this is open. Raises InboxdError."""
    clock, metrics = Clock(), Metrics()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database(database_path))
        options = account_options(settings, secrets)
        event_log = event_log_of(settings)
        accounts = await open_manager(stack, database, clock, options, event_log)
        supervisor = await stack.enter_async_context(Supervisor(clock, metrics, random.random, on_give_up=lambda: None))
        backfills = BackfillStore(database, event_log)
        service = BackfillService(backfills, clock)
        cache = ProfileCache(clock, ttl_s=settings.profiles.cache_ttl_s, size=settings.profiles.cache_size)
        await accounts.load(options.configured)
        syncs = ProfileSyncs(
            SyncServices(
                database=database,
                cache=cache,
                clock=clock,
                metrics=ProfileMetrics(metrics.registry),
                event_log=event_log,
                random=random.random,
                on_picture=lambda: None,
                on_profile=participant_changed,
            )
        )
        workers = BackfillWorkers(service, backfills, sync_of=syncs.of, clock=clock, random=random.random)
        for managed in accounts.served.values():
            for worker, schedule in workers.for_account(managed):
                supervisor.start(worker, schedule)
        yield service, backfills
