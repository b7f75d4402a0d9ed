"""The steps of an erasure, each a transaction of its own. What is erased is said by the features' declarations."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final, NamedTuple

from inboxd.privacy.mention_scan import MentionScan
from inboxd.storage.database import Database
from inboxd.storage.personal_data import ErasedRows, MentionedRows, PersonalData, Scan, Subject

_DONE: Final = 2
"""FTS5's documentation of `merge`: fewer changed rows than this mean that nothing was left to merge."""
_LAST_STEPS: Final = 10


class LastStep(NamedTuple):
    """The result of the last step of an erasure."""

    counts: Counter[str]
    waiting: int


class _TooMuchError(Exception):
    """It is too much for one transaction, which is rolled back."""


class ErasureStore:
    """The steps of an erasure. Webhooks can be stored between any two of them, and each can be done again.

    `on_erased` is called in the last transaction of an erasure that has erased something.
    """

    def __init__(
        self,
        database: Database,
        personal_data: Sequence[PersonalData],
        on_erased: Callable[[sqlite3.Connection, Subject], None] | None = None,
    ) -> None:
        self._database = database
        self._on_erased = on_erased
        self._personal_data = tuple(personal_data)
        self.scans: tuple[Scan, ...] = tuple(one.scan for one in personal_data if one.scan is not None)
        """Where raw bytes are kept that may mention the subject."""
        self.indexes: tuple[str, ...] = tuple(index for one in personal_data for index in one.indexes)
        """The full-text indexes."""

    async def mention_scan(self, subject: Subject, known: MentionScan | None = None) -> MentionScan:
        """What to search for: the ids, and the mids of the messages, that there are and were (`known`)."""
        return await self._database.reading(lambda connection: self._mention_scan(connection, subject, known))

    async def look(self, scan: Scan, wanted: MentionScan, *, after: int, step: int) -> MentionedRows:
        """Which of the next `step` rows after the id `after` mention the subject."""
        return await self._database.reading(lambda connection: scan.look(connection, wanted.mentioned, after, step))

    async def remove(self, scan: Scan, numbers: Sequence[int]) -> ErasedRows:
        """Erase these rows of a scan."""
        return await self._database.write(lambda connection: scan.erase(connection, numbers))

    async def step(self, subject: Subject, step: int) -> Counter[str]:
        """Erase about `step` rows; how many of what. Empty: nothing is left."""
        return await self._database.write(partial(self._step, subject=subject, step=step))

    async def finish(
        self, subject: Subject, wanted: MentionScan, after: Sequence[int], step: int, erased: int = 0
    ) -> LastStep | None:
        """Erase, in one transaction, what has come since the scans looked up to the ids `after`.

        `erased`: rows that earlier steps have erased. None: it is too much for one transaction; look first. Otherwise
        nothing is left of what had come by this moment, except for rows that have to be processed first.
        """

        def transaction(connection: sqlite3.Connection) -> LastStep:
            scan = self._mention_scan(connection, subject, wanted)
            counts: Counter[str] = Counter()
            waiting = 0
            for one, since in zip(self.scans, after, strict=True):
                found = one.look(connection, scan.mentioned, since, step)
                if found.last_id is not None and one.more(connection, found.last_id):
                    raise _TooMuchError
                counts[one.name] += one.erase(connection, found.processed).rows
                waiting += found.waiting
            for _ in range(_LAST_STEPS):
                removed = self._step(connection, subject, step)
                if not removed:
                    if self._on_erased is not None and (erased or counts.total()):
                        self._on_erased(connection, subject)
                    return LastStep(counts, waiting)
                counts.update(removed)
            raise _TooMuchError

        try:
            return await self._database.write(transaction)
        except _TooMuchError:
            return None

    async def merge_index(self, index: str, pages: int, *, first: bool) -> bool:
        """One step of rewriting a full-text index without the erased words; whether there is more to do."""

        def transaction(connection: sqlite3.Connection) -> bool:
            before = connection.total_changes
            rank = -pages if first else pages
            connection.execute(f"INSERT INTO {index} ({index}, rank) VALUES ('merge', ?)", (rank,))  # noqa: S608 - ours
            return connection.total_changes - before >= _DONE

        return await self._database.write(transaction)

    def _mention_scan(self, connection: sqlite3.Connection, subject: Subject, known: MentionScan | None) -> MentionScan:
        ids = set(subject.ids)
        if subject.participant_id is None:
            return MentionScan([one.encode() for one in sorted(ids)])  # every delivery names its account
        keys = set() if known is None else set(known.mid_keys)
        for one in self._personal_data:
            if one.mid_keys is not None:
                keys |= one.mid_keys(connection, subject)
            if one.ids is not None:
                ids |= one.ids(connection, subject)
        found = {one.encode() for one in ids} | (set() if known is None else set(known.ids))
        return MentionScan(sorted(found), keys)

    def _step(self, connection: sqlite3.Connection, subject: Subject, step: int) -> Counter[str]:
        for one in reversed(self._personal_data):
            removed = one.erase(connection, subject, step) if one.erase is not None else None
            if removed:
                return removed
        return Counter()
