"""What commands work with when no daemon runs, beside the way to the running one."""

import os
import random
import sys
from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from inboxd.accounts import personal_data_store as accounts_data
from inboxd.accounts.check import AccountCheck
from inboxd.accounts.clients import LocalAccounts
from inboxd.accounts.event_recording import EVENT_TYPES as ACCOUNT_EVENTS
from inboxd.accounts.feature import open_manager
from inboxd.accounts.store import stored
from inboxd.accounts.vault import Vault, key_from
from inboxd.command_setup import settings_of
from inboxd.comments import personal_data_store as comments_data
from inboxd.comments.event_types import EVENT_TYPES as COMMENT_EVENTS
from inboxd.config.admin_access import admin_access
from inboxd.config.schema import Settings
from inboxd.config.secrets import Secrets, load_secrets
from inboxd.conversations import personal_data_store as conversations_data
from inboxd.conversations.commands import OfflineInbox
from inboxd.conversations.delivery_retries import DELIVERY_FAILED
from inboxd.conversations.event_types import event_types as conversation_events
from inboxd.conversations.read_back import ReadBackService
from inboxd.conversations.store import last_message_at, participant_changed
from inboxd.conversations.webhook_event_types import WEBHOOK_EVENT_TYPES
from inboxd.domain.event import EventType
from inboxd.events import personal_data_store as events_data
from inboxd.events.log import EventLog, EventReader
from inboxd.forwarding import personal_data_store as forwarding_data
from inboxd.forwarding.clients import LocalEndpoints, NoWorkers
from inboxd.forwarding.nats import personal_data_store as nats_data
from inboxd.forwarding.progress_store import ProgressStore
from inboxd.forwarding.service import EndpointService
from inboxd.forwarding.store import EndpointStore
from inboxd.forwarding.target import TargetClient
from inboxd.http.client import AdminClient
from inboxd.http.command_access import CommandAccess
from inboxd.options import account_options
from inboxd.privacy import personal_data_store as privacy_data
from inboxd.privacy.commands import OfflineData
from inboxd.privacy.participant_eraser import ERASED
from inboxd.profiles import personal_data_store as profiles_data
from inboxd.profiles.avatar_store import AVATAR_FOLDER, AvatarStore
from inboxd.profiles.cache import ProfileCache
from inboxd.profiles.event_recording import EVENT_TYPES as PROFILE_EVENTS
from inboxd.profiles.metrics import ProfileMetrics
from inboxd.profiles.sync import ProfileSyncs, SyncServices
from inboxd.receiving import personal_data_store as receiving_data
from inboxd.reconciliation import personal_data_store as reconciliation_data
from inboxd.reconciliation.event_types import EVENT_TYPES as RECONCILIATION_EVENTS
from inboxd.reconciliation.store import healed_since
from inboxd.runs import personal_data_store as runs_data
from inboxd.runs.account_workers import RunWorkers
from inboxd.runs.backfill.account_workers import BackfillWorkers
from inboxd.runs.backfill.service import BackfillService
from inboxd.runs.backfill.store import BackfillStore
from inboxd.runs.commands import OpenedRuns, RunsAccess
from inboxd.runs.event_types import EVENT_TYPES as RUN_EVENTS
from inboxd.runs.history.imported_conversations_store import ImportedConversationStore
from inboxd.runs.history.service import HistoryService
from inboxd.runs.history.store import HistoryStore
from inboxd.runs.history.worker import SCHEDULE as HISTORY_SCHEDULE
from inboxd.runs.history.worker import HistoryServices, HistoryWorker
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock
from inboxd.runtime.metrics import Metrics
from inboxd.runtime.supervisor import Supervisor
from inboxd.sending import personal_data_store as sending_data
from inboxd.sending.event_types import event_types as sending_events
from inboxd.sending.uploads import personal_data_store as uploads_data
from inboxd.sending.uploads.store import UPLOAD_FOLDER, UploadStore
from inboxd.storage.database import Database
from inboxd.storage.personal_data import PersonalData


