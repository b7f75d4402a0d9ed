"""The indexer on a real file: what it indexes, what it sets aside, and whom it lets go first."""

from typing import Any

import pytest
from inboxd.conversations.pacing import RUSH
from inboxd.conversations.search_store import SearchIndexStore, phrase
from inboxd.conversations.search_worker import ROUND_S, STEP_REST_S, SearchIndexWorker
from inboxd.runtime.errors import StorageUnavailableError
from inboxd.storage.database import Database
from structlog.testing import capture_logs

from tests.support import ACCOUNT, ANA, T0

POISON = "poison"


class Rig:
    def __init__(self, database: Database) -> None:
        self.database = database
        self.pressure = 0.0
        self.start()

    def start(self) -> None:
        """A new start of the daemon."""
        self.indexer = SearchIndexWorker(SearchIndexStore(self.database), waiting=lambda: self.pressure)

    async def says(self, *texts: str) -> list[int]:
        await self.database.execute(
            "INSERT OR IGNORE INTO conversations (id, account_id, participant_id, created_at, updated_at)"
            " VALUES (1, ?, ?, 1, 1)",
            (ACCOUNT, ANA),
        )
        for text in texts:
            await self.database.execute(
                "INSERT INTO messages (conversation_id, mid, mid_key, text, noticed_at, timeline_at, created_at,"
                " updated_at) VALUES (1, ?1, (SELECT count(*) FROM messages), ?1, ?2, ?2, 1, 1)",
                (text, T0),
            )
        return [row[0] for row in await self.database.read("SELECT id FROM messages ORDER BY id")][-len(texts) :]

    async def poisonous(self) -> None:
        """A text that the index refuses, as a defect in it would."""
        await self.database.execute(
            "CREATE TRIGGER refuse_poison BEFORE INSERT ON message_search_content WHEN new.c0 LIKE 'poison%'"
            " BEGIN SELECT RAISE(ABORT, 'an odd value'); END"
        )

    async def index(self) -> list[Any]:
        """Poll until there is nothing to do; the messages that were set aside."""
        with capture_logs() as lines:
            for _ in range(20):
                if await self.indexer.poll() == ROUND_S:
                    break
            else:
                pytest.fail("it never comes to an end")
        assert {line["event"] for line in lines} <= {"search_message_set_aside"}
        return [line["message_id"] for line in lines]

    async def found(self, word: str) -> int:
        ((count,),) = await self.database.read(
            "SELECT count(*) FROM message_search WHERE message_search MATCH ?", (phrase(word),)
        )
        return int(count)


@pytest.fixture
def rig(database: Database) -> Rig:
    return Rig(database)


async def test_what_has_arrived_is_indexed_and_then_it_rests(rig: Rig) -> None:
    assert await rig.indexer.poll() == ROUND_S
    await rig.says("walrus", "penguin")
    assert await rig.indexer.poll() == STEP_REST_S
    assert await rig.indexer.poll() == ROUND_S
    assert (await rig.found("walrus"), await rig.found("penguin")) == (1, 1)


async def test_in_a_rush_nothing_is_indexed(rig: Rig) -> None:
    await rig.says("walrus")
    rig.pressure = RUSH
    assert await rig.indexer.poll() == ROUND_S
    assert await rig.found("walrus") == 0
    rig.pressure = RUSH - 1
    assert await rig.index() == []
    assert await rig.found("walrus") == 1


async def test_a_message_that_cannot_be_indexed_is_set_aside_and_all_others_are_found(rig: Rig) -> None:
    await rig.poisonous()
    _, bad, _, worse, _ = await rig.says("walrus", POISON, "penguin", f"{POISON} again", "otter")
    assert await rig.index() == [bad, worse]
    assert [await rig.found(word) for word in ("walrus", "penguin", "otter", POISON)] == [1, 1, 1, 0]

    rig.start()
    assert await rig.index() == [], "it does not fail on them again after a restart"
    await rig.says("seal")
    assert await rig.index() == []
    assert await rig.found("seal") == 1


async def test_an_edit_that_cannot_be_indexed_leaves_nothing_of_the_old_text(rig: Rig) -> None:
    await rig.poisonous()
    edited, other = await rig.says("walrus", "penguin")
    assert await rig.index() == []
    await rig.database.execute("UPDATE messages SET edited_text = ? WHERE id = ?", (POISON, edited))
    await rig.database.execute("UPDATE messages SET edited_text = 'puffin' WHERE id = ?", (other,))
    await rig.says("otter")
    assert await rig.index() == [edited]
    assert [await rig.found(word) for word in ("walrus", "penguin", "puffin", "otter")] == [0, 0, 1, 1]

    await rig.database.execute("UPDATE messages SET edited_text = 'seal' WHERE id = ?", (edited,))
    assert await rig.index() == []
    assert await rig.found("seal") == 1


async def test_a_message_that_changed_before_it_was_indexed_takes_nobody_elses_turn(rig: Rig) -> None:
    await rig.poisonous()
    _, bad, late = await rig.says("walrus", POISON, "penguin")
    await rig.database.execute("UPDATE messages SET edited_text = 'puffin' WHERE id = ?", (late,))
    assert await rig.index() == [bad]
    assert [await rig.found(word) for word in ("walrus", "penguin", "puffin")] == [1, 0, 1]


async def test_a_row_that_is_in_the_index_already_is_put_right(rig: Rig) -> None:
    (first,) = await rig.says("walrus")
    await rig.database.execute("INSERT INTO message_search (rowid, text) VALUES (?, 'an old text')", (first,))
    assert await rig.index() == []
    assert (await rig.found("walrus"), await rig.found("old")) == (1, 0)


async def test_whoever_gets_the_id_of_a_message_that_was_removed_is_found(rig: Rig) -> None:
    await rig.says("walrus")
    assert await rig.index() == []
    (removed,) = await rig.says("penguin")
    index = SearchIndexStore(rig.database)
    assert await index.next_ids(10) == [removed]
    await rig.database.execute("DELETE FROM messages WHERE id = ?", (removed,))
    await index.add(removed)
    await index.skip(removed)
    assert await rig.says("otter") == [removed]
    assert await rig.index() == []
    assert [await rig.found(word) for word in ("walrus", "penguin", "otter")] == [1, 0, 1]


async def test_without_an_index_nothing_counts_as_done(rig: Rig) -> None:
    """A defect that concerns every message is no fault of one: the worker crashes, and goes on where it was."""
    await rig.says("walrus", "penguin")
    await rig.database.execute("ALTER TABLE message_search RENAME TO elsewhere")
    with capture_logs() as lines, pytest.raises(Exception, match="no such table"):
        await rig.indexer.poll()
    assert lines == []
    await rig.database.execute("ALTER TABLE elsewhere RENAME TO message_search")
    assert await rig.index() == []
    assert (await rig.found("walrus"), await rig.found("penguin")) == (1, 1)


async def test_a_disk_that_refuses_sets_nobody_aside(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    await rig.says("walrus")

    async def refuse(_transaction: object) -> None:
        msg = "the disk is full"
        raise StorageUnavailableError(msg)

    with monkeypatch.context() as full, capture_logs() as lines:
        full.setattr(rig.database, "write", refuse)
        with pytest.raises(StorageUnavailableError):
            await rig.indexer.poll()
    assert lines == []
    assert await rig.index() == []
    assert await rig.found("walrus") == 1
