"""The composition root: builds every part once, in order, and hands each what it needs."""

import asyncio
import gc
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
from inboxd.domain.conversation import ConversationKey
from inboxd.errors import EX_OK, EX_SOFTWARE
from inboxd.meta.budget import Budget
from inboxd.meta.graph import GraphClient
from inboxd.meta.signature import SignatureVerifier
from inboxd.metrics import Metrics
from inboxd.secret import Secret
from inboxd.store.conversations import Conversations
from inboxd.store.database import Database
from inboxd.store.inbox import Inbox
from inboxd.store.profile_cache import ProfileCache
from inboxd.web.admin import admin_application
from inboxd.web.api.conversations import ConversationsApi
from inboxd.web.api.deliveries import DeliveriesApi
from inboxd.web.connections import KEEPALIVE_S, GuardedSite, bind, url_of
from inboxd.web.health import Health
from inboxd.web.webhooks import Webhooks
from inboxd.workers.housekeeping import Housekeeping
from inboxd.workers.ingest import Ingest
from inboxd.workers.pool import WorkerPool
from inboxd.workers.profiles import ProfileFetcher

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
    verify_token = require_secrets(settings, secrets)
    clock = clock or Clock()
    metrics = Metrics()
    account_ids = frozenset(account.id for account in settings.accounts)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database(database_path, on_commit=metrics.observe_commit))
        inbox = Inbox(database, clock, max_waiting=settings.public.max_waiting)
        cache = ProfileCache(clock, ttl_s=settings.profiles.cache_ttl_s, size=settings.profiles.cache_size)
        graph = await stack.enter_async_context(
            GraphClient(
                settings.instagram.graph_url,
                settings.instagram.graph_version,
                timeout_s=settings.instagram.timeout_s,
            )
        )
        pool = await stack.enter_async_context(WorkerPool(clock, metrics, random.random, on_give_up=on_give_up))
        fetchers = _fetchers(settings, secrets, graph, database, cache, clock, metrics)
        pool.start(
            Ingest(
                database,
                inbox,
                cache,
                accounts=account_ids,
                clock=clock,
                metrics=metrics,
                random=random.random,
                on_due=partial(_tell, fetchers),
            )
        )
        for fetcher in fetchers:
            pool.start(fetcher)
        pool.start(Housekeeping(database, inbox, clock, keep_deliveries_days=settings.storage.keep_deliveries_days))

        admin_url = await stack.enter_async_context(
            _listening(
                admin_application(
                    token=secrets.admin_token,
                    health=Health(database, lambda: pool.gave_up),
                    conversations=ConversationsApi(Conversations(database.read), account_ids),
                    deliveries=DeliveriesApi(inbox),
                    inbox=inbox,
                    metrics=metrics,
                ),
                bind(settings.admin.host, settings.admin.port, key="admin"),
                settings,
                metrics,
                max_connections=ADMIN_CONNECTIONS,
            )
        )
        public_url = await stack.enter_async_context(
            _listening(
                _webhooks(inbox, secrets, verify_token, metrics).application(
                    max_body_bytes=settings.public.max_body_bytes
                ),
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


def _tell(fetchers: list[ProfileFetcher], writers: Collection[ConversationKey]) -> None:
    for fetcher in fetchers:
        fetcher.wrote(writers)


def _webhooks(inbox: Inbox, secrets: Secrets, verify_token: Secret, metrics: Metrics) -> Webhooks:
    verifier = SignatureVerifier([secret.reveal() for secret in secrets.app_secrets])
    return Webhooks(inbox, verifier, verify_token, metrics)


def _fetchers(
    settings: Settings,
    secrets: Secrets,
    graph: GraphClient,
    database: Database,
    cache: ProfileCache,
    clock: Clock,
    metrics: Metrics,
) -> list[ProfileFetcher]:
    return [
        ProfileFetcher(
            account.id,
            secrets.account_tokens[account.id],
            graph=graph,
            budget=Budget(
                clock,
                calls_per_hour=settings.budget.calls_per_hour,
                calls_per_second=settings.budget.calls_per_second,
            ),
            database=database,
            cache=cache,
            clock=clock,
            metrics=metrics,
            random=random.random,
            concurrency=settings.profiles.concurrency,
        )
        for account in settings.accounts
    ]


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
