"""Every table of the schema is declared, and what a new feature declares needs no change of privacy's."""

import sqlite3
from collections import Counter
from typing import Any, Final

import pytest
from inboxd.domain.conversation import ConversationKey
from inboxd.privacy.account_eraser import AccountEraser
from inboxd.privacy.deletion_store import DeletionStore
from inboxd.privacy.participant_eraser import ParticipantEraser
from inboxd.privacy.retention_worker import DAY_MS, RetentionWorker
from inboxd.runs.moments_store import MomentStore
from inboxd.storage.database import Database
from inboxd.storage.personal_data import ExpiredRows, Expiry, Mentioned, PersonalData, Subject

from tests.privacy.declared import declared
from tests.support import ACCOUNT, ANA, BRUNO, T0, ManualClock, event_log

SHADOWS: Final = ("config", "content", "data", "docsize", "idx")
"""What SQLite adds to the name of a full-text index for the tables that it keeps it in."""


async def tables(database: Database) -> set[str]:
    """The tables of the schema, without those that SQLite keeps for a full-text index."""
    rows = await database.read("SELECT name, sql LIKE 'CREATE VIRTUAL TABLE%' FROM sqlite_master WHERE type = 'table'")
    shadows = {"sqlite_sequence"} | {f"{name}_{suffix}" for name, virtual in rows if virtual for suffix in SHADOWS}
    return {name for name, _ in rows} - shadows


async def undeclared(database: Database, declarations: tuple[PersonalData, ...]) -> set[str]:
    """The tables that nobody erases, and for which nobody says why."""
    covered = [one.tables for one in declarations if one.erase is not None or one.scan is not None or one.reason]
    return await tables(database) - frozenset().union(*covered)


async def test_every_table_is_erased_or_it_is_said_why_not(database: Database) -> None:
    declarations = declared(database)
    assert await undeclared(database, declarations) == set()
    assert frozenset().union(*(one.tables for one in declarations)) <= await tables(database), "a table that is gone"
    listed = Counter(table for one in declarations for table in one.tables)
    assert [table for table, count in listed.items() if count > 1] == [], "a table has one owner"


async def test_a_table_that_was_forgotten_is_noticed(database: Database) -> None:
    await database.execute("CREATE TABLE stars (account_id TEXT, participant_id TEXT, at INTEGER)")
    assert await undeclared(database, declared(database)) == {"stars"}
    unsaid = PersonalData(tables=frozenset({"stars"}))
    assert await undeclared(database, (*declared(database), unsaid)) == {"stars"}
    said = PersonalData(tables=frozenset({"stars"}), reason="nothing of a person")
    assert await undeclared(database, (*declared(database), said)) == set()


@pytest.mark.parametrize("index", ["message_search", "people_search"])
async def test_every_full_text_index_is_merged(database: Database, index: str) -> None:
    assert index in {name for one in declared(database) for name in one.indexes}


class Stars:
    """A made-up feature: it keeps who was starred, and when."""

    def __init__(self, database: Database) -> None:
        self.database = database

    def personal_data(self) -> tuple[PersonalData, ...]:
        return (
            PersonalData(
                tables=frozenset({"stars"}),
                erase=self._erase,
                export=self._export,
                keeps_others=lambda connection, accounts: bool(self._accounts(connection) - accounts),
                knows=lambda connection, account_id: account_id in self._accounts(connection),
            ),
        )

    def expiries(self) -> tuple[Expiry, ...]:
        return (Expiry(name="stars", days=lambda: 7, remove=self._expire),)

    async def add(self, who: str, at: int = T0) -> None:
        await self.database.execute("INSERT INTO stars VALUES (?, ?, ?)", (ACCOUNT, who, at))

    async def starred(self) -> list[str]:
        return [who for (who,) in await self.database.read("SELECT participant_id FROM stars ORDER BY rowid")]

    @staticmethod
    def _accounts(connection: sqlite3.Connection) -> set[str]:
        return {account for (account,) in connection.execute("SELECT account_id FROM stars")}

    @staticmethod
    def _erase(connection: sqlite3.Connection, subject: Subject, step: int) -> Counter[str]:
        sql = """
            DELETE FROM stars WHERE rowid IN (
                SELECT rowid FROM stars WHERE account_id = :account
                AND (:participant IS NULL OR participant_id = :participant) LIMIT :step
            )
        """
        return +Counter(stars=connection.execute(sql, {**subject.values, "step": step}).rowcount)

    async def _export(self, subject: Subject, _mentioned: Mentioned) -> dict[str, Any]:
        sql = "SELECT at FROM stars WHERE account_id = ? AND participant_id = ?"
        return {"stars": [at for (at,) in await self.database.read(sql, (subject.account_id, subject.participant_id))]}

    async def _expire(self, before: int, _after: int, _step: int) -> ExpiredRows:
        def transaction(connection: sqlite3.Connection) -> int:
            return connection.execute("DELETE FROM stars WHERE at < ?", (before,)).rowcount

        return ExpiredRows(await self.database.write(transaction), None)


@pytest.fixture
async def stars(database: Database) -> Stars:
    await database.execute("CREATE TABLE stars (account_id TEXT, participant_id TEXT, at INTEGER)")
    return Stars(database)


async def test_what_a_new_feature_keeps_of_a_person_is_exported_and_erased(database: Database, stars: Stars) -> None:
    await stars.add(ANA)
    await stars.add(BRUNO)
    data = (*declared(database), *stars.personal_data())
    eraser, key = ParticipantEraser(database, data, ManualClock(), event_log()), ConversationKey(ACCOUNT, ANA)
    document = await eraser.export(key)
    assert document is not None
    assert (document["participantPlatformId"], document["messages"], document["stars"]) == (ANA, [], [T0])
    assert (await eraser.forget(key)).complete
    assert await stars.starred() == [BRUNO]
    assert await eraser.export(key) is None


async def test_what_a_new_feature_keeps_of_an_account_is_known_and_erased(database: Database, stars: Stars) -> None:
    for number in range(450):
        await stars.add(str(number))
    data = (*declared(database), *stars.personal_data())
    deletions = DeletionStore(database, data)
    assert await deletions.knows(ACCOUNT)
    assert await deletions.keeps_anything(frozenset())
    assert not await deletions.keeps_anything(frozenset({ACCOUNT}))
    eraser = AccountEraser(database, data, ManualClock())
    erased = await eraser.erase(Subject(ACCOUNT, None, frozenset({ACCOUNT})), rounds=1)
    assert (erased.counts["stars"], erased.rows, erased.waits_for) == (450, 450, None)
    assert not await deletions.knows(ACCOUNT)
    assert not await deletions.keeps_anything(frozenset())


async def test_what_a_new_feature_keeps_expires(database: Database, stars: Stars) -> None:
    clock = ManualClock(T0)
    await stars.add(ANA)
    await stars.add(BRUNO, T0 + DAY_MS)

    async def nothing_heard() -> None:
        return None

    worker = RetentionWorker(database, stars.expiries(), MomentStore(database), clock, newest_message_at=nothing_heard)
    clock.now = T0 + 7 * DAY_MS + 1
    assert await worker.expire() == {"stars": 1}
    assert await stars.starred() == [BRUNO]
