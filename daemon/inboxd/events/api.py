"""Event streams: events as server-sent events (HTML standard, "Server-sent events")."""

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
"""A client that takes nothing for this long is disconnected. Only the response may have this timeout: one around it
would fire first, and leave the connection to the kernel."""
PATH: Final = "/api/events/stream"


class FirstEvent(NamedTuple):
    """The first event of a stream. `ended` when no other follows."""

    kind: str
    data: bytes
    ended: bool


class EventStreams:
    """Streams events to clients. A client that reads too slowly gets `overrun` and is disconnected; it can resume."""

    def __init__(self, bus: EventBus) -> None:
        self._bus = bus
        self._open = 0

    def operations(self) -> Sequence[Operation]:
        """What can be done."""
        resume_from = "Go on after this event; an event `gap` says that some are no longer known."
        resume = {"Last-Event-ID": {"pattern": "^[0-9]{1,20}$", "description": resume_from}}
        return [
            Operation(
                "GET",
                PATH,
                self.everything,
                "events",
                {200: "text/event-stream"},
                headers=resume,
                id="Streams_everything",
            )
        ]

    async def close(self, _app: web.Application) -> None:
        """End all streams: the daemon stops."""
        self._bus.close()

    async def everything(self, request: web.Request) -> web.StreamResponse:
        """What happens, as server-sent events.

        Kinds: `message.received`, `profile.completed`, `profile.failed`, `backfill.progressed`, `delivery.failed`; and
        `gap` or `overrun` when some were missed.
        """
        return await self.serve(request, lambda _event: True)

    async def serve(
        self,
        request: web.Request,
        concerns: Callable[[Event], bool],
        *,
        ends: Callable[[Event], bool] = lambda _event: False,
        first: Callable[[], Awaitable[FirstEvent]] | None = None,
    ) -> web.StreamResponse:
        """Stream the events for which `concerns` is true, until one for which `ends` is true, or the client leaves.

        `first` gives the first event. It is called after subscribing, so that no event is missed in between.
        """
        if self._open >= MAX_STREAMS:
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE, f"{MAX_STREAMS} streams are open already.", headers={"Retry-After": "5"}
            )
        last_id = _last_id(request)
        self._open += 1
        try:
            with self._bus.subscribe() as subscriber, notify_on_disconnect(request, subscriber.end):
                first_event = None if first is None else await first()
                async with sse_response(request, headers=SAFE_HEADERS, send_timeout=SEND_TIMEOUT_S) as response:
                    with suppress(ConnectionResetError, TimeoutError):
                        if first_event is not None:
                            await response.send(first_event.data.decode(), event=first_event.kind)
                        sent_id = None if last_id is None else await self._catch_up(response, last_id, concerns)
                        if first_event is None or not first_event.ended:
                            await _follow(response, subscriber, sent_id or 0, concerns, ends)
                return response
        finally:
            self._open -= 1

    async def _catch_up(
        self, response: EventSourceResponse, last_id: int, concerns: Callable[[Event], bool]
    ) -> int | None:
        """Send the events after `last_id`. Returns the id of the last one: up to it the subscriber gets them again."""
        missed = self._bus.since(last_id)
        if missed is None:
            await response.send("{}", event="gap")
            return None
        for event in missed:
            if concerns(event):
                await _send(response, event)
        return missed[-1].id if missed else None


async def _follow(
    response: EventSourceResponse,
    subscriber: Subscriber,
    sent_id: int,
    concerns: Callable[[Event], bool],
    ends: Callable[[Event], bool],
) -> None:
    async for event in subscriber:
        if event.id <= sent_id or not concerns(event):
            continue
        await _send(response, event)
        if ends(event):
            return
    if subscriber.overrun:
        await response.send('{"detail":"You read too slowly; resume with Last-Event-ID."}', event="overrun")


async def _send(response: EventSourceResponse, event: Event) -> None:
    await response.send(msgspec.json.encode(event.data).decode(), event=event.kind, id=str(event.id))


def _last_id(request: web.Request) -> int | None:
    text = request.headers.get("Last-Event-ID")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 20):
        raise ProblemError(HTTPStatus.BAD_REQUEST, "Last-Event-ID must be the id of an event of this stream.")
    return int(text)