class _Configuration(NamedTuple):
    settings: Settings
    secrets: Secrets
    database: Path

    def client(self) -> AdminClient:
        return AdminClient(*admin_access(self.settings, self.secrets))


def inbox(config_path: Path | None) -> CommandAccess[OfflineInbox]:
    """For the commands that import conversations. Raises ConfigError."""
    found = _configuration(config_path)
    return CommandAccess(found.client, partial(_inbox, found.settings, found.database))


def privacy(config_path: Path | None) -> CommandAccess[OfflineData]:
    """For the commands that erase and export. Raises ConfigError."""
    found = _configuration(config_path)
    return CommandAccess(found.client, partial(_privacy, found.settings, found.database))


def accounts(config_path: Path | None) -> CommandAccess[LocalAccounts]:
    """For the commands of accounts. Raises ConfigError."""
    found = _configuration(config_path)
    return CommandAccess(found.client, partial(_accounts, *found))


def backfill(config_path: Path | None) -> RunsAccess:
    """For the commands of backfill. Raises ConfigError."""
    found = _configuration(config_path)
    return RunsAccess(
        CommandAccess(found.client, partial(_backfilling, *found)),
        CommandAccess(found.client, partial(_backfills, found.settings, found.database)),
    )


def daemon(config_path: Path | None) -> AdminClient:
    """For the commands that only the running daemon can carry out. Raises ConfigError."""
    return _configuration(config_path).client()


def endpoints(config_path: Path | None) -> CommandAccess[LocalEndpoints]:
    """For the commands of webhook endpoints. Raises ConfigError."""
    found = _configuration(config_path)
    return CommandAccess(found.client, partial(_endpoints, found.secrets, found.database))


def history(config_path: Path | None) -> RunsAccess:
    """For the commands of history imports. Raises ConfigError."""
    found = _configuration(config_path)
    return RunsAccess(
        CommandAccess(found.client, partial(_importing, *found)),
        CommandAccess(found.client, partial(_imports, found.settings, found.database)),
    )


def events(config_path: Path | None) -> CommandAccess[EventReader]:
    """For the command that shows events. Raises ConfigError."""
    found = _configuration(config_path)
    return CommandAccess(found.client, partial(_events, found.settings, found.database))


def event_types(accounts: Collection[str]) -> tuple[EventType, ...]:
    """The types of all features' events. A test compares them with those of a running daemon's features."""
    conversations = (*conversation_events(accounts), *WEBHOOK_EVENT_TYPES, DELIVERY_FAILED)
    messaging = (*conversations, *sending_events(accounts), *COMMENT_EVENTS)
    return (*ACCOUNT_EVENTS, *PROFILE_EVENTS, *messaging, *RUN_EVENTS, *RECONCILIATION_EVENTS, ERASED)


def _configuration(config_path: Path | None) -> _Configuration:
    """Also sets up what a process needs that may open the database: umask, and errors on stderr."""
    os.umask(0o027)
    logs.set_up(level="error", log_format="console", stream=sys.stderr)
    settings = settings_of(config_path)
    return _Configuration(settings, load_secrets(os.environ), settings.storage.resolved(os.environ))


@asynccontextmanager
async def _inbox(settings: Settings, path: Path) -> AsyncIterator[OfflineInbox]:
    """The database, and the event log in it. Raises InboxdError."""
    async with Database(path) as database:
        yield OfflineInbox(database, _event_log(settings))


def _event_log(settings: Settings) -> EventLog:
    return EventLog(Clock(), ids_only=lambda: settings.events.ids_only)


@asynccontextmanager
async def _events(settings: Settings, path: Path) -> AsyncIterator[EventReader]:
    """The event log, which nobody appends to. Raises InboxdError."""
    async with Database(path) as database:
        accounts = {account.id for account in settings.accounts}
        for one in await stored(database.read):
            accounts.update(one.account.aliases)
        yield EventReader(database, event_types(accounts))


