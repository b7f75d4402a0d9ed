from pathlib import Path

import pytest
from inboxd.errors import StorageClosedError
from inboxd.store.backfills import Backfills
from inboxd.store.database import Database
from inboxd.store.inbox import Inbox, mark_done
from inboxd.workers.housekeeping import DAY_MS, Housekeeping, Keep

from tests.support import ManualClock


async def test_understood_deliveries_go_after_their_time(database: Database) -> None:
    clock = ManualClock()
    inbox = Inbox(database, clock, max_waiting=1000)
    for _ in range(450):
        await inbox.append(b"{}")
    await database.write(lambda connection: mark_done(connection, list(range(1, 450)), clock.now))
    housekeeping = Housekeeping(database, Backfills(database), clock, Keep(14, 180, 365, 0, 30))

    assert await housekeeping.expire() == {}
    clock.now += 14 * DAY_MS + 1
    assert await housekeeping.expire() == {"deliveries": 449}
    assert [delivery.id for delivery in await inbox.pending(10)] == [450]


async def test_a_database_that_is_gone_is_no_passing_trouble(tmp_path: Path) -> None:
    clock = ManualClock()
    async with Database(tmp_path / "d") as database:
        pass
    database.refusal = "the writer crashed"

    with pytest.raises(StorageClosedError):
        await Housekeeping(
            database,
            Backfills(database),
            clock,
            Keep(1, 1, 1, 1, 1),
        ).run()
