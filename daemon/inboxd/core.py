"""The parts of a daemon that store, think and call Meta: built once, in order, from the bottom up."""

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from inboxd import __version__
from inboxd.accounts import personal_data_store as accounts_data
from inboxd.accounts.call_log_store import SqliteCallLog
from inboxd.accounts.manager import AccountManager
from inboxd.accounts.metrics import AccountMetrics
from inboxd.accounts.store import AccountStore
from inboxd.accounts.vault import KEY_FILE, Vault, key_from
from inboxd.accounts.workers import AccountWorkers, workers_of
from inboxd.config.schema import Settings
from inboxd.config.secrets import Secrets
from inboxd.conversations import personal_data_store as conversations_data
from inboxd.conversations.pacing import RUSH
from inboxd.conversations.store import participant_changed
from inboxd.domain.account import LoginType
from inboxd.events.bus import EventBus
from inboxd.maintenance.metrics import TrafficMetrics
from inboxd.maintenance.traffic_monitor import TrafficMonitor
from inboxd.meta.budget import AppBudget
from inboxd.meta.graph import GraphClient
from inboxd.meta.pictures import PictureClient
from inboxd.options import Keep, configured_accounts, lifetimes, limits, picture_rules
from inboxd.privacy import personal_data_store as privacy_data
from inboxd.privacy.account_eraser import AccountEraser
from inboxd.privacy.deletion_store import DeletionStore
from inboxd.privacy.deletion_worker import DeletionWorker
from inboxd.privacy.retention_worker import RetentionWorker
from inboxd.profiles import personal_data_store as profiles_data
from inboxd.profiles.avatar_store import AVATAR_FOLDER, AvatarStore
from inboxd.profiles.avatar_worker import AvatarDownloader
from inboxd.profiles.cache import ProfileCache
from inboxd.profiles.fetchers import ProfileFetchers
from inboxd.profiles.metrics import ProfileMetrics
from inboxd.profiles.store import ProfileStore
from inboxd.profiles.sync import ProfileSyncs, SyncServices
from inboxd.receiving import personal_data_store as receiving_data
from inboxd.receiving.store import Inbox
from inboxd.runs.backfill import personal_data_store as backfill_data
from inboxd.runs.backfill.account_workers import BackfillWorkers
from inboxd.runs.backfill.service import BackfillService
from inboxd.runs.backfill.store import BackfillStore
from inboxd.runs.moments_store import MomentStore
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock
from inboxd.runtime.metrics import Metrics
from inboxd.runtime.supervisor import Supervisor
from inboxd.storage.database import Database
from inboxd.storage.personal_data import Expiry, PersonalData


