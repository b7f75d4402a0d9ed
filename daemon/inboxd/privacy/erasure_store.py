"""Erasing what is kept of one person, or of an account with everybody in it: the one list of where it stands.

Whoever adds a table that holds anything of a person adds it to `_OF_PERSON` and `_OF_ACCOUNT`;
tests/privacy/test_erasure.py looks at every table of the schema, and fails when one was forgotten.
"""

import sqlite3
from collections import Counter
from functools import partial
from typing import Final, NamedTuple

from inboxd.privacy import mention_store as mentions
from inboxd.privacy.mention_store import ErasedRows, Mentions, Wanted
from inboxd.storage.database import Database

AT_ONCE: Final = 20
"""Conversations whose messages are looked for at once."""
_CONVERSATIONS_OF_PERSON: Final = """
SELECT json_group_array(id) FROM conversations WHERE account_id = :account AND participant_id = :participant
"""
_CONVERSATIONS_OF_ACCOUNT: Final = f"""
SELECT json_group_array(id) FROM (SELECT id FROM conversations WHERE account_id = :account LIMIT {AT_ONCE})
"""  # noqa: S608 - a number
_MESSAGES: Final = """
DELETE FROM messages WHERE id IN (
    SELECT m.id FROM json_each(:ids) AS k CROSS JOIN messages AS m WHERE m.conversation_id = k.value LIMIT :step
)
"""
_EARLY_CHANGES: Final = """
DELETE FROM early_changes WHERE account_id = :account AND EXISTS (
    SELECT 1 FROM json_each(:ids) AS k CROSS JOIN messages AS m
    WHERE m.mid_key = early_changes.mid_key AND m.conversation_id = k.value
)
"""
_CONVERSATIONS: Final = "DELETE FROM conversations WHERE id IN (SELECT value FROM json_each(:ids))"
_OF_PERSON: Final = {
    "profiles": "DELETE FROM participants WHERE account_id = :account AND participant_id = :participant",
    "events": """
        DELETE FROM events WHERE id IN (
            SELECT id FROM events WHERE account_id = :account AND participant_id = :participant LIMIT :step
        )
    """,
    "backfill_attempts": """
        DELETE FROM backfill_attempts
        WHERE run_id IN (SELECT id FROM backfill_runs WHERE account_id = :account) AND participant_id = :participant
    """,
}
_OF_ACCOUNT: Final = {
    "profiles": """
        DELETE FROM participants WHERE (account_id, participant_id) IN (
            SELECT account_id, participant_id FROM participants WHERE account_id = :account LIMIT :step
        )
    """,
    "events": "DELETE FROM events WHERE id IN (SELECT id FROM events WHERE account_id = :account LIMIT :step)",
    "backfill_attempts": """
        DELETE FROM backfill_attempts WHERE (run_id, conversation_id) IN (
            SELECT a.run_id, a.conversation_id
            FROM backfill_runs AS r CROSS JOIN backfill_attempts AS a ON a.run_id = r.id
            WHERE r.account_id = :account LIMIT :step
        )
    """,
    "backfill_runs": """
        DELETE FROM backfill_runs WHERE id IN (SELECT id FROM backfill_runs WHERE account_id = :account LIMIT :step)
    """,
    "graph_calls": """
        DELETE FROM graph_calls WHERE id IN (SELECT id FROM graph_calls WHERE account_id = :account LIMIT :step)
    """,
    "early_changes": "DELETE FROM early_changes WHERE account_id = :account",
    "graph_stops": "DELETE FROM graph_stops WHERE scope = :account",
}
_MIDS: Final = """
SELECT m.mid_key FROM conversations AS c CROSS JOIN messages AS m ON m.conversation_id = c.id
WHERE c.account_id = :account AND c.participant_id = :participant
"""
_INDEXES: Final = ("message_search", "people_search")
_DONE: Final = 2
"""FTS5's documentation of `merge`: fewer changed rows than this mean that nothing was left to merge."""
_LAST_STEPS: Final = 10


class Subject(NamedTuple):
    """Whose data it is: one person's in an account, or (without a participant) the account's with everybody in it."""

    account_id: str
    participant_id: str | None
    ids: frozenset[str]
    """By which raw deliveries and events mention the subject."""

    @property
    def values(self) -> dict[str, object]:
        """The subject for the statements."""
        return {"account": self.account_id, "participant": self.participant_id}


class Ending(NamedTuple):
    """The last step of an erasure."""

    counts: Counter[str]
    waiting: int


class _TooMuchError(Exception):
    """It is too much for one transaction, which is undone."""


