"""The composition root: builds every part once, in order, and hands each what it needs."""

import asyncio
import gc
import ipaddress
import random
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from aiohttp import web

from inboxd import __version__, logs
from inboxd.clock import Clock
from inboxd.config import Backfill, Secrets, Settings, require_secrets
from inboxd.domain.account import AccountState, Flavour
from inboxd.errors import EX_OK, EX_SOFTWARE
from inboxd.meta.budget import Traffic
from inboxd.meta.graph import GraphClient
from inboxd.meta.pictures import PictureClient, PictureRules
from inboxd.meta.signature import SignatureVerifier
from inboxd.metrics import Metrics
from inboxd.notify import Notifier
from inboxd.secret import Secret
from inboxd.store.accounts import AccountStore
from inboxd.store.avatars import Avatars
from inboxd.store.backfills import Backfills
from inboxd.store.database import Database
from inboxd.store.deletions import Deletions
from inboxd.store.graph_calls import GraphCalls
from inboxd.store.inbox import Inbox
from inboxd.store.profile_cache import ProfileCache
from inboxd.store.search import SearchIndex
from inboxd.store.vault import KEY_FILE, Vault, key_from
from inboxd.web.admin import MetricsPage, admin_application
from inboxd.web.api.accounts import AccountsApi
from inboxd.web.api.backfills import BackfillsApi
from inboxd.web.api.conversations import ConversationsApi
from inboxd.web.api.deliveries import DeliveriesApi
from inboxd.web.api.docs import DocsPage
from inboxd.web.api.operations import Operation
from inboxd.web.api.participants import ParticipantsApi
from inboxd.web.api.streams import Streams
from inboxd.web.api.system import SystemApi
from inboxd.web.auth import AccessToken
from inboxd.web.callbacks import Callbacks
from inboxd.web.connections import KEEPALIVE_S, GuardedSite, bind, url_of
from inboxd.web.health import Health
from inboxd.web.webhooks import Webhooks
from inboxd.workers.accounts import Accounts, ConfiguredAccount, Limits
from inboxd.workers.avatars import AvatarKeeper
from inboxd.workers.backfill import BackfillDesk, BackfillWorker
from inboxd.workers.checkup import Checkup
from inboxd.workers.deletion import Eraser
from inboxd.workers.enrich import Enricher
from inboxd.workers.feed import Feed
from inboxd.workers.housekeeping import Housekeeping
from inboxd.workers.ingest import RUSH, Ingest
from inboxd.workers.pool import WorkerPool
from inboxd.workers.schedule import BackfillSchedule
from inboxd.workers.search import SearchIndexer
from inboxd.workers.staff import AccountStaff
from inboxd.workers.watchdog import Watchdog

AVATAR_FOLDER: Final = "avatars"
SHUTDOWN_S: Final = 1.0
"""How long requests in flight get to finish when the daemon stops."""
ADMIN_CONNECTIONS: Final = 64


class Daemon:
    """A running inboxd: where it listens, and whether it still can do its job."""

    def __init__(self, public_url: str, admin_url: str, pool: WorkerPool) -> None:
        self.public_url = public_url
        self.admin_url = admin_url
        self._pool = pool

    @property
    def gave_up(self) -> bool:
        """Whether a background worker crashed too often to go on."""
        return self._pool.gave_up


