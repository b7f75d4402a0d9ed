"""The composition root: the parts, the workers and the two listeners of a daemon, started in order."""

import importlib.resources
import logging
import random
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, Protocol

from aiohttp import web

from inboxd.accounts.api import AccountsApi
from inboxd.accounts.check import AccountCheck
from inboxd.accounts.manager import AccountManager
from inboxd.accounts.pages import AccountPages
from inboxd.config.reload import Reloader
from inboxd.config.schema import Backfill, Settings
from inboxd.config.secrets import Secrets, require_secrets
from inboxd.conversations import search_worker
from inboxd.conversations.api import ConversationsApi
from inboxd.conversations.ingest import Ingest
from inboxd.conversations.pages import InboxPages
from inboxd.conversations.search_store import SearchIndex
from inboxd.conversations.search_worker import SearchIndexer
from inboxd.conversations.store import last_message_at
from inboxd.core import Parts, open_core
from inboxd.dashboard.overview import Overview
from inboxd.domain.account import LoginType
from inboxd.events.api import Streams
from inboxd.http.access_log import AccessLogger, access_logger
from inboxd.http.admin import Pages, admin_application
from inboxd.http.api_docs import DocsPage
from inboxd.http.auth import AccessToken
from inboxd.http.connections import KEEPALIVE_S, GuardedSite, bind, url_of
from inboxd.http.openapi import OpenApiDocument
from inboxd.http.operations import Operation
from inboxd.maintenance import traffic_monitor
from inboxd.maintenance.api import SystemApi
from inboxd.maintenance.health import DaemonHealth
from inboxd.maintenance.health_api import HealthApi
from inboxd.maintenance.metrics_api import MetricsApi
from inboxd.maintenance.statistics_store import of_account
from inboxd.maintenance.traffic_api import TrafficApi
from inboxd.meta.signature import SignatureVerifier
from inboxd.options import access_tokens, body_budget, configured_accounts, lifetimes, limits
from inboxd.privacy.api import DeletionsApi
from inboxd.privacy.callbacks import Callbacks
from inboxd.privacy.participant_eraser import ParticipantEraser
from inboxd.profiles import avatar_worker
from inboxd.profiles.api import ParticipantsApi
from inboxd.profiles.outlook import ProfileOutlook
from inboxd.receiving import processing_monitor
from inboxd.receiving.api import DeliveriesApi
from inboxd.receiving.metrics import ReceivingMetrics
from inboxd.receiving.pages import DeliveryPages
from inboxd.receiving.processing_monitor import ProcessingMonitor
from inboxd.receiving.webhooks import Webhooks
from inboxd.runs.backfill import schedule as backfill_schedule
from inboxd.runs.backfill.api import BackfillsApi
from inboxd.runs.backfill.metrics import BackfillMetrics
from inboxd.runs.backfill.pages import BackfillPages
from inboxd.runs.backfill.schedule import BackfillSchedule, ScheduleOptions
from inboxd.runs.moments_store import MomentStore
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock
from inboxd.runtime.loop_monitor import LoopMonitor
from inboxd.runtime.metrics import Metrics
from inboxd.runtime.notify import Notifier
from inboxd.runtime.plural import counted
from inboxd.runtime.supervisor import Supervisor
from inboxd.runtime.watchdog import Watchdog
from inboxd.runtime.worker import Schedule

SHUTDOWN_S: Final = 1.0
"""How long requests in flight get to finish when the daemon stops."""
ADMIN_CONNECTIONS: Final = 64
TEMPLATES: Final = (
    "inboxd.dashboard",
    "inboxd.receiving",
    "inboxd.accounts",
    "inboxd.conversations",
    "inboxd.runs.backfill",
)
"""The packages that have templates."""
LIFETIMES: Final = (
    "storage.keep_deliveries_days",
    "storage.keep_failed_days",
    "storage.keep_events_days",
    "storage.keep_messages_days",
    "backfill.keep_runs_days",
)


class Daemon:
    """A running inboxd: where it listens, and whether it still can do its job."""

    def __init__(self, public_url: str, admin_url: str, supervisor: Supervisor, reloader: Reloader) -> None:
        self.public_url = public_url
        self.admin_url = admin_url
        self.reloader = reloader
        self._supervisor = supervisor

    @property
    def gave_up(self) -> bool:
        """Whether a background worker crashed too often to go on."""
        return self._supervisor.gave_up


