"""Builds this feature: deliveries are processed into conversations and messages, which can be read and searched."""

from collections import Counter
from dataclasses import dataclass

from inboxd.accounts.manager import AccountManager
from inboxd.conversations import ingest, personal_data_store, search_worker
from inboxd.conversations.api import ConversationsApi
from inboxd.conversations.batch_writer import BatchWriter
from inboxd.conversations.delivery_retries import DELIVERY_FAILED, DeliveryRetries
from inboxd.conversations.event_preparation import EventPreparation
from inboxd.conversations.event_types import event_types
from inboxd.conversations.ingest import Ingest
from inboxd.conversations.metrics import ConversationMetrics
from inboxd.conversations.pages import InboxPages
from inboxd.conversations.search_store import SearchIndexStore
from inboxd.conversations.search_worker import SearchIndexWorker
from inboxd.conversations.updates import ConversationUpdates
from inboxd.conversations.webhook_event_types import WEBHOOK_EVENT_TYPES
from inboxd.events.log import EventLog
from inboxd.feature import Contributions, Core, Feature, Job, Link, Setting
from inboxd.profiles.feature import Profiles
from inboxd.receiving.store import Inbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is configured of this feature. Days of 0 mean for ever."""

    keep_webhook_events_days: int
    keep_messages_days: int


def build(
    core: Core,
    options: Options,
    *,
    inbox: Inbox,
    accounts: AccountManager,
    event_log: EventLog,
    profiles: Profiles,
    given: Contributions,
) -> Feature:
    """Build the feature.

    `given` has what the features above give, which are built later: projections, which run inside the transaction that
    processes webhook events, observers of what was stored, and what stands below the messages of a conversation.
    """
    database, clock = core.database, core.clock
    metrics = ConversationMetrics(core.metrics.registry)

    def observe(counts: Counter[tuple[str, str]]) -> None:
        for told in given.observers:
            told(counts)

    writer = BatchWriter(
        database,
        profiles.cache,
        event_log,
        clock,
        metrics,
        projections=given.projections,
        on_due=profiles.fetchers.notify,
        observe=observe,
    )
    retries = DeliveryRetries(database, event_log, clock, metrics, core.random)
    process = Ingest(inbox, EventPreparation(accounts.aliases, clock), writer, retries, clock)
    updates = ConversationUpdates(database, event_log, clock)
    index = SearchIndexWorker(SearchIndexStore(database), waiting=lambda: inbox.pressure)
    events = Setting("storage.keep_webhook_events_days", options.keep_webhook_events_days)
    messages = Setting("storage.keep_messages_days", options.keep_messages_days)
    return Feature(
        name="conversations",
        workers=(Job(process, ingest.SCHEDULE), Job(index, search_worker.SCHEDULE)),
        event_types=(*event_types(accounts.aliases), *WEBHOOK_EVENT_TYPES, DELIVERY_FAILED),
        operations=ConversationsApi(database, accounts.aliases, clock, profiles.outlook, event_log).operations(),
        pages=(InboxPages(database, accounts, clock, profiles.outlook, updates, given.thread_parts),),
        templates="inboxd.conversations",
        links=(Link("/inbox", "Inbox", 10),),
        reload=(events.rule, messages.rule),
        expiries=personal_data_store.expiries(database, clock, early_changes=events, messages=messages),
        personal_data=personal_data_store.personal_data(database, forget=writer.erasures.forget),
    )
