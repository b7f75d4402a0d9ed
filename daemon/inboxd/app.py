"""The composition root: builds every part once, in order, and hands each what it needs."""

import asyncio
import gc
import ipaddress
import random
import signal
import socket
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

from aiohttp import web

from inboxd import __version__, logs
from inboxd.clock import Clock
from inboxd.config import Secrets, Settings, require_secrets
from inboxd.domain.account import AccountState, Flavour
from inboxd.domain.conversation import ConversationKey
from inboxd.errors import EX_OK, EX_SOFTWARE
from inboxd.meta.budget import Traffic
from inboxd.meta.graph import GraphClient
from inboxd.meta.pictures import PictureClient, PictureRules
from inboxd.meta.signature import SignatureVerifier
from inboxd.metrics import Metrics
from inboxd.secret import Secret
from inboxd.store.accounts import AccountStore
from inboxd.store.avatars import Avatars
from inboxd.store.conversations import Conversations
from inboxd.store.database import Database
from inboxd.store.deletions import Deletions
from inboxd.store.graph_calls import GraphCalls
from inboxd.store.inbox import Inbox
from inboxd.store.profile_cache import ProfileCache
from inboxd.store.profiles import Profiles
from inboxd.store.vault import KEY_FILE, Vault, key_from
from inboxd.web.admin import admin_application
from inboxd.web.api.accounts import AccountsApi
from inboxd.web.api.conversations import ConversationsApi
from inboxd.web.api.deliveries import DeliveriesApi
from inboxd.web.api.participants import ParticipantsApi
from inboxd.web.callbacks import Callbacks
from inboxd.web.connections import KEEPALIVE_S, GuardedSite, bind, url_of
from inboxd.web.health import Health
from inboxd.web.webhooks import Webhooks
from inboxd.workers.accounts import Accounts, ConfiguredAccount, Limits, Served
from inboxd.workers.avatars import AvatarKeeper
from inboxd.workers.checkup import Checkup
from inboxd.workers.deletion import Eraser
from inboxd.workers.housekeeping import Housekeeping
from inboxd.workers.ingest import Ingest
from inboxd.workers.pool import WorkerPool
from inboxd.workers.profiles import ProfileFetcher
from inboxd.workers.subscriptions import SubscriptionKeeper
from inboxd.workers.tokens import TokenKeeper

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
        pool = await stack.enter_async_context(WorkerPool(clock, metrics, random.random, on_give_up=on_give_up))
        avatars = Avatars(database, database_path.parent / AVATAR_FOLDER)
        portraits = AvatarKeeper(avatars, pictures, clock, metrics, random.random, max_count=settings.avatars.max_count)
        accounts = await stack.enter_async_context(serving_accounts(settings, secrets, database, clock))
        staff = _Staff(accounts, settings, database, cache, pool, clock, metrics, on_picture=portraits.wake)
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
            )
        )
        pool.start(portraits)
        eraser = Eraser(deletions, clock, on_erased=erased)
        pool.start(eraser)
        pool.start(Housekeeping(database, inbox, clock, keep_deliveries_days=settings.storage.keep_deliveries_days))

        admin_url = await stack.enter_async_context(
            _listening(
                admin_application(
                    token=secrets.admin_token,
                    health=Health(database, lambda: pool.gave_up),
                    conversations=ConversationsApi(Conversations(database.read), accounts.aliases),
                    deliveries=DeliveriesApi(inbox),
                    participants=ParticipantsApi(Profiles(database), avatars),
                    accounts_api=AccountsApi(accounts, Checkup(accounts, clock)),
                    accounts=accounts,
                    clock=clock,
                    inbox=inbox,
                    metrics=metrics,
                ),
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
    async with running(settings, secrets, database_path, on_give_up=stop.set) as daemon:
        # What was built by now lives until the end: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        log.info("started", version=__version__, public=daemon.public_url, admin=daemon.admin_url)
        if secrets.admin_token is None:
            log.warning("admin_api_off", reason="no admin_token is configured")
        await stop.wait()
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


class _Staff:
    """The workers that each account has: they come and go with it."""

    def __init__(
        self,
        accounts: Accounts,
        settings: Settings,
        database: Database,
        cache: ProfileCache,
        pool: WorkerPool,
        clock: Clock,
        metrics: Metrics,
        *,
        on_picture: Callable[[], None],
    ) -> None:
        self._accounts = accounts
        self._settings = settings
        self._database = database
        self._cache = cache
        self._pool = pool
        self._clock = clock
        self._metrics = metrics
        self._on_picture = on_picture
        self._fetchers: dict[str, ProfileFetcher] = {}
        self._names: dict[str, list[str]] = {}

    def engage(self, served: Served) -> None:
        """Start the workers of an account."""
        fetcher = ProfileFetcher(
            served,
            database=self._database,
            cache=self._cache,
            clock=self._clock,
            metrics=self._metrics,
            random=random.random,
            concurrency=self._settings.profiles.concurrency,
            on_picture=self._on_picture,
        )
        tokens = TokenKeeper(served, self._accounts, self._clock, self._metrics)
        subscription = SubscriptionKeeper(served, self._accounts, self._clock, self._metrics)
        self._fetchers[served.account.id] = fetcher
        self._names[served.account.id] = [fetcher.name, tokens.name, subscription.name]
        for worker in (fetcher, tokens, subscription):
            self._pool.start(worker)

    async def dismiss(self, served: Served) -> None:
        """End the workers of an account."""
        del self._fetchers[served.account.id]
        for name in self._names.pop(served.account.id):
            await self._pool.end(name)

    def wrote(self, writers: Collection[ConversationKey]) -> None:
        """These people have written: whoever fetches for their account looks again."""
        for account_id in {key.account_id for key in writers}:
            fetcher = self._fetchers.get(account_id)
            if fetcher is not None:
                fetcher.wrote(writers)


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
