"""`/healthz` and `/readyz`: whether the process is alive, and whether it can do its job."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Self

import msgspec
from aiohttp import web

from inboxd.http.operations import Operation, answer
from inboxd.http.problems import SAFE_HEADERS
from inboxd.maintenance.health import DaemonHealth


class Liveness(msgspec.Struct, frozen=True, rename="camel"):
    """Whether the process is alive."""

    alive: bool

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            alive=True,
        )


class Readiness(msgspec.Struct, frozen=True, rename="camel"):
    """Whether webhooks can be taken and are processed, and if not, why."""

    ready: bool
    problems: list[str]
    degraded: list[str]
    """What does not work, while webhooks are taken and processed all the same."""

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            ready=True,
            problems=[],
            degraded=[],
        )


class HealthApi:
    """`/healthz` and `/readyz`. They need no token, and tell no more than monitoring needs."""

    def __init__(self, health: DaemonHealth) -> None:
        self._health = health

    def operations(self) -> Sequence[Operation]:
        """The operations of this API."""
        return [
            Operation("GET", "/healthz", self.alive, "health", {200: Liveness}, open=True),
            Operation("GET", "/readyz", self.ready, "health", {200: Readiness}, open=True),
        ]

    async def alive(self, _request: web.Request) -> web.Response:
        """200 while the event loop turns."""
        return answer(Liveness(alive=True))

    async def ready(self, _request: web.Request) -> web.Response:
        """200 while webhooks can be stored and are processed; 503 with the reasons while they are not."""
        problems, degraded = self._health.problems, self._health.degraded
        status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
        body = msgspec.json.encode(Readiness(ready=not problems, problems=problems, degraded=degraded))
        return web.Response(status=status, body=body, content_type="application/json", headers=SAFE_HEADERS)
