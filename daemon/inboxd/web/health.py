"""Health: is the process alive, and can it do its job?"""

from collections.abc import Callable
from http import HTTPStatus

import msgspec
from aiohttp import web

from inboxd.store.database import Database
from inboxd.web.problems import SAFE_HEADERS


class Readiness(msgspec.Struct, frozen=True, rename="camel"):
    """Whether webhooks can be taken, and if not, why."""

    ready: bool
    problems: list[str]


class Health:
    """`/healthz` and `/readyz`; neither needs a token, neither says more than a monitor must know."""

    def __init__(self, database: Database, workers_gave_up: Callable[[], bool]) -> None:
        self._database = database
        self._workers_gave_up = workers_gave_up

    def add_routes(self, app: web.Application) -> None:
        """Put the routes on the admin application."""
        app.router.add_get("/healthz", self.alive)
        app.router.add_get("/readyz", self.ready)

    async def alive(self, _request: web.Request) -> web.Response:
        """200 while the event loop turns."""
        return web.json_response({"alive": True}, headers=SAFE_HEADERS)

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
