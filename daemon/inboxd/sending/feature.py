"""Builds this feature: messages of the account are kept in the outbox until Meta has them."""

from dataclasses import dataclass
from typing import Literal

from inboxd.accounts.manager import AccountManager
from inboxd.events.log import EventLog
from inboxd.feature import Core, Feature, Job, Setting
from inboxd.sending import expiry_worker, personal_data_store
from inboxd.sending.api import OutboundApi
from inboxd.sending.event_types import event_types
from inboxd.sending.expiry_worker import ExpiryWorker
from inboxd.sending.service import OutboxService


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is configured of this feature."""

    per_second: float
    per_hour: int
    """Calls of the Send API of one account."""
    private_replies_per_hour: int
    after_failure: Literal["hold", "continue"]
    """Whether the later messages of a conversation wait for one that failed."""
    automation_pause_minutes: int
    keep_days: int
    max_waiting: int
    """Messages that may wait to be sent."""
    allow_http: bool
    """Whether URLs in messages need not be https: for the simulator."""


@dataclass(frozen=True, kw_only=True)
class Sending(Feature):
    """This feature, and what the features above it use."""

    outbox: OutboxService


def build(core: Core, options: Options, *, accounts: AccountManager, event_log: EventLog) -> Sending:
    """Build the feature."""
    database, clock = core.database, core.clock
    after_failure = Setting("sending.after_failure", options.after_failure)
    max_waiting = Setting("sending.max_waiting", options.max_waiting)
    keep_days = Setting("sending.keep_days", options.keep_days)

    def hold() -> bool:
        return after_failure() == "hold"

    outbox = OutboxService(database, event_log, clock, max_waiting=max_waiting, hold_after_failure=hold)
    expiry = ExpiryWorker(database, event_log, clock, hold_after_failure=hold)
    expiry.on_released = outbox.notify
    api = OutboundApi(database, outbox, accounts.served, allow_http=options.allow_http)
    return Sending(
        name="sending",
        outbox=outbox,
        event_types=event_types(accounts.aliases),
        operations=api.operations(),
        workers=(Job(expiry, expiry_worker.SCHEDULE),),
        expiries=personal_data_store.expiries(database, clock, days=keep_days),
        personal_data=personal_data_store.personal_data(database),
        reload=(after_failure.rule, max_waiting.rule, keep_days.rule),
    )
