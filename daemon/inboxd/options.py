"""From the configuration to what each feature takes: the one place that knows both."""

import ipaddress
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from inboxd import listeners
from inboxd.accounts import feature as accounts
from inboxd.accounts.graph_factory import Limits
from inboxd.accounts.manager import ConfiguredAccount
from inboxd.comments import feature as comments
from inboxd.config.schema import Settings
from inboxd.config.secrets import NamedToken, Secrets, require_secrets
from inboxd.conversations import feature as conversations
from inboxd.domain.account import LoginType
from inboxd.events import feature as events
from inboxd.forwarding import feature as forwarding
from inboxd.forwarding.nats import feature as nats
from inboxd.forwarding.nats.server import Server
from inboxd.http.auth import AccessToken
from inboxd.http.bodies import BodyBudget
from inboxd.maintenance import feature as maintenance
from inboxd.meta.pictures import PictureRules
from inboxd.privacy import feature as privacy
from inboxd.profiles import feature as profiles
from inboxd.profiles.avatar_store import AVATAR_FOLDER
from inboxd.receiving import feature as receiving
from inboxd.reconciliation import feature as reconciliation
from inboxd.runs.backfill import feature as backfill
from inboxd.runs.backfill.schedule import ScheduleOptions
from inboxd.runtime.secret import Secret
from inboxd.sending import feature as sending
from inboxd.sending.uploads import feature as uploads
from inboxd.sending.uploads.store import UPLOAD_FOLDER

ALL_SCOPES: Final = ("read", "write", "send")
"""The scopes of the admin token."""


def access_tokens(admin_token: Secret | None, named_tokens: Iterable[NamedToken]) -> list[AccessToken]:
    """Who may use the admin API."""
    everything = [] if admin_token is None else [AccessToken("admin", ALL_SCOPES, admin_token)]
    return everything + [AccessToken(one.name, one.scopes, one.token) for one in named_tokens]


def listener_options(settings: Settings) -> listeners.Options:
    """Where the daemon listens, and how much it takes from there."""
    return listeners.Options(
        public_host=settings.public.host,
        public_port=settings.public.port,
        admin_host=settings.admin.host,
        admin_port=settings.admin.port,
        max_connections=settings.public.max_connections,
        max_failures=settings.admin.max_failures,
        request_timeout_s=settings.public.request_timeout_s,
        access_sample=settings.logs.access_sample,
    )


def receiving_options(settings: Settings, secrets: Secrets) -> receiving.Options:
    """Raises ConfigError without app secrets or a verify token."""
    public, storage = settings.public, settings.storage
    return receiving.Options(
        max_waiting=public.max_waiting,
        verify_token=require_secrets(secrets),
        app_secrets=secrets.app_secrets,
        body_budget=BodyBudget(
            max_bytes=public.max_held_bytes,
            max_body_bytes=public.max_body_bytes,
            max_connections=public.max_connections,
        ),
        keep_deliveries_days=storage.keep_deliveries_days,
        keep_failed_days=storage.keep_failed_days,
        keep_webhook_events_days=storage.keep_webhook_events_days,
    )


def account_options(settings: Settings, secrets: Secrets) -> accounts.Options:
    """The accounts of the configuration, and how Meta is called."""
    instagram, budget = settings.instagram, settings.budget
    return accounts.Options(
        configured=_configured_accounts(settings, secrets),
        graph_urls={LoginType.INSTAGRAM: instagram.graph_url, LoginType.FACEBOOK: instagram.facebook_graph_url},
        graph_version=instagram.graph_version,
        limits=Limits(budget.calls_per_hour, budget.calls_per_second, instagram.timeout_s),
        app_id=instagram.app_id or None,
        app_secrets=secrets.app_secrets,
        storage_keys=secrets.storage_keys,
    )


def profile_options(settings: Settings, database: Path) -> profiles.Options:
    """Avatars are kept beside the database."""
    avatars = settings.avatars
    return profiles.Options(
        cache_ttl_s=settings.profiles.cache_ttl_s,
        cache_size=settings.profiles.cache_size,
        concurrency=settings.profiles.concurrency,
        picture_rules=PictureRules(
            hosts=[host.lower() for host in avatars.hosts],
            allow_http=avatars.allow_http,
            allow_networks=[ipaddress.ip_network(text) for text in avatars.allow_networks],
        ),
        avatar_folder=database.parent / AVATAR_FOLDER,
        max_avatars=avatars.max_count,
    )


