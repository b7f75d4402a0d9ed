"""Receivers of webhooks: real servers that note what they get, and answer as they are told."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from inboxd.simulator.serving import serving

Json = dict[str, Any]
Respond = Callable[[web.Request, Json], "web.StreamResponse | int | str"]


class Receiver:
    """Notes each request. `respond` gives a response, a status, `hang` or `reset`."""

    def __init__(self) -> None:
        self.url = ""
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.delivered: list[Json] = []
        """The events that were answered with 200, in order."""
        self.respond: Respond = lambda _request, _event: 200
        self.most_at_once = 0
        self._at_once = 0

    @property
    def events(self) -> list[Json]:
        """All that came, also what was refused."""
        return [json.loads(body) for body in self.bodies]

    @property
    def ids(self) -> list[str]:
        """The ids of what was answered with 200, in order."""
        return [event["id"] for event in self.delivered]

    @property
    def texts(self) -> list[str]:
        """The texts of what was answered with 200, in order."""
        return [event["data"]["text"] for event in self.delivered]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        event: Json = json.loads(body)
        self.bodies.append(body)
        self.headers.append({name.lower(): value for name, value in request.headers.items()})
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            return await self._answer(request, event)
        finally:
            self._at_once -= 1

    async def _answer(self, request: web.Request, event: Json) -> web.StreamResponse:
        await asyncio.sleep(0.001)  # so that requests that come together are seen together
        answer = self.respond(request, event)
        if answer == "hang":
            await asyncio.sleep(60)
        if answer == "reset":
            assert request.transport is not None
            request.transport.abort()
        if isinstance(answer, web.StreamResponse):
            return answer
        status = answer if isinstance(answer, int) else 500
        if status == 200:
            self.delivered.append(event)
        return web.Response(status=status, text="fine" if status == 200 else "not now")


class Gate(Receiver):
    """A receiver that takes nothing before `go` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.asked = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        await self.go.wait()
        return await super().handle(request)


@asynccontextmanager
async def receiving(receiver: Receiver | None = None) -> AsyncIterator[Receiver]:
    """A receiver on a free port."""
    receiver = receiver or Receiver()
    app = web.Application()
    app.router.add_post("/{path:.*}", receiver.handle)
    async with serving(app) as url:
        receiver.url = f"{url}/hook"
        yield receiver
