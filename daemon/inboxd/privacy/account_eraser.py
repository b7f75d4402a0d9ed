"""Erasing a participant, or an account with everybody in it, from everything but backups. This is the only way."""

import sqlite3
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from inboxd.privacy.erasure_store import ErasureStore
from inboxd.privacy.mention_scan import MentionScan
from inboxd.runtime.clock import Clock
from inboxd.storage.database import Database
from inboxd.storage.personal_data import PersonalData, Scan, Subject

STEP: Final = 200
STEP_REST_S: Final = 0.02
ROUND_REST_S: Final = 0.2
LAST_STEP: Final = 50
"""Rows that the last transaction of an erasure may look at."""
MAX_LOOKS: Final = 100
"""How often a round looks again because more has come than that."""
MERGE_PAGES: Final = 64


class ErasureInterruptedError(Exception):
    """The worker was told to stop. What is left is erased the next time."""


class Erased(NamedTuple):
    """The result of an erasure."""

    counts: Counter[str]
    files_removed: int
    waiting: int
    """Deliveries that mention the subject and have to be processed first."""
    files_left: int
    """Files that no row names and that could not be removed."""
    journal_emptied: bool

    @property
    def rows(self) -> int:
        """Rows that were the subject's. A removed file may have been anybody's, and is not counted."""
        return self.counts.total() - self.files_removed

    @property
    def waits_for(self) -> str | None:
        """What the erasure still waits for; None when nothing is left."""
        if self.waiting:
            return "deliveries"
        if self.files_left:
            return "files"
        return None if self.journal_emptied else "journal"


class AccountEraser:
    """Erases what the features declare, from tables, search indexes, files, memory, and the journal of the database.

    `on_erased` is called in the last transaction of each round that has erased something.
    An erasure that was interrupted, by a stop or by a crash, is completed by erasing again.
    """

    def __init__(
        self,
        database: Database,
        personal_data: Sequence[PersonalData],
        clock: Clock,
        on_erased: Callable[[sqlite3.Connection, Subject], None] | None = None,
    ) -> None:
        self._database = database
        self._personal_data = tuple(personal_data)
        self._store = ErasureStore(database, personal_data, on_erased)
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

        Deliveries that have to be processed first, and programs that read the journal, are waited for `rounds` times.
        `finally_too` is called when every row is gone and only the journal is left.
        """
        counts: Counter[str] = Counter()
        wanted: MentionScan | None = None
        waiting = 0
        for attempt in range(rounds):
            if attempt:
                await self._clock.sleep(ROUND_REST_S)
            wanted = await self._store.mention_scan(subject, wanted)
            waiting = await self._round(subject, wanted, counts, stopping)
            if not waiting:
                break
        removed, failed = await self._erase_beside_rows(subject, counts)
        await self._rewrite_indexes(stopping)
        if finally_too is not None and not waiting and not failed:
            await finally_too()
        return Erased(counts, removed, waiting, failed, await self.empty_journal(rounds))

    async def empty_journal(self, rounds: int) -> bool:
        """Empty the journal, which holds traces of what was erased. False: others read it all the while."""
        for attempt in range(rounds):
            if attempt:
                await self._clock.sleep(ROUND_REST_S)
            if await self._database.checkpoint():
                return True
        return False

    async def _round(
        self, subject: Subject, wanted: MentionScan, counts: Counter[str], stopping: Callable[[], bool]
    ) -> int:
        """Erase everything once; how many rows that mention the subject have to be processed first."""
        waiting, looked_to, before = 0, [0] * len(self._store.scans), counts.total()
        for _ in range(MAX_LOOKS):
            for number, scan in enumerate(self._store.scans):
                looked_to[number], more = await self._erase_mentions(scan, wanted, looked_to[number], counts, stopping)
                waiting += more
            await self._erase_rows(subject, counts, stopping)
            last = await self._store.finish(subject, wanted, looked_to, LAST_STEP, counts.total() - before)
            if last is not None:
                counts.update(last.counts)
                return waiting + last.waiting
        return waiting + 1  # more comes in all the time than is erased: try again

    async def _erase_rows(self, subject: Subject, counts: Counter[str], stopping: Callable[[], bool]) -> None:
        """Erase rows step by step. Of a person the last ones are left to the last transaction, which `on_erased` is in.

        If the daemon is killed between the two, the next erasure must find something, or nobody is told of either.
        """
        while removed := await self._store.step(subject, STEP):
            counts.update(removed)
            await self._rest(stopping)
            if subject.participant_id is not None and removed.total() < STEP:
                return

    async def _erase_mentions(
        self, scan: Scan, wanted: MentionScan, after: int, counts: Counter[str], stopping: Callable[[], bool]
    ) -> tuple[int, int]:
        """Erase what mentions the subject after the id `after`: up to which id it looked, and how many rows wait."""
        waiting = 0
        while (found := await self._store.look(scan, wanted, after=after, step=STEP)).last_id is not None:
            after = found.last_id
            waiting += found.waiting
            if found.processed:
                removed = await self._store.remove(scan, found.processed)
                counts[scan.name] += removed.rows
                waiting += removed.waiting  # put back into the queue meanwhile
                after = min(after, removed.newest_id)
                await self._rest(stopping)
            elif stopping():
                raise ErasureInterruptedError
        return after, waiting

    async def _erase_beside_rows(self, subject: Subject, counts: Counter[str]) -> tuple[int, int]:
        """Drop what is in memory and remove files: how many were removed, and how many could not be.

        This comes after the rows: a profile that is read or fetched meanwhile finds no row, and is not kept in memory.
        """
        for one in self._personal_data:
            if one.forget is not None:
                one.forget(subject)
        removed = failed = 0
        for one in self._personal_data:
            if one.sweep is not None:
                swept = await one.sweep()
                counts[swept.name] += swept.removed
                removed, failed = removed + swept.removed, failed + swept.failed
        return removed, failed

    async def _rewrite_indexes(self, stopping: Callable[[], bool]) -> None:
        for index in self._store.indexes:
            first = True
            while await self._store.merge_index(index, MERGE_PAGES, first=first):
                first = False
                await self._rest(stopping)

    async def _rest(self, stopping: Callable[[], bool]) -> None:
        """Let webhooks be stored. Raises ErasureInterruptedError when it is time to stop."""
        if stopping():
            raise ErasureInterruptedError
        await self._clock.sleep(STEP_REST_S)