@asynccontextmanager
async def run_daemon(
    settings: Settings,
    secrets: Secrets,
    database_path: Path,
    *,
    on_give_up: Callable[[], None],
    clock: Clock | None = None,
    notifier: Notifier | None = None,
    on_beat: Callable[[], None] = lambda: None,
    public_socket: socket.socket | None = None,
) -> AsyncIterator[Daemon]:
    """The daemon, from its first to its last moment. `on_give_up` is called when it can no longer do its job.

    `on_beat` is called several times a minute, whatever else happens. `public_socket` is a listening socket to use
    instead of one of our own.

    Parts start from the bottom up and stop from the top down: first nobody new is let in and requests in flight are
    answered, then the workers end, then the writer commits what it holds and the file is closed.
    Raises InboxdError when a part cannot start; those already started are stopped.
    """
    verify_token = require_secrets(secrets)
    async with AsyncExitStack() as stack:
        parts = await stack.enter_async_context(
            open_core(settings, secrets, database_path, clock or Clock(), on_give_up=on_give_up)
        )
        received = ReceivingMetrics(parts.metrics.registry)
        monitor = ProcessingMonitor(parts.database, parts.clock, received)
        _start_workers(parts, settings, monitor, notifier, on_beat)
        tokens = access_tokens(secrets)
        admin = _admin(parts, settings, tokens, monitor, received)
        webhooks = Webhooks(
            parts.inbox, SignatureVerifier(_revealed(secrets)), verify_token, received, body_budget(settings)
        )
        callbacks = _callbacks(parts, settings, secrets)
        public = webhooks.application()
        callbacks.add_routes(public)
        admin_socket = bind(settings.admin.host, settings.admin.port, key="admin")
        admin_url = await stack.enter_async_context(
            _listening(admin, admin_socket, settings, parts.metrics, max_connections=ADMIN_CONNECTIONS)
        )
        if public_socket is None:
            public_socket = bind(settings.public.host, settings.public.port, key="public")
        public_url = await stack.enter_async_context(
            _listening(public, public_socket, settings, parts.metrics, max_connections=settings.public.max_connections)
        )
        reloader = _reloader(parts, settings, secrets, webhooks, callbacks, tokens)
        yield Daemon(public_url, admin_url, parts.supervisor, reloader)


def _start_workers(
    parts: Parts,
    settings: Settings,
    monitor: ProcessingMonitor,
    notifier: Notifier | None,
    on_beat: Callable[[], None],
) -> None:
    supervisor, clock = parts.supervisor, parts.clock
    supervisor.start(
        Ingest(
            parts.database,
            parts.inbox,
            parts.cache,
            accounts=parts.accounts.aliases,
            clock=clock,
            metrics=parts.metrics,
            random=random.random,
            on_due=parts.fetchers.notify,
            bus=parts.bus,
            observe=parts.traffic.observe,
        ),
        Schedule(essential=True),
    )
    supervisor.start(monitor, processing_monitor.SCHEDULE)
    supervisor.start(parts.portraits, avatar_worker.SCHEDULE)
    supervisor.start(parts.deletion)
    supervisor.start(parts.housekeeping)
    supervisor.start(parts.traffic, traffic_monitor.SCHEDULE)
    supervisor.start(LoopMonitor(clock, parts.metrics, on_beat))
    supervisor.start(
        SearchIndexer(SearchIndex(parts.database), waiting=lambda: parts.inbox.pressure), search_worker.SCHEDULE
    )
    if settings.backfill.schedule:
        supervisor.start(
            _schedule(parts, settings.backfill),
            backfill_schedule.SCHEDULE,
        )
    if notifier is not None:
        describe = partial(_condition, parts.accounts, DaemonHealth(parts.database, supervisor, monitor))
        probe = partial(parts.database.write, lambda _connection: None)
        supervisor.start(Watchdog(notifier, probe, describe, stalled=lambda: monitor.stall is not None))


