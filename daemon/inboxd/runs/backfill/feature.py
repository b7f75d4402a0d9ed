"""Builds this feature: the walk over conversations whose participants lack a profile."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from inboxd.accounts.manager import AccountManager, ManagedAccount
from inboxd.events.feature import Events
from inboxd.feature import Core, Feature, Job, Link, Setting
from inboxd.profiles.sync import ProfileSync
from inboxd.runs import personal_data_store
from inboxd.runs.backfill import schedule
from inboxd.runs.backfill.account_workers import BackfillWorkers
from inboxd.runs.backfill.api import BackfillsApi
from inboxd.runs.backfill.metrics import BackfillMetrics
from inboxd.runs.backfill.pages import BackfillPages
from inboxd.runs.backfill.schedule import BackfillSchedule, ScheduleOptions
from inboxd.runs.backfill.service import BackfillService
from inboxd.runs.backfill.store import BackfillStore
from inboxd.runs.event_types import EVENT_TYPES
from inboxd.runs.moments_store import MomentStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is configured of this feature. Days of 0 mean for ever."""

    schedule: ScheduleOptions | None
    """None: no run begins by itself."""
    keep_runs_days: int


def build(
    core: Core,
    options: Options,
    *,
    accounts: AccountManager,
    events: Events,
    sync_of: Callable[[ManagedAccount], ProfileSync],
) -> Feature:
    """Build the feature. `sync_of` is the profile sync that an account shares with live fetches."""
    backfills = BackfillStore(core.database, events.log)
    service = BackfillService(backfills, core.clock)
    metrics = BackfillMetrics(core.metrics.registry)
    workers = BackfillWorkers(service, backfills, sync_of=sync_of, clock=core.clock, random=core.random)
    keep_runs = Setting("backfill.keep_runs_days", options.keep_runs_days)

    def account_workers(account_id: str) -> Sequence[Job]:
        return workers.for_account(accounts.served[account_id])

    def scheduled() -> tuple[Job, ...]:
        if options.schedule is None:
            return ()
        moments = MomentStore(core.database)
        worker = BackfillSchedule(
            service, backfills, moments, lambda: accounts.served, core.clock, core.random, options.schedule
        )
        return (Job(worker, schedule.SCHEDULE),)

    return Feature(
        name="backfill",
        event_types=EVENT_TYPES,
        workers=scheduled(),
        account_workers=account_workers,
        on_account_removed=workers.account_removed,
        operations=BackfillsApi(service, backfills, events.streams, core.clock).operations(),
        pages=(BackfillPages(service, backfills, accounts, core.clock),),
        templates="inboxd.runs",
        links=(Link("/backfill", "Backfill", 20),),
        collect=partial(metrics.collect, backfills, accounts.served),
        reload=(keep_runs.rule,),
        expiries=personal_data_store.expiries(core.database, days=keep_runs),
        personal_data=personal_data_store.personal_data(),
    )