@asynccontextmanager
async def running(
    settings: Settings,
    secrets: Secrets,
    database_path: Path,
    *,
    on_give_up: Callable[[], None],
    clock: Clock | None = None,
    notifier: Notifier | None = None,
) -> AsyncIterator[Daemon]:
    """The daemon, from its first to its last moment. `on_give_up` is called when it can no longer do its job.

    Parts start from the bottom up and stop from the top down: first nobody new is let in and requests in flight are
    answered, then the workers end, then the writer commits what it holds and the file is closed.
    Raises InboxdError when a part cannot start; those already started are stopped.
    """
    verify_token = require_secrets(secrets)
    clock = clock or Clock()
    metrics = Metrics()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database(database_path, on_commit=metrics.observe_commit))
        inbox = Inbox(database, clock, max_waiting=settings.public.max_waiting)
        cache = ProfileCache(clock, ttl_s=settings.profiles.cache_ttl_s, size=settings.profiles.cache_size)
        pictures = await stack.enter_async_context(PictureClient(_picture_rules(settings)))
        accounts = await stack.enter_async_context(serving_accounts(settings, secrets, database, clock))
        pool = await stack.enter_async_context(WorkerPool(clock, metrics, random.random, on_give_up=on_give_up))
        avatars = Avatars(database, database_path.parent / AVATAR_FOLDER)
        portraits = AvatarKeeper(avatars, pictures, clock, metrics, random.random, max_count=settings.avatars.max_count)
        feed = Feed(clock)
        backfills = Backfills(database)
        desk = BackfillDesk(backfills, clock)
        staff = AccountStaff(
            accounts,
            database,
            cache,
            pool,
            clock,
            metrics,
            feed,
            backfills,
            desk,
            random=random.random,
            concurrency=settings.profiles.concurrency,
            on_picture=portraits.wake,
        )
        await accounts.load(configured_accounts(settings, secrets), staff)
        deletions = Deletions(database)

        async def erased(account_id: str) -> None:
            await avatars.sweep()
            served = accounts.served.get(account_id)
            if served is not None and not served.account.configured:
                await accounts.remove(served)

        pool.start(
            Ingest(
                database,
                inbox,
                cache,
                accounts=accounts.aliases,
                clock=clock,
                metrics=metrics,
                random=random.random,
                on_due=staff.wrote,
                feed=feed,
            )
        )
        pool.start(portraits)
        eraser = Eraser(deletions, clock, on_erased=erased)
        pool.start(eraser)
        pool.start(
            Housekeeping(
                database,
                inbox,
                backfills,
                clock,
                keep_deliveries_days=settings.storage.keep_deliveries_days,
                keep_runs_days=settings.backfill.keep_runs_days,
            )
        )
        pool.start(SearchIndexer(SearchIndex(database), clock, busy=lambda: inbox.pressure > RUSH))
        if settings.backfill.schedule:
            pool.start(_schedule(settings.backfill, desk, backfills, accounts, clock))

        if notifier is not None:
            pool.start(Watchdog(notifier, database, clock, partial(_condition, accounts, database)))

        streams = Streams(feed)
        parts: list[Api] = [
            Health(database, lambda: pool.gave_up),
            ConversationsApi(database, accounts.aliases, clock),
            ParticipantsApi(database, avatars, clock, staff.wrote),
            AccountsApi(accounts, Checkup(accounts, clock), database.read),
            BackfillsApi(desk, backfills, streams, clock),
            DeliveriesApi(inbox, database.read),
            streams,
            SystemApi(database, inbox, clock, lambda: pool.running, lambda: pool.gave_up),
            DocsPage(),
            MetricsPage(metrics, inbox, accounts, clock),
        ]
        operations = [operation for part in parts for operation in part.operations()]
        admin = admin_application(access_tokens(secrets), operations, clock, max_failures=settings.admin.max_failures)
        admin.on_shutdown.append(streams.close)
        admin_url = await stack.enter_async_context(
            _listening(
                admin,
                bind(settings.admin.host, settings.admin.port, key="admin"),
                settings,
                metrics,
                max_connections=ADMIN_CONNECTIONS,
            )
        )
        public = _webhooks(inbox, secrets, verify_token, metrics).application(
            max_body_bytes=settings.public.max_body_bytes
        )
        Callbacks(
            secrets.app_secrets,
            deletions,
            clock,
            deauthorize=partial(_deauthorize, accounts),
            on_deletion=eraser.wake,
            base_url=settings.public.base_url or None,
        ).add_routes(public)
        public_url = await stack.enter_async_context(
            _listening(
                public,
                bind(settings.public.host, settings.public.port, key="public"),
                settings,
                metrics,
                max_connections=settings.public.max_connections,
            )
        )
        yield Daemon(public_url, admin_url, pool)


async def serve(settings: Settings, secrets: Secrets, database_path: Path) -> int:
    """Run until SIGTERM or SIGINT, or until a worker has given up; returns the exit code."""
    log = logs.get("app")
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    notifier = Notifier()
    async with running(settings, secrets, database_path, on_give_up=stop.set, notifier=notifier) as daemon:
        # What was built by now lives until the end: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        log.info("started", version=__version__, public=daemon.public_url, admin=daemon.admin_url)
        if not access_tokens(secrets):
            log.warning("admin_api_off", reason="no admin_token is configured")
        notifier.send(READY="1")
        await stop.wait()
        notifier.send(STOPPING="1")
        log.info("stopping")
    log.info("stopped")
    return EX_SOFTWARE if daemon.gave_up else EX_OK


def _webhooks(inbox: Inbox, secrets: Secrets, verify_token: Secret, metrics: Metrics) -> Webhooks:
    verifier = SignatureVerifier([secret.reveal() for secret in secrets.app_secrets])
    return Webhooks(inbox, verifier, verify_token, metrics)


@asynccontextmanager
async def serving_accounts(
    settings: Settings,
    secrets: Secrets,
    database: Database,
    clock: Clock,
) -> AsyncIterator[Accounts]:
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
        for flavour, url in ((Flavour.INSTAGRAM, options.graph_url), (Flavour.FACEBOOK, options.facebook_graph_url)):
            client = GraphClient(url, options.graph_version, timeout_s=options.timeout_s, clock=clock)
            clients[flavour] = await stack.enter_async_context(client)
        yield Accounts(
            AccountStore(database),
            Vault(keys),
            GraphCalls(database, clock),
            Traffic(clock),
            clients,
            Limits(settings.budget.calls_per_hour, settings.budget.calls_per_second, options.timeout_s),
            clock,
            app_secrets=secrets.app_secrets,
            app_id=options.app_id or None,
        )


