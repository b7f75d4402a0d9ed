"""`/api/workers`, and the API's description of itself."""

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import msgspec
from aiohttp import web

from inboxd.http.openapi import document
from inboxd.http.operations import OPERATIONS, Operation, answer
from inboxd.http.problems import SAFE_HEADERS
from inboxd.maintenance.health import DaemonHealth
from inboxd.receiving.resources import ParkedWorkerResource, WorkerList
from inboxd.receiving.store import Inbox
from inboxd.runtime.clock import Clock, iso_utc
from inboxd.runtime.supervisor import Supervisor
from inboxd.storage.database import Database

DOCUMENT_PATH: Final = "/api/openapi.json"
_DUE: Final = """
SELECT count(*) FROM participants WHERE account_id IN (SELECT value FROM json_each(?)) AND next_attempt_at <= ?
"""


class SystemApi:
    """What works in the background, and what the API can do."""

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
        self._document: bytes | None = None

    def operations(self) -> Sequence[Operation]:
        """What can be done."""
        return [
            Operation("GET", "/api/workers", self.workers, "system", {200: WorkerList}),
            Operation("GET", DOCUMENT_PATH, self.describe, "system", {200: dict[str, Any]}, open=True),
        ]

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

    async def describe(self, request: web.Request) -> web.Response:
        """The OpenAPI document of this API."""
        if self._document is None:
            operations: list[Operation] = request.app[OPERATIONS]
            self._document = msgspec.json.encode(document(operations))
        return web.Response(body=self._document, content_type="application/json", headers=SAFE_HEADERS)
