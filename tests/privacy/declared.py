"""What the daemon's features declare about personal data and expiry, for tests of single parts."""

from inboxd.conversations.personal_data_store import newest_message_at
from inboxd.core import Lifetimes, expiries, personal_data
from inboxd.options import Keep
from inboxd.privacy.deletion_store import DeletionStore
from inboxd.privacy.retention_worker import RetentionWorker
from inboxd.profiles.avatar_store import AvatarStore
from inboxd.profiles.cache import ProfileCache
from inboxd.runs.backfill.store import BackfillStore
from inboxd.runs.moments_store import MomentStore
from inboxd.storage.database import Database
from inboxd.storage.personal_data import ExpiredRows, PersonalData

from tests.support import ManualClock


def declared(database: Database) -> tuple[PersonalData, ...]:
    """What is declared, for tests that need no avatars and no cache."""
    avatars = AvatarStore(database, database.path.parent / "avatars")
    return personal_data(database, avatars, ProfileCache(ManualClock(), ttl_s=1, size=1))


class Retention:
    """The expiries of the daemon, by their names."""

    def __init__(self, database: Database, now: int) -> None:
        keep = Lifetimes(Keep(1, 1, 1, 1, 1))
        deletions = DeletionStore(database, ())
        found = expiries(database, BackfillStore(database), deletions, ManualClock(now), keep)
        self.remove = {one.name: one.remove for one in found}

    async def deliveries(self, state: str, before: int, after: int, step: int) -> ExpiredRows:
        return await self.remove["deliveries" if state == "done" else "failed_deliveries"](before, after, step)

    async def events(self, before: int, after: int, step: int) -> ExpiredRows:
        return await self.remove["events"](before, after, step)

    async def messages(self, before: int, after: int, step: int) -> ExpiredRows:
        return await self.remove["messages"](before, after, step)


def retention_worker(database: Database, clock: ManualClock, kept: Lifetimes | Keep) -> RetentionWorker:
    """A worker with the daemon's expiries."""
    lifetimes = kept if isinstance(kept, Lifetimes) else Lifetimes(kept)
    return RetentionWorker(
        database,
        expiries(database, BackfillStore(database), DeletionStore(database, ()), clock, lifetimes),
        MomentStore(database),
        clock,
        newest_message_at=lambda: newest_message_at(database.read),
    )