@asynccontextmanager
async def backfilling(
    settings: Settings, secrets: Secrets, database_path: Path
) -> AsyncIterator[tuple[BackfillDesk, Backfills]]:
    """Backfill without a daemon: a desk whose runs are carried out for as long as this lasts. Raises InboxdError."""
    clock, metrics = Clock(), Metrics()
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database(database_path))
        accounts = await stack.enter_async_context(serving_accounts(settings, secrets, database, clock))
        pool = await stack.enter_async_context(WorkerPool(clock, metrics, random.random, on_give_up=lambda: None))
        backfills = Backfills(database)
        desk = BackfillDesk(backfills, clock)
        cache = ProfileCache(clock, ttl_s=settings.profiles.cache_ttl_s, size=settings.profiles.cache_size)
        feed = Feed(clock)
        await accounts.load(configured_accounts(settings, secrets))
        for served in accounts.served.values():
            enricher = Enricher(
                served,
                database=database,
                cache=cache,
                clock=clock,
                metrics=metrics,
                feed=feed,
                random=random.random,
                on_picture=lambda: None,
            )
            worker = BackfillWorker(enricher, backfills, clock, feed, random.random)
            desk.enter(worker, enricher)
            pool.start(worker)
        yield desk, backfills


def configured_accounts(settings: Settings, secrets: Secrets) -> list[ConfiguredAccount]:
    """The accounts of the configuration, with their tokens."""
    return [
        ConfiguredAccount(
            id=account.id,
            flavour=Flavour(account.flavour),
            name=account.name,
            page_id=account.page_id or None,
            token=secrets.account_tokens.get(account.id),
        )
        for account in settings.accounts
    ]


def access_tokens(secrets: Secrets) -> list[AccessToken]:
    """Who may use the admin API."""
    everything = [] if secrets.admin_token is None else [AccessToken("admin", ("read", "write"), secrets.admin_token)]
    return everything + [AccessToken(one.name, one.scopes, one.token) for one in secrets.named_tokens]


class Api(Protocol):
    """A part of the admin API."""

    def operations(self) -> Sequence[Operation]:
        """What can be done."""


def _condition(accounts: Accounts, database: Database) -> str:
    """How we are, in one line for `systemctl status`."""
    served = list(accounts.served.values())
    receiving = "receiving" if database.refusal is None else f"not receiving: {database.refusal}"
    idle = sum(not one.account.callable for one in served)
    paused = sum(one.graph.budget.report().paused_until is not None for one in served)
    needs = f", {idle} without calls" if idle else ""
    return f"{receiving}; {len(served)} accounts{needs}; budget {f'paused for {paused}' if paused else 'ok'}"


def _schedule(
    options: Backfill, desk: BackfillDesk, backfills: Backfills, accounts: Accounts, clock: Clock
) -> BackfillSchedule:
    return BackfillSchedule(
        desk,
        backfills,
        lambda: accounts.served,
        clock,
        random.random,
        expression=options.schedule,
        jitter_s=options.jitter_s,
        batch_size=options.batch_size,
        skip=options.skip_accounts,
    )


async def _deauthorize(accounts: Accounts, user_id: str) -> str | None:
    """The app user `user_id` removed the app; the id of their account, if it is one of ours."""
    served = accounts.find(user_id)
    if served is None:
        return None
    reason = "the owner removed the app; log in again to serve the account"
    await accounts.stop_calls(served, AccountState.DEAUTHORIZED, reason)
    return served.account.id


def _picture_rules(settings: Settings) -> PictureRules:
    return PictureRules(
        hosts=[host.lower() for host in settings.avatars.hosts],
        allow_http=settings.avatars.allow_http,
        allow_networks=[ipaddress.ip_network(text) for text in settings.avatars.allow_networks],
    )


@asynccontextmanager
async def _listening(
    app: web.Application, sock: socket.socket, settings: Settings, metrics: Metrics, *, max_connections: int
) -> AsyncIterator[str]:
    """Serve `app` on `sock`; yields its URL. On the way out requests in flight get SHUTDOWN_S to finish."""
    runner = web.AppRunner(
        app,
        access_log=None,
        auto_decompress=False,  # signatures are over the bytes on the wire
        keepalive_timeout=KEEPALIVE_S,
        shutdown_timeout=SHUTDOWN_S,
    )
    await runner.setup()
    try:
        await GuardedSite(
            runner,
            sock,
            max_connections=max_connections,
            request_timeout_s=settings.public.request_timeout_s,
            on_refused=lambda reason: metrics.connections_refused.labels(reason).inc(),
        ).start()
        yield url_of(sock)
    finally:
        await runner.cleanup()
        sock.close()
