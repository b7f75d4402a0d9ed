"""`/api/consumers`: the programs that the daemon itself hands the event log to."""

from collections.abc import Sequence
from typing import Final

from aiohttp import web

from inboxd.forwarding.nats.resources import ConsumerList, ConsumerResource
from inboxd.forwarding.nats.state import NAME
from inboxd.forwarding.nats.status import NatsStatus
from inboxd.http.operations import Operation, answer

PATH: Final = "/api/consumers"


class ConsumersApi:
    """How far each consumer is. `status` is None while NATS is not configured."""

    def __init__(self, status: NatsStatus | None) -> None:
        self._status = status

    def operations(self) -> Sequence[Operation]:
        """What can be done."""
        return [Operation("GET", PATH, self.listed, "events", {200: ConsumerList})]

    async def listed(self, _request: web.Request) -> web.Response:
        """The consumers that are configured: how far behind the event log, last success, last error."""
        found = [] if self._status is None else [ConsumerResource.of(NAME, await self._status.now())]
        return answer(ConsumerList(consumers=found))