class ErasureStore:
    """The steps of an erasure. Each is a transaction that no webhook has to wait for, and can be done again."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def wanted(self, subject: Subject, known: Wanted | None = None) -> Wanted:
        """What to look for in bytes: the ids, and the mids of the messages that there are and were (`known`)."""
        ids = [one.encode() for one in sorted(subject.ids)]
        if subject.participant_id is None:
            return Wanted(ids)  # every delivery names its account
        rows = await self._database.reading(lambda connection: connection.execute(_MIDS, subject.values).fetchall())
        return Wanted(ids, {row[0] for row in rows}.union(known.mid_keys if known else ()))

    async def look(self, sql: str, wanted: Wanted, *, after: int, step: int) -> Mentions:
        """Which of the next `step` rows after the id `after` mention the subject; `sql` is one of `mentions`'."""
        return await self._database.reading(partial(mentions.look, sql=sql, wanted=wanted, after=after, step=step))

    async def remove(self, sql: str, numbers: list[int]) -> ErasedRows:
        """Erase these rows; `sql` is one of `mentions`'."""
        return await self._database.write(partial(mentions.remove, sql=sql, numbers=numbers))

    async def step(self, subject: Subject, step: int) -> Counter[str]:
        """Erase about `step` rows; how many of what. Nothing means that nothing is left."""
        return await self._database.write(partial(_step, subject=subject, step=step))

    async def finish(self, subject: Subject, wanted: Wanted, after: tuple[int, int], step: int) -> Ending | None:
        """Erase, in one transaction, what has come since deliveries and events were looked at up to these ids.

        None means that it is too much for one transaction: look first. Afterwards nothing is left of what had come by
        this moment, but for deliveries that wait to be understood.
        """

        def transaction(connection: sqlite3.Connection) -> Ending:
            counts: Counter[str] = Counter()
            keys = {row[0] for row in connection.execute(_MIDS, subject.values)} if wanted.mid_keys else set()
            known = Wanted(wanted.ids, keys.union(wanted.mid_keys))
            waiting = 0
            for name, (look, erase), since in zip(("deliveries", "events"), _SCANNED, after, strict=True):
                found = mentions.look(connection, look, known, after=since, step=step)
                if found.last_id is not None and connection.execute(_MORE[look], (found.last_id,)).fetchone():
                    raise _TooMuchError
                counts[name] += mentions.remove(connection, erase, found.settled).rows
                waiting += found.waiting
            for _ in range(_LAST_STEPS):
                removed = _step(connection, subject, step)
                if not removed:
                    return Ending(counts, waiting)
                counts.update(removed)
            raise _TooMuchError

        try:
            return await self._database.write(transaction)
        except _TooMuchError:
            return None

    async def merge_index(self, index: str, pages: int, *, first: bool) -> bool:
        """One step of rewriting a search index without the words that were erased; whether there is more to do."""

        def transaction(connection: sqlite3.Connection) -> bool:
            before = connection.total_changes
            rank = -pages if first else pages
            connection.execute(f"INSERT INTO {index} ({index}, rank) VALUES ('merge', ?)", (rank,))  # noqa: S608 - ours
            return connection.total_changes - before >= _DONE

        return await self._database.write(transaction)

    @property
    def indexes(self) -> tuple[str, ...]:
        """The search indexes."""
        return _INDEXES


_SCANNED: Final = (
    (mentions.DELIVERIES, mentions.ERASE_DELIVERY),
    (mentions.EVENTS, mentions.ERASE_EVENT),
)
_MORE: Final = {
    mentions.DELIVERIES: "SELECT 1 FROM deliveries WHERE id > ? LIMIT 1",
    mentions.EVENTS: "SELECT 1 FROM events WHERE id > ? LIMIT 1",
}


def _step(connection: sqlite3.Connection, subject: Subject, step: int) -> Counter[str]:
    values = {**subject.values, "step": step}
    person = subject.participant_id is not None
    of_whom = _CONVERSATIONS_OF_PERSON if person else _CONVERSATIONS_OF_ACCOUNT
    ((ids,),) = connection.execute(of_whom, values).fetchall()
    if ids != "[]":
        connection.execute(_EARLY_CHANGES, {**values, "ids": ids})
        counts = Counter(messages=connection.execute(_MESSAGES, {**values, "ids": ids}).rowcount)
        if counts["messages"] < step:
            counts["conversations"] = connection.execute(_CONVERSATIONS, {"ids": ids}).rowcount
        return +counts
    for name, sql in (_OF_PERSON if person else _OF_ACCOUNT).items():
        removed = connection.execute(sql, values).rowcount
        if removed:
            return Counter({name: removed})
    return Counter()