def event_options(settings: Settings) -> events.Options:
    """What the event log keeps."""
    log = settings.events
    return events.Options(keep_days=log.keep_days, max_size_mb=log.max_size_mb, ids_only=log.ids_only)


def conversation_options(settings: Settings) -> conversations.Options:
    """How long things are kept."""
    storage = settings.storage
    return conversations.Options(
        keep_webhook_events_days=storage.keep_webhook_events_days, keep_messages_days=storage.keep_messages_days
    )


def upload_options(settings: Settings, database: Path) -> uploads.Options:
    """Files are kept beside the database."""
    return uploads.Options(
        folder=database.parent / UPLOAD_FOLDER,
        max_mb=settings.sending.max_uploads_mb,
        base_url=settings.public.base_url,
    )


def comment_options(settings: Settings) -> comments.Options:
    """How long comments are kept."""
    return comments.Options(keep_messages_days=settings.storage.keep_messages_days)


def sending_options(settings: Settings) -> sending.Options:
    """How messages are sent."""
    options = settings.sending
    return sending.Options(
        per_second=options.per_second,
        per_hour=options.per_hour,
        private_replies_per_hour=options.private_replies_per_hour,
        after_failure=options.after_failure,
        automation_pause_minutes=options.automation_pause_minutes,
        keep_days=options.keep_days,
        max_waiting=options.max_waiting,
        allow_http=options.allow_http,
    )


def backfill_options(settings: Settings) -> backfill.Options:
    """When runs begin by themselves, and how long they are kept."""
    options = settings.backfill
    schedule = ScheduleOptions(
        expression=options.schedule,
        jitter_s=options.jitter_s,
        batch_size=options.batch_size,
        skip_accounts=options.skip_accounts,
    )
    return backfill.Options(schedule=schedule if options.schedule else None, keep_runs_days=options.keep_runs_days)


def forwarding_options(settings: Settings) -> forwarding.Options:
    """Where events may be pushed to."""
    return forwarding.Options(allow_networks=[ipaddress.ip_network(text) for text in settings.forward.allow_networks])


def reconciliation_options(settings: Settings) -> reconciliation.Options:
    """How often accounts are compared, and what is said of the result."""
    options = settings.reconciliation
    return reconciliation.Options(
        every_minutes=options.every_minutes,
        share=options.share,
        alert_below=options.alert_below,
        alert_after_hours=options.alert_after_hours,
    )


def nats_options(settings: Settings, secrets: Secrets) -> nats.Options:
    """Where events are published to."""
    options = settings.forward.nats
    server = Server(
        urls=[url for url in options.url.split(",") if url],
        user=options.user,
        password=secrets.nats_password,
        token=secrets.nats_token,
        credentials=options.credentials,
        nkey=options.nkey,
        ca=options.ca,
        cert=options.cert,
        key=options.key,
    )
    return nats.Options(server=server, subject=options.subject, stream=options.stream)


def privacy_options(settings: Settings, secrets: Secrets) -> privacy.Options:
    """What Meta's callbacks need."""
    return privacy.Options(app_secrets=secrets.app_secrets, base_url=settings.public.base_url or None)


def maintenance_options(settings: Settings, database: Path) -> maintenance.Options:
    """Where backups are, and when silence is unusual."""
    return maintenance.Options(
        silent_after_hours=settings.traffic.silent_after_hours, backup_folder=settings.storage.backups(database)
    )


def _configured_accounts(settings: Settings, secrets: Secrets) -> list[ConfiguredAccount]:
    return [
        ConfiguredAccount(
            id=account.id,
            login_type=LoginType(account.login_type),
            name=account.name,
            page_id=account.page_id or None,
            token=secrets.account_tokens.get(account.id),
            human_agent=account.human_agent,
            wants_comments=account.comments,
        )
        for account in settings.accounts
    ]
