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
from inboxd.accounts.overview import AccountsOverview
from inboxd.accounts.pages import AccountPages
from inboxd.config.reload import Reloader
from inboxd.config.schema import Backfill, Settings
from inboxd.config.secrets import Secrets, require_secrets
from inboxd.conversations import ingest, search_worker
from inboxd.conversations.api import ConversationsApi
from inboxd.conversations.batch_writer import BatchWriter
from inboxd.conversations.delivery_retries import DeliveryRetries
from inboxd.conversations.event_preparation import EventPreparation
from inboxd.conversations.ingest import Ingest
from inboxd.conversations.metrics import ConversationMetrics
from inboxd.conversations.pages import InboxPages
from inboxd.conversations.search_store import SearchIndexStore
from inboxd.conversations.search_worker import SearchIndexWorker
from inboxd.conversations.store import last_message_at
from inboxd.core import Parts, open_core
from inboxd.dashboard.overview import Overview
from inboxd.domain.account import LoginType
from inboxd.events.api import EventStreams
from inboxd.feature import Link
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
from inboxd.maintenance.metrics import StorageMetrics
from inboxd.maintenance.metrics_api import MetricsApi
from inboxd.maintenance.overview import MaintenanceOverview
from inboxd.maintenance.statistics_store import of_account
from inboxd.maintenance.status import status_line
from inboxd.maintenance.traffic_api import TrafficApi
from inboxd.meta.signature import SignatureVerifier
from inboxd.options import access_tokens, body_budget, configured_accounts, lifetimes, limits
from inboxd.privacy import deletion_worker
from inboxd.privacy.api import DeletionsApi, ParticipantPrivacyApi
from inboxd.privacy.callbacks import Callbacks
from inboxd.privacy.participant_eraser import ParticipantEraser
from inboxd.profiles import avatar_worker
from inboxd.profiles.api import ParticipantsApi
from inboxd.profiles.outlook import ProfileOutlook
from inboxd.profiles.store import ProfileStore
from inboxd.receiving import processing_monitor
from inboxd.receiving.api import DeliveriesApi
from inboxd.receiving.metrics import ReceivingMetrics
from inboxd.receiving.overview import ReceivingOverview
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
from inboxd.runtime.supervisor import Supervisor
from inboxd.runtime.watchdog import Watchdog
from inboxd.storage.probe import StorageProbe

SHUTDOWN_S: Final = 1.0
"""How long requests in flight get to finish when the daemon stops."""
ADMIN_CONNECTIONS: Final = 64
TEMPLATES: Final = (
    "inboxd.dashboard",
    "inboxd.receiving",
    "inboxd.accounts",
    "inboxd.conversations",
    "inboxd.runs.backfill",
    "inboxd.maintenance",
)
"""The packages that have templates."""
LINKS: Final = (
    Link("/", "Overview", 0),
    Link("/inbox", "Inbox", 10),
    Link("/backfill", "Backfill", 20),
    Link("/deliveries", "Deliveries", 30),
    Link("/accounts", "Accounts", 40),
)
"""The dashboard's navigation."""
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
    processed = ConversationMetrics(parts.metrics.registry)
    writer = BatchWriter(
        parts.database,
        parts.cache,
        parts.bus,
        clock,
        processed,
        projections=(),
        on_due=parts.fetchers.notify,
        observe=parts.traffic.observe,
    )
    retries = DeliveryRetries(parts.database, parts.bus, clock, processed, random.random)
    preparation = EventPreparation(parts.accounts.aliases, clock)
    supervisor.start(Ingest(parts.inbox, preparation, writer, retries, clock), ingest.SCHEDULE)
    supervisor.start(monitor, processing_monitor.SCHEDULE)
    supervisor.start(parts.avatar_downloader, avatar_worker.SCHEDULE)
    supervisor.start(parts.deletion, deletion_worker.SCHEDULE)
    supervisor.start(parts.housekeeping)
    supervisor.start(StorageProbe(parts.database))
    supervisor.start(parts.traffic, traffic_monitor.SCHEDULE)
    supervisor.start(LoopMonitor(clock, parts.metrics, on_beat))
    supervisor.start(
        SearchIndexWorker(SearchIndexStore(parts.database), waiting=lambda: parts.inbox.pressure),
        search_worker.SCHEDULE,
    )
    if settings.backfill.schedule:
        supervisor.start(
            _schedule(parts, settings.backfill),
            backfill_schedule.SCHEDULE,
        )
    if notifier is not None:
        describe = partial(status_line, parts.accounts, DaemonHealth(parts.database, supervisor, [monitor.problems]))
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
    health = DaemonHealth(database, supervisor, [monitor.problems])
    backup_folder = settings.storage.backups(database.path)
    metrics_page = MetricsApi(
        parts.metrics,
        [
            partial(received.collect, parts.inbox),
            lambda: parts.account_metrics.collect(accounts, clock.now_ms()),
            partial(BackfillMetrics(parts.metrics.registry).collect, parts.backfills, accounts.served),
            partial(StorageMetrics(parts.metrics.registry).collect, database.path, backup_folder),
        ],
    )
    streams = EventStreams(parts.bus)
    outlook = ProfileOutlook(accounts, clock)
    account_check = AccountCheck(accounts, clock, partial(last_message_at, database.read))
    account_statistics = partial(of_account, database.read)
    apis: list[Api] = [
        HealthApi(health),
        ConversationsApi(database, accounts.aliases, clock, outlook),
        ParticipantsApi(database, parts.avatars, clock, parts.fetchers.notify, outlook),
        ParticipantPrivacyApi(ParticipantEraser(database, parts.personal_data, clock)),
        AccountsApi(accounts, account_check, account_statistics),
        BackfillsApi(parts.backfill_service, parts.backfills, streams, clock),
        DeletionsApi(
            parts.deletions, clock, stop_calls=partial(_stop_calls, accounts), on_deletion=parts.deletion.wakeup.notify
        ),
        DeliveriesApi(parts.inbox, database.read),
        streams,
        SystemApi(ProfileStore(database), parts.inbox, clock, supervisor, health, lambda: accounts.served),
        OpenApiDocument(),
        TrafficApi(parts.traffic),
        DocsPage(),
        metrics_page,
    ]
    operations = [operation for api in apis for operation in api.operations()]
    overviews = (
        ReceivingOverview(parts.inbox, clock),
        AccountsOverview(accounts, clock),
        MaintenanceOverview(
            clock,
            health,
            database_path=database.path,
            backup_folder=backup_folder,
            findings=lambda: parts.traffic.findings,
            accounts=lambda: [one.account for one in accounts.served.values()],
        ),
    )
    pages: list[Pages] = [
        Overview([one.card for one in overviews], [one.needs for one in overviews], problems=lambda: health.problems),
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
        navigation=[(link.path, link.text) for link in sorted(LINKS, key=lambda link: link.position)],
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
        on_deletion=parts.deletion.wakeup.notify,
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
        parts.lifetimes.keep = lifetimes(new)

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
