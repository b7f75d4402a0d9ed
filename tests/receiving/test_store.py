import asyncio
import sqlite3
from collections import deque
from typing import Any

import pytest
from inboxd.receiving.store import Inbox, mark_done, mark_failed, mark_postponed
from inboxd.runtime.errors import StorageBusyError, StorageClosedError, StorageUnavailableError
from inboxd.storage import database as database_module
from inboxd.storage.connection import MAX_ROWS, fetch
from inboxd.storage.database import Database

from tests.support import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def inbox(database: Database, clock: ManualClock) -> Inbox:
    return Inbox(database, clock, max_waiting=100)


async def test_everything_appended_is_there_once_and_in_order(inbox: Inbox) -> None:
    ids = await asyncio.gather(*(inbox.append(str(n).encode()) for n in range(100)))
    for n in range(100, 110):
        await inbox.append(str(n).encode())

    stored = await inbox.pending(1000)
    assert [int(delivery.body) for delivery in stored] == list(range(110))
    assert ids == [delivery.id for delivery in stored[:100]]
    assert await inbox.pending(2) == stored[:2]
    assert inbox.waiting == 0


async def test_nothing_is_lost_between_commits(inbox: Inbox) -> None:
    async def sender(number: int) -> None:
        for n in range(100):
            await inbox.append(f"{number}/{n}".encode())

    await asyncio.gather(*(sender(number) for number in range(20)))

    bodies = [delivery.body for delivery in await inbox.pending(5000)]
    assert len(bodies) == len(set(bodies)) == 2000


async def test_beyond_the_limit_senders_are_turned_away(inbox: Inbox) -> None:
    results = await asyncio.gather(*(inbox.append(b"") for _ in range(150)), return_exceptions=True)

    assert [type(result) for result in results] == [int] * 100 + [StorageBusyError] * 50
    await inbox.append(b"again")


async def test_a_cancelled_request_leaves_its_delivery_stored(inbox: Inbox) -> None:
    impatient = asyncio.ensure_future(inbox.append(b"impatient"))
    await asyncio.sleep(0)
    impatient.cancel()
    await inbox.append(b"patient")

    assert {delivery.body for delivery in await inbox.pending(10)} == {b"impatient", b"patient"}


async def test_a_full_disk_is_told_to_every_sender_and_forgotten_when_it_recovers(
    inbox: Inbox, database: Database
) -> None:
    await database.write(lambda connection: fetch(connection, "PRAGMA max_page_count = 60") and None)

    results = await asyncio.gather(*(inbox.append(bytes(100_000)) for _ in range(10)), return_exceptions=True)
    assert {type(result) for result in results} == {StorageUnavailableError}

    await database.write(lambda connection: fetch(connection, "PRAGMA max_page_count = 100000") and None)
    await inbox.append(b"now")
    assert [delivery.body for delivery in await inbox.pending(10)] == [b"now"]


async def test_a_transaction_that_cannot_begin_is_told_too(inbox: Inbox, database: Database) -> None:
    other = sqlite3.connect(database.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    assert database._writer is not None
    await database._writer.run(lambda connection: connection.execute("PRAGMA busy_timeout = 0"))

    with pytest.raises(StorageUnavailableError, match="locked"):
        await inbox.append(b"refused")
    other.execute("ROLLBACK")
    other.close()

    await inbox.append(b"taken")
    assert [delivery.body for delivery in await inbox.pending(10)] == [b"taken"]


async def test_the_life_of_a_delivery(inbox: Inbox, database: Database, clock: ManualClock) -> None:
    for _ in range(3):
        await inbox.append(b"{}")

    def settle(connection: sqlite3.Connection) -> None:
        mark_done(connection, [1], clock.now)
        mark_postponed(connection, 2, attempts=1, next_attempt_at=clock.now + 5000, error="later")
        mark_failed(connection, 3, attempts=3, now=clock.now, error="never")

    await database.write(settle)

    assert await inbox.pending(10) == []
    assert await inbox.next_attempt_at() == clock.now + 5000
    failed, total = await inbox.page(state="failed", limit=10, offset=0)
    assert (total, failed[0].id, failed[0].error) == (1, 3, "never")
    assert (await inbox.page(state=None, limit=1, offset=1))[1] == 3
    clock.now += 5000
    assert [delivery.id for delivery in await inbox.pending(10)] == [2]
    assert not await inbox.retry(1)
    assert await inbox.retry(3)
    assert [delivery.id for delivery in await inbox.pending(10)] == [2, 3]


async def test_a_writer_that_takes_nothing_more_refuses_and_strands_nobody(
    inbox: Inbox, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full.setattr(database_module, "MAX_WAITING", 0)
        for _ in range(3):
            with pytest.raises(StorageBusyError):
                await asyncio.wait_for(inbox.append(b"refused"), 2)
    assert inbox.waiting == 0

    await asyncio.wait_for(inbox.append(b"taken"), 2)
    assert [delivery.body for delivery in await inbox.pending(10)] == [b"taken"]


async def test_more_than_one_statement_takes_is_stored_all_the_same(inbox: Inbox, database: Database) -> None:
    inbox.max_waiting = 4 * MAX_ROWS
    bodies = [str(number).encode() for number in range(3 * MAX_ROWS + 7)]

    numbers = await asyncio.wait_for(asyncio.gather(*(inbox.append(body) for body in bodies)), 20)

    stored = await database.read("SELECT id, body FROM deliveries ORDER BY id")
    assert stored == list(zip(numbers, bodies, strict=True))
    assert inbox.waiting == 0


async def test_what_waits_behind_one_statement_hears_that_the_writer_takes_no_more(
    inbox: Inbox, database: Database
) -> None:
    inbox.max_waiting = 4 * MAX_ROWS
    appending = [asyncio.ensure_future(inbox.append(b"x")) for _ in range(2 * MAX_ROWS)]
    await asyncio.sleep(0)
    database._closing = True

    results = await asyncio.wait_for(asyncio.gather(*appending, return_exceptions=True), 20)

    assert {type(result) for result in results} <= {int, StorageClosedError}
    assert inbox.waiting == 0
    database._closing = False


async def test_a_batch_is_bounded_in_bytes_and_a_larger_delivery_is_read_alone(inbox: Inbox) -> None:
    for size in (400, 600, 1, 5000, 10):
        await inbox.append(b"x" * size)

    async def sizes(max_bytes: int) -> list[int]:
        return [len(delivery.body) for delivery in await inbox.pending(100, max_bytes=max_bytes)]

    assert await sizes(1000) == [400, 600]
    assert await sizes(999) == [400]
    assert await sizes(1001) == [400, 600, 1]
    assert await sizes(399) == [400]
    assert await sizes(100_000) == [400, 600, 1, 5000, 10]


async def test_what_arrives_while_the_writer_takes_what_waits_is_not_stranded(inbox: Inbox) -> None:
    """The moment after the last one was taken: who arrives then needs a transaction of its own."""
    loop = asyncio.get_running_loop()
    late: list[asyncio.Future[int]] = []

    async def arrive() -> None:
        late.append(asyncio.ensure_future(inbox.append(b"late")))
        await asyncio.sleep(0)

    class Watched(deque[Any]):
        def popleft(self) -> Any:
            taken = super().popleft()
            if not late:
                asyncio.run_coroutine_threadsafe(arrive(), loop).result(5)
            return taken

    inbox._waiting = Watched()
    await asyncio.wait_for(inbox.append(b"early"), 5)
    await asyncio.wait_for(late[0], 5)
    assert [delivery.body for delivery in await inbox.pending(10)] == [b"early", b"late"]
