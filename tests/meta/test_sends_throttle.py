"""The throttle that stops the sends of one account, over a restart."""

import asyncio

from inboxd.accounts.call_log_store import SqliteCallLog
from inboxd.domain.budget import Stop
from inboxd.meta.sends_throttle import SendsThrottle
from inboxd.storage.database import Database

from tests.support import ACCOUNT, ManualClock


class SlowCallLog(SqliteCallLog):
    """A call log whose disk takes the first stop only once `go` is set."""

    def __init__(self, database: Database, clock: ManualClock) -> None:
        super().__init__(database, clock)
        self.go = asyncio.Event()

    async def save_stop(self, scope: str, stop: Stop | None) -> None:
        if stop is not None:
            await self.go.wait()
        await super().save_stop(scope, stop)


async def test_a_stop_that_ends_while_it_is_being_stored_is_not_there_after_a_restart(database: Database) -> None:
    clock = ManualClock()
    log = SlowCallLog(database, clock)
    throttle = SendsThrottle(clock, log, ACCOUNT)
    throttle.trip(3600, "restricted")
    async with asyncio.TaskGroup() as lanes:
        lanes.create_task(throttle.keep())
        await asyncio.sleep(0)
        throttle.reset()  # another lane's message was taken
        lanes.create_task(throttle.keep())
        await asyncio.sleep(0)
        log.go.set()
    restarted = SendsThrottle(clock, log, ACCOUNT)
    await restarted.load()
    assert restarted.stopped_s() == 0
