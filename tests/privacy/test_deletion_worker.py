import asyncio

from inboxd.privacy.account_eraser import AccountEraser
from inboxd.privacy.deletion_store import DeletionStore
from inboxd.privacy.deletion_worker import DeletionWorker
from inboxd.profiles.avatar_store import AvatarStore
from inboxd.profiles.cache import ProfileCache
from inboxd.receiving.store import Inbox, mark_done
from inboxd.storage.database import Database

from tests.support import ACCOUNT, ManualClock, eventually

PAGE = "90210"


async def test_what_names_an_account_by_its_page_goes_with_it(database: Database) -> None:
    clock = ManualClock()
    inbox, deletions = Inbox(database, clock, max_waiting=10), DeletionStore(database)
    for name in (PAGE, ACCOUNT, "90211"):
        await inbox.append(f'{{"entry":[{{"id":"{name}"}}]}}'.encode())
    settled = [delivery.id for delivery in await inbox.pending(10)]
    await database.write(lambda connection: mark_done(connection, settled, now=0))
    await deletions.request("a-code", ACCOUNT, clock.now_ms())

    async def erased(_account_id: str) -> None:
        pass

    avatars, cache = AvatarStore(database, database.path.parent / "avatars"), ProfileCache(clock, ttl_s=1, size=1)
    aliases = {ACCOUNT: ACCOUNT, PAGE: ACCOUNT, "90211": "another"}
    eraser = DeletionWorker(AccountEraser(database, avatars, cache, clock), deletions, aliases, clock, on_erased=erased)
    running = asyncio.ensure_future(eraser.run())

    async def completed() -> bool:
        return not await deletions.open()

    await eventually(completed)
    eraser.stop()
    await running
    assert [row[0] for row in await database.read("SELECT id FROM deliveries")] == settled[2:]
