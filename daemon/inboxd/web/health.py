"""Health: is the process alive, and can it do its job?"""

from collections.abc import Callable, Sequence
from http import HTTPStatus

import msgspec
from aiohttp import web

from inboxd.store.database import Database
from inboxd.web.api.operations import Operation, answer
from inboxd.web.problems import SAFE_HEADERS


class Liveness(msgspec.Struct, frozen=True, rename="camel"):
    """Whether the process is alive."""

    alive: bool


class Readiness(msgspec.Struct, frozen=True, rename="camel"):
    """Whether webhooks can be taken, and if not, why."""

    ready: bool
    problems: list[str]


class Health:
    """`/healthz` and `/readyz`; neither needs a token, neither says more than a monitor must know."""

    def __init__(self, database: Database, workers_gave_up: Callable[[], bool]) -> None:
        self._database = database
        self._workers_gave_up = workers_gave_up

    def operations(self) -> Sequence[Operation]:
        """What can be done."""
        return [
            Operation("GET", "/healthz", self.alive, "health", {200: Liveness}, open=True),
            Operation("GET", "/readyz", self.ready, "health", {200: Readiness}, open=True),
        ]

    async def alive(self, _request: web.Request) -> web.Response:
        """200 while the event loop turns."""
        return answer(Liveness(alive=True))

    async def ready(self, _request: web.Request) -> web.Response:
        """200 while webhooks can be stored; 503 with the reasons while they cannot."""
        problems = []
        if self._database.refusal is not None:
            problems.append(self._database.refusal)
        if self._workers_gave_up():
            problems.append("a background worker crashed too often")
        status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
        body = msgspec.json.encode(Readiness(ready=not problems, problems=problems))
        return web.Response(status=status, body=body, content_type="application/json", headers=SAFE_HEADERS)