def _admin(
    parts: Parts,
    settings: Settings,
    tokens: Sequence[AccessToken],
    monitor: ProcessingMonitor,
    received: ReceivingMetrics,
) -> web.Application:
    """The admin application. Requests are checked against `tokens` as they are at that moment."""
    database, clock, accounts, supervisor = parts.database, parts.clock, parts.accounts, parts.supervisor
    health = DaemonHealth(database, supervisor, monitor)
    forgetter = ParticipantEraser(database, parts.avatars, parts.cache, clock)
    metrics_page = MetricsApi(
        parts.metrics,
        [
            partial(received.collect, parts.inbox),
            partial(BackfillMetrics(parts.metrics.registry).collect, parts.backfills, accounts.served),
            lambda: parts.account_metrics.collect(accounts, clock.now_ms()),
        ],
        supervisor,
        database_path=database.path,
        backup_folder=database.path.parent / settings.storage.backup_path,
    )
    streams = Streams(parts.bus)
    outlook = ProfileOutlook(accounts, clock)
    account_check = AccountCheck(accounts, clock, partial(last_message_at, database.read))
    account_statistics = partial(of_account, database.read)
    apis: list[Api] = [
        HealthApi(health),
        ConversationsApi(database, accounts.aliases, clock, outlook),
        ParticipantsApi(database, parts.avatars, clock, parts.fetchers.notify, forgetter, outlook),
        AccountsApi(accounts, account_check, account_statistics),
        BackfillsApi(parts.backfill_service, parts.backfills, streams, clock),
        DeletionsApi(
            parts.deletions, clock, stop_calls=partial(_stop_calls, accounts), on_deletion=parts.deletion.wake
        ),
        DeliveriesApi(parts.inbox, database.read),
        streams,
        SystemApi(database, parts.inbox, clock, supervisor, health, lambda: accounts.served),
        OpenApiDocument(),
        TrafficApi(parts.traffic),
        DocsPage(),
        metrics_page,
    ]
    operations = [operation for api in apis for operation in api.operations()]
    pages: list[Pages] = [
        Overview(
            database,
            parts.inbox,
            accounts,
            clock,
            backup_folder=database.path.parent / settings.storage.backup_path,
            health=health,
            unusual=lambda: parts.traffic.findings,
        ),
        InboxPages(database, accounts, clock, outlook),
        BackfillPages(parts.backfill_service, parts.backfills, accounts, clock),
        DeliveryPages(parts.inbox),
        AccountPages(accounts, account_check, account_statistics),
    ]
    app = admin_application(
        tokens,
        operations,
        pages,
        clock,
        templates=TEMPLATES,
        static=importlib.resources.files("inboxd.dashboard") / "static",
        max_failures=settings.admin.max_failures,
    )
    app.on_shutdown.append(streams.close)
    return app


def _callbacks(parts: Parts, settings: Settings, secrets: Secrets) -> Callbacks:
    return Callbacks(
        secrets.app_secrets,
        parts.deletions,
        parts.clock,
        find=partial(_account_of, parts.accounts),
        others=partial(_others, parts.accounts),
        deauthorize=partial(_deauthorize, parts.accounts),
        on_deletion=parts.deletion.wake,
        base_url=settings.public.base_url or None,
    )


def _reloader(
    parts: Parts,
    settings: Settings,
    secrets: Secrets,
    webhooks: Webhooks,
    callbacks: Callbacks,
    tokens: list[AccessToken],
) -> Reloader:
    """What can change while the daemon runs, and how."""

    def use_app_secrets(new: Secrets) -> None:
        webhooks.verifier = SignatureVerifier(_revealed(new))
        callbacks.app_secrets = new.app_secrets
        parts.accounts.use_app_secrets(new.app_secrets)

    def use_verify_token(new: Secrets) -> None:
        webhooks.verify_token = require_secrets(new)

    def use_access_tokens(new: Secrets) -> None:
        tokens[:] = access_tokens(new)

    def keep_for(new: Settings) -> None:
        parts.housekeeping.keep = lifetimes(new)

    def notice_silence(new: Settings) -> None:
        parts.traffic.silent_after_hours = new.traffic.silent_after_hours

    def take_at_most(new: Settings) -> None:
        parts.inbox.max_waiting = new.public.max_waiting

    return Reloader(
        settings,
        secrets,
        on_settings={
            ("logs.level",): lambda new: logs.set_level(new.logs.level),
            ("budget.calls_per_hour", "budget.calls_per_second"): lambda new: parts.accounts.limit(limits(new)),
            ("public.max_waiting",): take_at_most,
            ("traffic.silent_after_hours",): notice_silence,
            LIFETIMES: keep_for,
            ("storage.keep_backups",): lambda _new: None,  # the next backup reads it
        },
        on_secrets={
            ("app_secrets",): use_app_secrets,
            ("verify_token",): use_verify_token,
            ("admin_token", "named_tokens"): use_access_tokens,
            ("account_tokens",): lambda new: parts.accounts.renew(configured_accounts(settings, new)),
        },
    )


