"""`/api/workers`: the background workers and what waits for them."""

from collections.abc import Callable, Collection, Sequence

from aiohttp import web

from inboxd.http.operations import Operation, answer
from inboxd.maintenance.health import DaemonHealth
from inboxd.profiles.store import ProfileStore
from inboxd.receiving.resources import ParkedWorkerResource, WorkerList
from inboxd.receiving.store import Inbox
from inboxd.runtime.clock import Clock, iso_utc
from inboxd.runtime.supervisor import Supervisor


class SystemApi:
    """The state of the background workers."""

    def __init__(
        self,
        profiles: ProfileStore,
        inbox: Inbox,
        clock: Clock,
        supervisor: Supervisor,
        health: DaemonHealth,
        served: Callable[[], Collection[str]],
    ) -> None:
        self._profiles = profiles
        self._inbox = inbox
        self._clock = clock
        self._supervisor = supervisor
        self._health = health
        self._served = served

    def operations(self) -> Sequence[Operation]:
        """The operations of this API."""
        return [Operation("GET", "/api/workers", self.workers, "system", {200: WorkerList})]

    async def workers(self, _request: web.Request) -> web.Response:
        """What works in the background, and what waits for it."""
        waiting, oldest_s = await self._inbox.backlog()
        _, failed = await self._inbox.page(state="failed", limit=1, offset=0)
        due = await self._profiles.count_due(self._served(), self._clock.now_ms())
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
