"""Builds this feature: the accounts that are served, with their tokens, subscriptions and budgets."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from inboxd.accounts import personal_data_store
from inboxd.accounts.api import AccountsApi
from inboxd.accounts.call_log_store import SqliteCallLog
from inboxd.accounts.check import AccountCheck
from inboxd.accounts.event_recording import EVENT_TYPES
from inboxd.accounts.graph_factory import GraphFactory, Limits
from inboxd.accounts.manager import AccountManager, ConfiguredAccount
from inboxd.accounts.metrics import AccountMetrics
from inboxd.accounts.overview import AccountsOverview
from inboxd.accounts.pages import AccountPages
from inboxd.accounts.resources import AccountStatistics
from inboxd.accounts.store import AccountStore
from inboxd.accounts.vault import KEY_FILE, Vault, key_from
from inboxd.accounts.workers import AccountWorkers, workers_of
from inboxd.domain.account import LoginType
from inboxd.events.log import EventLog
from inboxd.feature import Core, Feature, Job, Link, ReloadRule
from inboxd.meta.budget import AppBudget
from inboxd.meta.graph import GraphClient
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock
from inboxd.runtime.secret import Secret
from inboxd.storage.database import Database


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is configured of this feature."""

    configured: Sequence[ConfiguredAccount]
    graph_urls: Mapping[LoginType, str]
    graph_version: str
    limits: Limits
    app_id: str | None
    app_secrets: Sequence[Secret]
    storage_keys: Sequence[Secret]


@dataclass(frozen=True, kw_only=True)
class Accounts(Feature):
    """This feature, and what the features above it use."""

    manager: AccountManager
    check: AccountCheck


async def build(
    core: Core,
    stack: AsyncExitStack,
    options: Options,
    *,
    event_log: EventLog,
    statistics: Callable[[str], Awaitable[AccountStatistics]],
    last_message_at: Callable[[str], Awaitable[int | None]],
    remark: Callable[[str], Awaitable[str]],
) -> Accounts:
    """Build the feature. `stack` closes the connections to Meta. The accounts are loaded at the start.

    `statistics` counts what is stored of an account; `last_message_at` is when its latest message was sent (ms);
    `remark` says how complete that is.
    Raises ConfigError for a `storage_key` that is none.
    """
    manager = await open_manager(stack, core.database, core.clock, options, event_log)
    metrics = AccountMetrics(core.metrics.registry)
    check = AccountCheck(manager, core.clock, last_message_at)
    overview = AccountsOverview(manager, core.clock)

    def account_workers(account_id: str) -> Sequence[Job]:
        return workers_of(manager.served[account_id], accounts=manager, clock=core.clock, metrics=metrics)

    async def start(features: Sequence[Feature]) -> None:
        factories = [one.account_workers for one in features if one.account_workers is not None]
        on_removed = [one.on_account_removed for one in features if one.on_account_removed is not None]
        await manager.load(options.configured, AccountWorkers(core.supervisor, factories, on_removed))

    return Accounts(
        name="accounts",
        start=start,
        manager=manager,
        check=check,
        event_types=EVENT_TYPES,
        account_workers=account_workers,
        operations=AccountsApi(manager, check, statistics).operations(),
        pages=(AccountPages(manager, check, statistics, remark),),
        templates="inboxd.accounts",
        links=(Link("/accounts", "Accounts", 40),),
        collect=lambda: metrics.collect(manager, core.clock.now_ms()),
        reload=_reload_rules(manager, options),
        personal_data=personal_data_store.personal_data(),
        overview=overview.read,
    )


async def open_manager(
    stack: AsyncExitStack, database: Database, clock: Clock, options: Options, event_log: EventLog
) -> AccountManager:
    """The accounts, with connections to both Graph APIs; not loaded yet. Raises ConfigError."""
    keys = options.storage_keys
    if not keys:
        key, is_new = key_from(database.path.parent)
        keys = (key,)
        if is_new:
            logs.get("app").warning(
                "storage_key_made", file=KEY_FILE, remedy="back it up, or give your own: without it tokens are lost"
            )
    clients = {}
    for login_type, url in options.graph_urls.items():
        client = GraphClient(url, options.graph_version, timeout_s=options.limits.timeout_s, clock=clock)
        clients[login_type] = await stack.enter_async_context(client)
    graphs = GraphFactory(
        clients,
        SqliteCallLog(database, clock),
        AppBudget(clock),
        options.limits,
        clock,
        app_secrets=options.app_secrets,
        app_id=options.app_id,
    )
    return AccountManager(AccountStore(database), Vault(keys), graphs, clock, event_log)


def _reload_rules(manager: AccountManager, options: Options) -> tuple[ReloadRule, ...]:
    def use_limits(new: Mapping[str, Any]) -> None:
        calls = {"calls_per_hour": new["budget.calls_per_hour"], "calls_per_second": new["budget.calls_per_second"]}
        manager.limit(options.limits._replace(**calls))

    async def use_tokens(new: Mapping[str, Any]) -> None:
        tokens = new["account_tokens"]
        await manager.renew([one._replace(token=tokens.get(one.id)) for one in options.configured])

    return (
        ReloadRule(("budget.calls_per_hour", "budget.calls_per_second"), use_limits),
        ReloadRule(("app_secrets",), lambda new: manager.use_app_secrets(new["app_secrets"])),
        ReloadRule(("account_tokens",), use_tokens),
    )
