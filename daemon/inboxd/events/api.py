"""Server-sent events: what happens, as it happens (HTML standard, "Server-sent events")."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Final, NamedTuple

import msgspec
from aiohttp import web
from aiohttp_sse import EventSourceResponse, sse_response

from inboxd.events.bus import Event, EventBus, Subscriber
from inboxd.http.operations import Operation
from inboxd.http.problems import SAFE_HEADERS, ProblemError
from inboxd.http.protocol import notify_on_disconnect

MAX_STREAMS: Final = 16
SEND_TIMEOUT_S: Final = 10.0
"""Whoever takes nothing for so long is hung up on. The response sees to that alone: a timeout around it would fire
first, and leave the connection to the kernel."""
PATH: Final = "/api/events/stream"


class First(NamedTuple):
    """What a stream begins with; `ended` when nothing more comes."""

    kind: str
    data: bytes
    ended: bool


class Streams:
    """Tells clients what happens. Whoever reads too slowly is dropped with a message, and can resume."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self._open = 0

    def operations(self) -> Sequence[Operation]:
        """What can be done."""
        told = "Go on after this event; an event `gap` says that some are no longer known."
        resume = {"Last-Event-ID": {"pattern": "^[0-9]{1,20}$", "description": told}}
        return [Operation("GET", PATH, self.everything, "events", {200: "text/event-stream"}, headers=resume)]

    async def close(self, _app: web.Application) -> None:
        """End every stream: the daemon stops."""
        self._bus.close()

    async def everything(self, request: web.Request) -> web.StreamResponse:
        """What happens, as server-sent events.

        Kinds: `message.received`, `profile.completed`, `profile.failed`, `backfill.progressed`, `delivery.failed`; and
        `gap` or `overrun` when some were missed.
        """
        return await self.serve(request, lambda _happening: True)

    async def serve(
        self,
        request: web.Request,
        concerns: Callable[[Event], bool],
        *,
        ends: Callable[[Event], bool] = lambda _happening: False,
        first: Callable[[], Awaitable[First]] | None = None,
    ) -> web.StreamResponse:
        """Stream what `concerns` the client, until something `ends` it or the client hangs up.

        `first` is what is told at the beginning; it is asked for when nothing that happens is missed any more.
        """
        if self._open >= MAX_STREAMS:
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE, f"{MAX_STREAMS} streams are open already.", headers={"Retry-After": "5"}
            )
        last_id = _last_id(request)
        self._open += 1
        try:
            with self._bus.listening() as listener, notify_on_disconnect(request, listener.end):
                beginning = None if first is None else await first()
                async with sse_response(request, headers=SAFE_HEADERS, send_timeout=SEND_TIMEOUT_S) as response:
                    with suppress(ConnectionResetError, TimeoutError):
                        if beginning is not None:
                            await response.send(beginning.data.decode(), event=beginning.kind)
                        told = None if last_id is None else await self._catch_up(response, last_id, concerns)
                        if beginning is None or not beginning.ended:
                            await _follow(response, listener, told or 0, concerns, ends)
                return response
        finally:
            self._open -= 1

    async def _catch_up(
        self, response: EventSourceResponse, last_id: int, concerns: Callable[[Event], bool]
    ) -> int | None:
        """Tell what was missed; the id of the last of it, which whoever listens is told again."""
        missed = self._bus.since(last_id)
        if missed is None:
            await response.send("{}", event="gap")
            return None
        for happening in missed:
            if concerns(happening):
                await _send(response, happening)
        return missed[-1].id if missed else None


async def _follow(
    response: EventSourceResponse,
    listener: Subscriber,
    told: int,
    concerns: Callable[[Event], bool],
    ends: Callable[[Event], bool],
) -> None:
    async for happening in listener:
        if happening.id <= told or not concerns(happening):
            continue
        await _send(response, happening)
        if ends(happening):
            return
    if listener.overrun:
        await response.send('{"detail":"You read too slowly; resume with Last-Event-ID."}', event="overrun")


async def _send(response: EventSourceResponse, happening: Event) -> None:
    await response.send(msgspec.json.encode(happening.data).decode(), event=happening.kind, id=str(happening.id))


def _last_id(request: web.Request) -> int | None:
    text = request.headers.get("Last-Event-ID")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise ProblemError(HTTPStatus.BAD_REQUEST, "Last-Event-ID must be the id of an event of this stream.")
    return int(text)