@asynccontextmanager
async def _privacy(settings: Settings, path: Path) -> AsyncIterator[OfflineData]:
    """The database, and what the features declare about it. Raises InboxdError."""
    async with Database(path) as database:
        avatars = AvatarStore(database, path.parent / AVATAR_FOLDER)
        declared = personal_data(database, avatars, ProfileCache(Clock(), ttl_s=1, size=1))
        yield OfflineData(database, declared, _event_log(settings))


def personal_data(database: Database, avatars: AvatarStore, cache: ProfileCache) -> tuple[PersonalData, ...]:
    """What the features declare, the lowest first. A test compares it with what a running daemon's features declare."""
    return (
        *receiving_data.personal_data(database),
        *events_data.personal_data(database),
        *accounts_data.personal_data(),
        *profiles_data.personal_data(database, avatars, cache),
        *conversations_data.personal_data(database),
        *sending_data.personal_data(database),
        *uploads_data.personal_data(database, UploadStore(database, database.path.parent / UPLOAD_FOLDER)),
        *comments_data.personal_data(database),
        *runs_data.personal_data(),
        *reconciliation_data.personal_data(database),
        *forwarding_data.personal_data(),
        *nats_data.personal_data(),
        *privacy_data.personal_data(),
    )


@asynccontextmanager
async def _accounts(settings: Settings, secrets: Secrets, database_path: Path) -> AsyncIterator[LocalAccounts]:
    """The accounts, loaded; nobody works for them. Raises InboxdError."""
    clock = Clock()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database(database_path))
        options = account_options(settings, secrets)
        accounts = await open_manager(stack, database, clock, options, _event_log(settings))
        await accounts.load(options.configured)
        check = AccountCheck(accounts, clock, partial(last_message_at, database.read))
        yield LocalAccounts(accounts, check)


@asynccontextmanager
async def _backfills(settings: Settings, path: Path) -> AsyncIterator[OpenedRuns]:
    """Backfill runs, which nobody carries out. Raises InboxdError."""
    async with Database(path) as database:
        backfills = BackfillStore(database, _event_log(settings))
        yield BackfillService(backfills, Clock()), backfills


@asynccontextmanager
async def _imports(settings: Settings, path: Path) -> AsyncIterator[OpenedRuns]:
    """History imports, which nobody carries out. Raises InboxdError."""
    async with Database(path) as database:
        imports = HistoryStore(database, _event_log(settings))
        yield HistoryService(imports, Clock()), imports


@asynccontextmanager
async def _endpoints(secrets: Secrets, database_path: Path) -> AsyncIterator[LocalEndpoints]:
    """The webhook endpoints, to look at; nothing is pushed. Raises InboxdError."""
    clock = Clock()
    async with Database(database_path) as database:
        vault = Vault(secrets.storage_keys or (key_from(database_path.parent)[0],))
        store, progress = EndpointStore(database, vault), ProgressStore(database)
        target = TargetClient(clock, tuple)
        yield LocalEndpoints(EndpointService(store, progress, EventReader(database, ()), target, clock, NoWorkers()))


@asynccontextmanager
async def _importing(settings: Settings, secrets: Secrets, database_path: Path) -> AsyncIterator[OpenedRuns]:
    """History imports without a daemon: they are carried out for as long as this is open. Raises InboxdError."""
    clock, metrics = Clock(), Metrics()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database(database_path))
        options, event_log = account_options(settings, secrets), _event_log(settings)
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
            healed_since=partial(healed_since, database.read),
            clock=clock,
            random=random.random,
        )
        workers = RunWorkers(service, imports, clock, HISTORY_SCHEDULE, lambda one: HistoryWorker(one, services))
        for managed in accounts.served.values():
            for worker, schedule in workers.for_account(managed):
                supervisor.start(worker, schedule)
        yield service, imports


@asynccontextmanager
async def _backfilling(settings: Settings, secrets: Secrets, database_path: Path) -> AsyncIterator[OpenedRuns]:
    """Backfill without a daemon: runs are carried out for as long as this is open. Raises InboxdError."""
    clock, metrics = Clock(), Metrics()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database(database_path))
        options = account_options(settings, secrets)
        event_log = _event_log(settings)
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