class Api(Protocol):
    """A part of the admin API."""

    def operations(self) -> Sequence[Operation]:
        """What can be done."""


def _condition(accounts: AccountManager, health: DaemonHealth) -> str:
    """How we are, in one line for `systemctl status`."""
    served = list(accounts.served.values())
    receiving = "; ".join([*health.problems, *health.degraded]) or "receiving"
    idle = sum(not one.account.callable for one in served)
    paused = sum(one.graph.budget.report().paused_until is not None for one in served)
    needs = f", {idle} without calls" if idle else ""
    return f"{receiving}; {counted(len(served), 'account')}{needs}; budget {f'paused for {paused}' if paused else 'ok'}"


def _schedule(parts: Parts, options: Backfill) -> BackfillSchedule:
    return BackfillSchedule(
        parts.backfill_service,
        parts.backfills,
        MomentStore(parts.database),
        lambda: parts.accounts.served,
        parts.clock,
        random.random,
        ScheduleOptions(
            expression=options.schedule,
            jitter_s=options.jitter_s,
            batch_size=options.batch_size,
            skip_accounts=options.skip_accounts,
        ),
    )


def _account_of(accounts: AccountManager, user_id: str) -> str | None:
    """The id of the account that belongs to the app user `user_id`, if it is known."""
    served = accounts.find(user_id)
    return None if served is None else served.account.id


def _others(accounts: AccountManager, user_id: str) -> frozenset[str]:
    """The accounts that are known to be of somebody else than the app user `user_id`.

    Of an account with Facebook Login nobody knows whose it is: Meta names a person, and tells us of no such person.
    """
    known = [served.account for served in accounts.served.values() if served.account.app_scoped_id is not None]
    return frozenset(one.id for one in known if one.login_type is LoginType.INSTAGRAM and one.app_scoped_id != user_id)


async def _deauthorize(accounts: AccountManager, user_id: str) -> str | None:
    """The app user `user_id` removed the app; the id of their account, if it is one of ours."""
    served = accounts.find(user_id)
    if served is None:
        return None
    reason = "the owner removed the app; log in again to serve the account"
    await accounts.app_removed(served, reason)
    return served.account.id


async def _stop_calls(accounts: AccountManager, account_id: str) -> None:
    """Whoever looks after the inbox has the account's data deleted."""
    served = accounts.served.get(account_id)
    if served is not None:
        await accounts.app_removed(served, "its data was deleted; log in again to serve it")


def _revealed(secrets: Secrets) -> list[str]:
    return [secret.reveal() for secret in secrets.app_secrets]


@asynccontextmanager
async def _listening(
    app: web.Application, sock: socket.socket, settings: Settings, metrics: Metrics, *, max_connections: int
) -> AsyncIterator[str]:
    """Serve `app` on `sock`; yields its URL. On the way out requests in flight get SHUTDOWN_S to finish."""
    logger = access_logger(settings.logs.access_sample)
    runner = web.AppRunner(app, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    try:
        await GuardedSite(
            runner,
            sock,
            max_connections=max_connections,
            request_timeout_s=settings.public.request_timeout_s,
            on_refused=lambda reason: metrics.connections_refused.labels(reason).inc(),
            access_log=logging.getLogger("access") if logger is not None else None,
            access_log_class=logger or AccessLogger,
            auto_decompress=False,  # signatures are over the bytes on the wire
            keepalive_timeout=KEEPALIVE_S,
        ).start()
        yield url_of(sock)
    finally:
        await runner.cleanup()
        sock.close()
