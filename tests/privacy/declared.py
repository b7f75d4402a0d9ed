"""What the daemon's features declare about personal data and expiry, for tests of single parts."""

from collections.abc import Callable
from typing import NamedTuple

from inboxd.conversations import personal_data_store as conversations
from inboxd.offline.privacy import personal_data
from inboxd.privacy import personal_data_store as privacy
from inboxd.privacy.deletion_store import DeletionStore
from inboxd.privacy.retention_worker import RetentionWorker
from inboxd.profiles.avatar_store import AvatarStore
from inboxd.profiles.cache import ProfileCache
from inboxd.receiving import personal_data_store as receiving
from inboxd.runs import personal_data_store as runs
from inboxd.runs.moments_store import MomentStore
from inboxd.storage.database import Database
from inboxd.storage.personal_data import ExpiredRows, Expiry, PersonalData

from tests.support import ManualClock


class Keep(NamedTuple):
    """For how many days things are kept; 0 is for ever."""

    deliveries: int
    failed: int
    events: int
    messages: int
    runs: int


class Lifetimes:
    """What may change while the daemon runs."""

    def __init__(self, keep: Keep) -> None:
        self.keep = keep


def declared(database: Database) -> tuple[PersonalData, ...]:
    """What is declared, for tests that need no avatars and no cache."""
    avatars = AvatarStore(database, database.path.parent / "avatars")
    return personal_data(database, avatars, ProfileCache(ManualClock(), ttl_s=1, size=1))


def expiries(database: Database, clock: ManualClock, kept: Lifetimes) -> list[Expiry]:
    """What the features declare about how long they keep rows."""
    return [
        *receiving.expiries(
            database,
            deliveries=lambda: kept.keep.deliveries,
            failed=lambda: kept.keep.failed,
            events=lambda: kept.keep.events,
        ),
        *conversations.expiries(
            database, clock, early_changes=lambda: kept.keep.events, messages=lambda: kept.keep.messages
        ),
        *runs.expiries(database, days=lambda: kept.keep.runs),
        *privacy.expiries(DeletionStore(database, ())),
    ]


class Retention:
    """The expiries of the daemon, by their names."""

    def __init__(self, database: Database, now: int) -> None:
        found = expiries(database, ManualClock(now), Lifetimes(Keep(1, 1, 1, 1, 1)))
        self.remove = {one.name: one.remove for one in found}

    async def deliveries(self, state: str, before: int, after: int, step: int) -> ExpiredRows:
        return await self.remove["deliveries" if state == "done" else "failed_deliveries"](before, after, step)

    async def events(self, before: int, after: int, step: int) -> ExpiredRows:
        return await self.remove["webhook_events"](before, after, step)

    async def messages(self, before: int, after: int, step: int) -> ExpiredRows:
        return await self.remove["messages"](before, after, step)


def retention_worker(
    database: Database, clock: ManualClock, kept: Lifetimes | Keep, *, busy: Callable[[], bool] = lambda: False
) -> RetentionWorker:
    """A worker with the daemon's expiries."""
    lifetimes = kept if isinstance(kept, Lifetimes) else Lifetimes(kept)
    return RetentionWorker(
        database,
        expiries(database, clock, lifetimes),
        MomentStore(database),
        clock,
        newest_message_at=lambda: conversations.newest_message_at(database.read),
        busy=busy,
    )
