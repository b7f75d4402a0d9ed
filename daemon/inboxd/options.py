"""From the configuration to what each feature takes: the one place that knows both."""

import ipaddress
from typing import NamedTuple

from inboxd.accounts.manager import ConfiguredAccount, Limits
from inboxd.config.schema import Settings
from inboxd.config.secrets import Secrets
from inboxd.domain.account import LoginType
from inboxd.http.auth import AccessToken
from inboxd.http.bodies import BodyBudget
from inboxd.meta.pictures import PictureRules


class Keep(NamedTuple):
    """For how many days things are kept; 0 is for ever."""

    deliveries: int
    failed: int
    events: int
    messages: int
    runs: int


def access_tokens(secrets: Secrets) -> list[AccessToken]:
    """Who may use the admin API."""
    everything = [] if secrets.admin_token is None else [AccessToken("admin", ("read", "write"), secrets.admin_token)]
    return everything + [AccessToken(one.name, one.scopes, one.token) for one in secrets.named_tokens]


def body_budget(settings: Settings) -> BodyBudget:
    """How much memory the bodies of webhooks may take."""
    public = settings.public
    return BodyBudget(
        max_bytes=public.max_held_bytes, max_body_bytes=public.max_body_bytes, max_connections=public.max_connections
    )


def configured_accounts(settings: Settings, secrets: Secrets) -> list[ConfiguredAccount]:
    """The accounts of the configuration, with their tokens."""
    return [
        ConfiguredAccount(
            id=account.id,
            login_type=LoginType(account.login_type),
            name=account.name,
            page_id=account.page_id or None,
            token=secrets.account_tokens.get(account.id),
        )
        for account in settings.accounts
    ]


def limits(settings: Settings) -> Limits:
    """What every account's calls are held to."""
    return Limits(settings.budget.calls_per_hour, settings.budget.calls_per_second, settings.instagram.timeout_s)


def lifetimes(settings: Settings) -> Keep:
    """For how long things are kept."""
    storage = settings.storage
    return Keep(
        deliveries=storage.keep_deliveries_days,
        failed=storage.keep_failed_days,
        events=storage.keep_events_days,
        messages=storage.keep_messages_days,
        runs=settings.backfill.keep_runs_days,
    )


def picture_rules(settings: Settings) -> PictureRules:
    """Where pictures may be fetched from."""
    return PictureRules(
        hosts=[host.lower() for host in settings.avatars.hosts],
        allow_http=settings.avatars.allow_http,
        allow_networks=[ipaddress.ip_network(text) for text in settings.avatars.allow_networks],
    )