@dataclass
class Lifetimes:
    """For how many days things are kept. It can be changed while the daemon runs."""

    keep: Keep


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a daemon consists of, apart from its listeners. Only the workers of accounts run already."""

    clock: Clock
    metrics: Metrics
    account_metrics: AccountMetrics
    database: Database
    inbox: Inbox
    cache: ProfileCache
    accounts: AccountManager
    supervisor: Supervisor
    avatars: AvatarStore
    avatar_downloader: AvatarDownloader
    bus: EventBus
    backfills: BackfillStore
    backfill_service: BackfillService
    fetchers: ProfileFetchers
    deletions: DeletionStore
    deletion: DeletionWorker
    housekeeping: RetentionWorker
    lifetimes: Lifetimes
    personal_data: tuple[PersonalData, ...]
    traffic: TrafficMonitor


@asynccontextmanager
async def open_core(
    settings: Settings, secrets: Secrets, database_path: Path, clock: Clock, *, on_give_up: Callable[[], None]
) -> AsyncIterator[Parts]:
    """The parts, from their first to their last moment: they end in the opposite order, the database last.

    Raises InboxdError when a part cannot start; those already started are stopped.
    """
    metrics = Metrics(__version__)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database(database_path, on_commit=metrics.observe_commit))
        inbox = Inbox(database, clock, max_waiting=settings.public.max_waiting)
        await inbox.recall()
        profile_metrics = ProfileMetrics(metrics.registry)
        cache = ProfileCache(
            clock,
            ttl_s=settings.profiles.cache_ttl_s,
            size=settings.profiles.cache_size,
            on_lookup=profile_metrics.observe_lookup,
        )
        pictures = await stack.enter_async_context(PictureClient(picture_rules(settings)))
        accounts = await stack.enter_async_context(serving_accounts(settings, secrets, database, clock))
        supervisor = await stack.enter_async_context(Supervisor(clock, metrics, random.random, on_give_up=on_give_up))
        avatars = AvatarStore(database, database_path.parent / AVATAR_FOLDER)
        avatar_downloader = AvatarDownloader(
            avatars, pictures, clock, profile_metrics, random.random, max_count=settings.avatars.max_count
        )
        bus = EventBus(clock)
        syncs = ProfileSyncs(
            SyncServices(
                database=database,
                cache=cache,
                clock=clock,
                metrics=profile_metrics,
                bus=bus,
                random=random.random,
                on_picture=avatar_downloader.wakeup.notify,
                on_profile=participant_changed,
            )
        )
        fetchers = ProfileFetchers(syncs, ProfileStore(database), clock, concurrency=settings.profiles.concurrency)
        backfills = BackfillStore(database)
        backfill_service = BackfillService(backfills, clock)
        backfill_workers = BackfillWorkers(
            backfill_service, backfills, sync_of=syncs.of, clock=clock, bus=bus, random=random.random
        )
        account_metrics = AccountMetrics(metrics.registry)

        async def account_removed(account_id: str) -> None:
            fetchers.remove(account_id)
            await backfill_workers.account_removed(account_id)

        own_workers = partial(workers_of, accounts=accounts, clock=clock, metrics=account_metrics)
        account_workers = AccountWorkers(
            supervisor, [fetchers.for_account, backfill_workers.for_account, own_workers], [account_removed]
        )
        await accounts.load(configured_accounts(settings, secrets), account_workers)
        data = personal_data(database, avatars, cache)
        deletions = DeletionStore(database, data)
        kept = Lifetimes(lifetimes(settings))

        async def erased(account_id: str) -> None:
            served = accounts.served.get(account_id)
            if served is not None and not served.account.configured:
                await accounts.remove(served)
            elif served is not None:
                await accounts.update(served, username=None, app_scoped_id=None)

        yield Parts(
            clock=clock,
            metrics=metrics,
            account_metrics=account_metrics,
            database=database,
            inbox=inbox,
            cache=cache,
            accounts=accounts,
            supervisor=supervisor,
            avatars=avatars,
            avatar_downloader=avatar_downloader,
            bus=bus,
            backfills=backfills,
            backfill_service=backfill_service,
            fetchers=fetchers,
            deletions=deletions,
            deletion=DeletionWorker(
                AccountEraser(database, data, clock), deletions, accounts.aliases, clock, on_erased=erased
            ),
            housekeeping=RetentionWorker(
                database,
                expiries(database, backfills, deletions, clock, kept),
                MomentStore(database),
                clock,
                newest_message_at=lambda: conversations_data.newest_message_at(database.read),
                busy=lambda: inbox.pressure > RUSH,
            ),
            lifetimes=kept,
            personal_data=data,
            traffic=TrafficMonitor(
                database.read,
                accounts,
                clock,
                TrafficMetrics(metrics.registry),
                silent_after_hours=settings.traffic.silent_after_hours,
            ),
        )


def personal_data(database: Database, avatars: AvatarStore, cache: ProfileCache) -> tuple[PersonalData, ...]:
    """What the features declare about the personal data that they keep, the lowest feature first."""
    return (
        *receiving_data.personal_data(database),
        *accounts_data.personal_data(),
        *profiles_data.personal_data(database, avatars, cache),
        *conversations_data.personal_data(database),
        *backfill_data.personal_data(),
        *privacy_data.personal_data(),
    )


def expiries(
    database: Database, backfills: BackfillStore, deletions: DeletionStore, clock: Clock, kept: Lifetimes
) -> tuple[Expiry, ...]:
    """What the features declare about how long they keep rows."""
    return (
        *receiving_data.expiries(
            database,
            deliveries=lambda: kept.keep.deliveries,
            failed=lambda: kept.keep.failed,
            events=lambda: kept.keep.events,
        ),
        *conversations_data.expiries(
            database, clock, early_changes=lambda: kept.keep.events, messages=lambda: kept.keep.messages
        ),
        *backfill_data.expiries(backfills, days=lambda: kept.keep.runs),
        *privacy_data.expiries(deletions),
    )


@asynccontextmanager
async def serving_accounts(
    settings: Settings,
    secrets: Secrets,
    database: Database,
    clock: Clock,
) -> AsyncIterator[AccountManager]:
    """The accounts, with connections to both Graph APIs; not yet loaded. Raises ConfigError for a bad storage_key."""
    keys = secrets.storage_keys
    if not keys:
        key, is_new = key_from(database.path.parent)
        keys = (key,)
        if is_new:
            logs.get("app").warning(
                "storage_key_made", file=KEY_FILE, remedy="back it up, or give your own: without it tokens are lost"
            )
    options = settings.instagram
    async with AsyncExitStack() as stack:
        clients = {}
        for login_type, url in (
            (LoginType.INSTAGRAM, options.graph_url),
            (LoginType.FACEBOOK, options.facebook_graph_url),
        ):
            client = GraphClient(url, options.graph_version, timeout_s=options.timeout_s, clock=clock)
            clients[login_type] = await stack.enter_async_context(client)
        yield AccountManager(
            AccountStore(database),
            Vault(keys),
            SqliteCallLog(database, clock),
            AppBudget(clock),
            clients,
            limits(settings),
            clock,
            app_secrets=secrets.app_secrets,
            app_id=options.app_id or None,
        )
