"""Builds this feature: accounts are compared with the Conversations API, and what webhooks did not bring is added."""

from collections.abc import Sequence
from dataclasses import dataclass

from inboxd.accounts.manager import AccountManager
from inboxd.conversations.read_back import ReadBackService
from inboxd.domain.completeness import Completeness
from inboxd.domain.reconciliation import MINUTE_MS
from inboxd.events.feature import Events
from inboxd.feature import Core, Feature, Job, Setting
from inboxd.reconciliation import completeness_store, heartbeat, personal_data_store, worker
from inboxd.reconciliation.api import CompletenessApi
from inboxd.reconciliation.check import MailboxCheck, Services
from inboxd.reconciliation.event_types import EVENT_TYPES
from inboxd.reconciliation.heartbeat import Heartbeat
from inboxd.reconciliation.lookups import MessageLookups
from inboxd.reconciliation.lookups_store import LookupStore
from inboxd.reconciliation.metrics import ReconciliationMetrics
from inboxd.reconciliation.overview import CompletenessOverview
from inboxd.reconciliation.signals import DeliverySignals
from inboxd.reconciliation.store import ReconciliationStore
from inboxd.reconciliation.worker import Plan, ReconciliationWorker


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is configured of this feature."""

    every_minutes: int
    """Minutes between two checks; 0: none."""
    share: float
    """Of the hour's calls."""
    alert_below: float
    """The share of a day's messages that webhooks should bring."""
    alert_after_hours: int


def build(core: Core, options: Options, *, accounts: AccountManager, events: Events) -> Feature:
    """Build the feature."""
    database, clock = core.database, core.clock
    every = Setting("reconciliation.every_minutes", options.every_minutes)
    share = Setting("reconciliation.share", options.share)
    below = Setting("reconciliation.alert_below", options.alert_below)
    after_hours = Setting("reconciliation.alert_after_hours", options.alert_after_hours)
    metrics = ReconciliationMetrics(core.metrics.registry)
    store, signals = ReconciliationStore(database), DeliverySignals(clock)
    read_back = ReadBackService(database, events.log, clock)
    services = Services(store, read_back, clock, accounts.aliases, signals, metrics)
    plan = Plan(every_ms=lambda: every() * MINUTE_MS, share=share)
    alive = Heartbeat(store, clock)

    def account_workers(account_id: str) -> Sequence[Job]:
        managed = accounts.served[account_id]
        check = MailboxCheck(managed, services)
        lookups = MessageLookups(account_id, services, LookupStore(database), check)
        checking = ReconciliationWorker(managed, services, database, events.log, plan, check, lookups)
        return (Job(checking, worker.SCHEDULE),)

    async def account_removed(account_id: str) -> None:
        signals.listeners.pop(account_id, None)

    async def completeness(account_id: str) -> Completeness:
        return await completeness_store.of_account(database.read, account_id, clock.now_ms())

    async def collect() -> None:
        found = {account_id: await completeness(account_id) for account_id in sorted(accounts.served)}
        metrics.collect(found, clock.now_ms(), compared=every() > 0)

    overview = CompletenessOverview(
        completeness,
        lambda: {account_id: one.account for account_id, one in accounts.served.items()},
        clock,
        every=every,
        below=below,
        after_hours=after_hours,
    )
    api = CompletenessApi(
        completeness, lambda: accounts.served, clock, every=every, below=below, after_hours=after_hours
    )
    return Feature(
        name="reconciliation",
        start=lambda _features: alive.begin(),
        workers=(Job(alive, heartbeat.SCHEDULE),),
        account_workers=account_workers,
        on_account_removed=account_removed,
        event_types=EVENT_TYPES,
        projections=(signals.project,),
        operations=api.operations(),
        templates="inboxd.reconciliation",
        collect=collect,
        reload=(every.rule, share.rule, below.rule, after_hours.rule),
        expiries=personal_data_store.expiries(database),
        personal_data=personal_data_store.personal_data(database),
        overview=overview.read,
    )
