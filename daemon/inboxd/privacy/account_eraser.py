"""Erasing: the one way in which a person, or an account with everybody in it, is erased from everything but backups."""

from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

from inboxd.domain.conversation import ConversationKey
from inboxd.privacy import mention_store as mentions
from inboxd.privacy.erasure_store import ErasureStore, Subject
from inboxd.privacy.mention_store import Wanted
from inboxd.profiles.avatar_store import AvatarStore
from inboxd.profiles.cache import ProfileCache
from inboxd.runtime.clock import Clock
from inboxd.storage.database import Database

STEP: Final = 200
STEP_REST_S: Final = 0.02
ROUND_REST_S: Final = 0.2
LAST_STEP: Final = 50
"""Rows that the last transaction of an erasure may look at."""
MAX_LOOKS: Final = 100
"""How often it is looked again because more has come than that."""
MERGE_PAGES: Final = 64


class ErasureInterruptedError(Exception):
    """Whoever erases was told to stop. What is left is erased the next time."""


class Erased(NamedTuple):
    """What an erasure came to."""

    counts: Counter[str]
    waiting: int
    """Deliveries that mention the subject and wait to be understood."""
    files_left: int
    """Picture files that nobody refers to and that could not be removed."""
    journal_emptied: bool

    @property
    def rows(self) -> int:
        """Rows that were the subject's; pictures that nobody refers to may have been anybody's."""
        return self.counts.total() - self.counts["avatars"]

    @property
    def waits_for(self) -> str | None:
        """What it still waits for; None when nothing is left."""
        if self.waiting:
            return "deliveries"
        if self.files_left:
            return "files"
        return None if self.journal_emptied else "journal"


class AccountEraser:
    """Erases from every table, the search indexes, the picture files, memory, and the journal of the database.

    An erasure that was interrupted, by a stop or by a crash, is carried out by erasing again.
    """

    def __init__(self, database: Database, avatars: AvatarStore, cache: ProfileCache, clock: Clock) -> None:
        self._database = database
        self._store = ErasureStore(database)
        self._avatars = avatars
        self._cache = cache
        self._clock = clock

    async def erase(
        self,
        subject: Subject,
        *,
        rounds: int,
        stopping: Callable[[], bool] = lambda: False,
        finally_too: Callable[[], Awaitable[None]] | None = None,
    ) -> Erased:
        """Erase everything of `subject` that has come by now. Raises StorageError, ErasureInterruptedError.

        Deliveries that wait to be understood, and whoever reads the journal, are waited for `rounds` times.
        `finally_too` is called when every row is gone and only the journal is left.
        """
        counts: Counter[str] = Counter()
        wanted: Wanted | None = None
        waiting = 0
        for attempt in range(rounds):
            if attempt:
                await self._clock.sleep(ROUND_REST_S)
            wanted = await self._store.wanted(subject, wanted)
            waiting = await self._round(subject, wanted, counts, stopping)
            if not waiting:
                break
        # After the rows: whoever reads or fetches a profile meanwhile finds no row, and keeps nothing in memory.
        if subject.participant_id is None:
            self._cache.discard_account(subject.account_id)
        else:
            self._cache.discard(ConversationKey(subject.account_id, subject.participant_id))
        swept = await self._avatars.sweep()
        counts["avatars"] = swept.removed
        await self._rewrite_indexes(stopping)
        if finally_too is not None and not waiting and not swept.failed:
            await finally_too()
        return Erased(counts, waiting, swept.failed, await self.empty_journal(rounds))

    async def empty_journal(self, rounds: int) -> bool:
        """Empty the journal, which holds traces of what was erased; False when others read it all the while."""
        for attempt in range(rounds):
            if attempt:
                await self._clock.sleep(ROUND_REST_S)
            if await self._database.checkpoint():
                return True
        return False

    async def _round(self, subject: Subject, wanted: Wanted, counts: Counter[str], stopping: Callable[[], bool]) -> int:
        """Erase everything once; how many deliveries that mention the subject wait to be understood."""
        waiting = deliveries = events = 0
        for _ in range(MAX_LOOKS):
            deliveries, more = await self._erase_mentions(
                mentions.DELIVERIES, mentions.ERASE_DELIVERY, wanted, deliveries, counts, stopping
            )
            waiting += more
            events, _ = await self._erase_mentions(
                mentions.EVENTS, mentions.ERASE_EVENT, wanted, events, counts, stopping
            )
            while removed := await self._store.step(subject, STEP):
                counts.update(removed)
                await self._rest(stopping)
            ending = await self._store.finish(subject, wanted, (deliveries, events), LAST_STEP)
            if ending is not None:
                counts.update(ending.counts)
                return waiting + ending.waiting
        return waiting + 1  # so much comes in that there is no end to it: ask again

    async def _erase_mentions(
        self,
        look: str,
        erase: str,
        wanted: Wanted,
        after: int,
        counts: Counter[str],
        stopping: Callable[[], bool],
    ) -> tuple[int, int]:
        """Erase what mentions the subject after the id `after`: up to which id it was looked at, and how many wait."""
        waiting = 0
        while (found := await self._store.look(look, wanted, after=after, step=STEP)).last_id is not None:
            after = found.last_id
            waiting += found.waiting
            if found.settled:
                removed = await self._store.remove(erase, found.settled)
                counts["deliveries" if look == mentions.DELIVERIES else "events"] += removed.rows
                waiting += len(found.settled) - removed.rows  # put back into the queue meanwhile
                after = min(after, removed.newest_id)
                await self._rest(stopping)
            elif stopping():
                raise ErasureInterruptedError
        return after, waiting

    async def _rewrite_indexes(self, stopping: Callable[[], bool]) -> None:
        for index in self._store.indexes:
            first = True
            while await self._store.merge_index(index, MERGE_PAGES, first=first):
                first = False
                await self._rest(stopping)

    async def _rest(self, stopping: Callable[[], bool]) -> None:
        """Let webhooks pass. Raises ErasureInterruptedError when it is time to stop."""
        if stopping():
            raise ErasureInterruptedError
        await self._clock.sleep(STEP_REST_S)
