"""History imports in the database."""

from inboxd.domain.history import HistoryRun
from inboxd.domain.run import RunKind
from inboxd.events.log import EventLog
from inboxd.runs.store import RunStore
from inboxd.storage.database import Database


class HistoryStore(RunStore[HistoryRun]):
    """Reads and writes history imports. Every method raises StorageError."""

    def __init__(self, database: Database, event_log: EventLog) -> None:
        super().__init__(database, event_log, RunKind.HISTORY, HistoryRun)
