"""Builds this feature: the import of the messages from before an account was connected."""

from collections.abc import Sequence
from functools import partial

from inboxd.accounts.manager import AccountManager
from inboxd.conversations.read_back import ReadBackService
from inboxd.events.feature import Events
from inboxd.feature import Core, Feature, Job, Link
from inboxd.runs.account_workers import RunWorkers
from inboxd.runs.history.api import ImportsApi
from inboxd.runs.history.imported_conversations_store import ImportedConversationStore
from inboxd.runs.history.metrics import HistoryMetrics
from inboxd.runs.history.pages import HistoryPages
from inboxd.runs.history.service import HistoryService
from inboxd.runs.history.store import HistoryStore
from inboxd.runs.history.worker import SCHEDULE, HistoryServices, HistoryWorker, Reconciled


def build(core: Core, *, accounts: AccountManager, events: Events, reconciled: Reconciled) -> Feature:
    """Build the feature. `reconciled` is what reconciliation knows.

    Backfill declares what both kinds share: tables, event types, templates.
    """
    imports = HistoryStore(core.database, events.log)
    service = HistoryService(imports, core.clock)
    metrics = HistoryMetrics(core.metrics.registry)
    services = HistoryServices(
        imports=imports,
        imported=ImportedConversationStore(core.database),
        read_back=ReadBackService(core.database, events.log, core.clock),
        aliases=accounts.aliases,
        reconciled=reconciled,
        clock=core.clock,
        random=core.random,
    )
    workers = RunWorkers(service, imports, core.clock, SCHEDULE, lambda managed: HistoryWorker(managed, services))

    def account_workers(account_id: str) -> Sequence[Job]:
        return workers.for_account(accounts.served[account_id])

    return Feature(
        name="history",
        account_workers=account_workers,
        on_account_removed=workers.account_removed,
        operations=ImportsApi(service, imports, events.streams, core.clock).operations(),
        pages=(HistoryPages(service, imports, accounts, core.clock),),
        links=(Link("/history", "History", 21),),
        collect=partial(metrics.collect, imports, accounts.served),
    )
