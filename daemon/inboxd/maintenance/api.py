"""`/api/workers`: the background workers and what waits for them."""

from collections.abc import Callable, Collection, Sequence
from typing import Final

import msgspec
from aiohttp import web

from inboxd.http.operations import Operation, answer
from inboxd.maintenance.health import DaemonHealth
from inboxd.receiving.resources import ParkedWorkerResource, WorkerList
from inboxd.receiving.store import Inbox
from inboxd.runtime.clock import Clock, iso_utc
from inboxd.runtime.supervisor import Supervisor
from inboxd.storage.database import Database

_DUE: Final = """
SELECT count(*) FROM participants WHERE account_id IN (SELECT value FROM json_each(?)) AND next_attempt_at <= ?
"""


class SystemApi:
    """The state of the background workers."""

    def __init__(
        self,
        database: Database,
        inbox: Inbox,
        clock: Clock,
        supervisor: Supervisor,
        health: DaemonHealth,
        served: Callable[[], Collection[str]],
    ) -> None:
        self._database = database
        self._inbox = inbox
        self._clock = clock
        self._supervisor = supervisor
        self._health = health
        self._served = served

    def operations(self) -> Sequence[Operation]:
        """What can be done."""
        return [Operation("GET", "/api/workers", self.workers, "system", {200: WorkerList})]

    async def workers(self, _request: web.Request) -> web.Response:
        """What works in the background, and what waits for it."""
        waiting, oldest_s = await self._inbox.backlog()
        _, failed = await self._inbox.page(state="failed", limit=1, offset=0)
        accounts = msgspec.json.encode(sorted(self._served())).decode()
        ((due,),) = await self._database.read(_DUE, (accounts, self._clock.now_ms()))
        return answer(
            WorkerList(
                running=sorted(self._supervisor.running),
                parked=[
                    ParkedWorkerResource(name=name, since=iso_utc(since), crashes=crashes, reason=reason)
                    for name, since, crashes, reason in self._supervisor.parked
                ],
                gave_up=self._supervisor.gave_up,
                problems=self._health.problems,
                deliveries_waiting=waiting,
                oldest_waiting_seconds=round(oldest_s, 3),
                deliveries_failed=failed,
                profiles_due=due,
            )
        )
