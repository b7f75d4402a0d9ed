import asyncio

from inboxd.privacy.account_eraser import AccountEraser
from inboxd.privacy.deletion_store import DeletionStore
from inboxd.privacy.deletion_worker import SCHEDULE, DeletionWorker
from inboxd.receiving.store import Inbox, mark_done
from inboxd.runtime import logs
from inboxd.runtime.worker import work
from inboxd.storage.database import Database

from tests.privacy.declared import declared
from tests.support import ACCOUNT, ManualClock, eventually

PAGE = "90210"


async def test_what_names_an_account_by_its_page_goes_with_it(database: Database) -> None:
    clock = ManualClock()
    inbox, deletions = Inbox(database, clock, max_waiting=10), DeletionStore(database, declared(database))
    for name in (PAGE, ACCOUNT, "90211"):
        await inbox.append(f'{{"entry":[{{"id":"{name}"}}]}}'.encode())
    settled = [delivery.id for delivery in await inbox.pending(10)]
    await database.write(lambda connection: mark_done(connection, settled, now=0))
    await deletions.request("a-code", ACCOUNT, clock.now_ms())

    async def erased(_account_id: str) -> None:
        pass

    aliases = {ACCOUNT: ACCOUNT, PAGE: ACCOUNT, "90211": "another"}
    eraser = AccountEraser(database, declared(database), clock)
    worker = DeletionWorker(eraser, deletions, aliases, clock, on_erased=erased)
    running = asyncio.ensure_future(work(worker, clock, logs.get("workers"), SCHEDULE))

    async def completed() -> bool:
        return not await deletions.open()

    await eventually(completed)
    worker.wakeup.stop()
    await running
    assert [row[0] for row in await database.read("SELECT id FROM deliveries")] == settled[2:]
