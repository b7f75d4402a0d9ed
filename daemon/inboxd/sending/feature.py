"""Builds this feature: messages of the account are kept in the outbox until Meta has them."""

import sqlite3
from dataclasses import dataclass
from typing import Literal

from inboxd.accounts.manager import AccountManager
from inboxd.domain.outbound import OutboundKind
from inboxd.domain.reconciliation import MINUTE_MS
from inboxd.events.log import EventLog
from inboxd.feature import Core, Feature, Job, Link, Setting
from inboxd.meta.send_budget import SendLimits
from inboxd.sending import delivery_store, expiry_worker, personal_data_store
from inboxd.sending.actions_api import ActionsApi
from inboxd.sending.api import OutboundApi
from inboxd.sending.channels import ChannelFactory, ChannelTools
from inboxd.sending.delivery_store import Concluding
from inboxd.sending.echoes import Echoes
from inboxd.sending.event_types import event_types
from inboxd.sending.expiry_worker import ExpiryWorker
from inboxd.sending.metrics import SendingMetrics
from inboxd.sending.outbox_pages import PATH, OutboxPages
from inboxd.sending.overview import SendingOverview
from inboxd.sending.pages import AnsweringPages
from inboxd.sending.senders import Senders
from inboxd.sending.sending_tools import SendingTools
from inboxd.sending.service import OutboxService
from inboxd.sending.settlement import Settlement
from inboxd.sending.uploads.service import UploadService


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
    channels: dict[OutboundKind, ChannelFactory]
    """How each kind is sent. A feature above adds its own kind when it is built."""
    outbox_pages: OutboxPages


def build(
    core: Core, options: Options, *, accounts: AccountManager, event_log: EventLog, uploads: UploadService
) -> Sending:
    """Build the feature."""
    database, clock = core.database, core.clock
    after_failure = Setting("sending.after_failure", options.after_failure)
    max_waiting = Setting("sending.max_waiting", options.max_waiting)
    keep_days = Setting("sending.keep_days", options.keep_days)

    def hold() -> bool:
        return after_failure() == "hold"

    outbox = OutboxService(database, event_log, clock, max_waiting=max_waiting, hold_after_failure=hold)
    pause = Setting("sending.automation_pause_minutes", options.automation_pause_minutes)
    metrics = SendingMetrics(core.metrics.registry)
    settlement = Settlement(Concluding(event_log, hold), lambda: pause() * MINUTE_MS)

    def orphaned(connection: sqlite3.Connection, now: int) -> int:
        return settlement.orphaned_of_others(connection, [*accounts.served], now)

    expiry = ExpiryWorker(database, event_log, clock, hold_after_failure=hold, orphaned=orphaned)
    expiry.on_released = outbox.notify
    channel_tools = ChannelTools(database, event_log, clock, accounts.aliases, uploads)
    limits = SendLimits(options.per_second, options.per_hour, options.private_replies_per_hour)
    tools = SendingTools(
        database=database, accounts=accounts, settlement=settlement, metrics=metrics, clock=clock, random=core.random
    )
    senders = Senders(accounts, tools, channel_tools, limits)
    outbox.notify.append(senders.notify)
    echoes = Echoes(settlement, clock, senders.echoed)
    api = OutboundApi(database, outbox, accounts.aliases, allow_http=options.allow_http)
    outbox_pages = OutboxPages(database, outbox, accounts)
    answering = AnsweringPages(database, outbox, accounts.served, clock)
    actions = ActionsApi(database, event_log, clock, senders.sender_of)

    async def collect() -> None:
        metrics.show(await delivery_store.backlogs(database.read), clock.now_ms())

    return Sending(
        name="sending",
        outbox=outbox,
        channels=senders.factories,
        event_types=event_types(accounts.aliases),
        projections=(echoes.project,),
        operations=[*api.operations(), *actions.operations()],
        workers=(Job(expiry, expiry_worker.SCHEDULE),),
        account_workers=senders.workers_of,
        on_account_removed=senders.account_removed,
        expiries=personal_data_store.expiries(database, clock, days=keep_days),
        personal_data=personal_data_store.personal_data(database, forget=senders.forget),
        collect=collect,
        outbox_pages=outbox_pages,
        pages=(answering, outbox_pages),
        templates="inboxd.sending",
        links=(Link(PATH, "Outbox", 12),),
        thread_part=answering.part,
        overview=SendingOverview(database.read, accounts, senders.report, clock).read,
        reload=(after_failure.rule, max_waiting.rule, keep_days.rule, pause.rule, senders.rule),
    )
