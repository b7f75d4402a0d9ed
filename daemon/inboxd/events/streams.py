"""Event streams: the event log as server-sent events (HTML standard, "Server-sent events")."""

from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import Final, NamedTuple

import msgspec
from aiohttp import web
from aiohttp_sse import EventSourceResponse, sse_response

from inboxd.events.envelope import RenderedEvent
from inboxd.events.log import CursorGoneError, EventLog, EventReader
from inboxd.events.query import EventQuery
from inboxd.events.store import EventFilter
from inboxd.http.auth import SESSION
from inboxd.http.operations import Operation, query
from inboxd.http.problems import SAFE_HEADERS, ProblemError
from inboxd.http.protocol import notify_on_disconnect
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import StorageError
from inboxd.runtime.worker import Wakeup

MAX_STREAMS: Final = 16
"""Streams of programs, and as many of dashboards: neither takes the places of the other."""
SEND_TIMEOUT_S: Final = 10.0
"""A client that takes nothing for this long is disconnected. Only the response may have this timeout: one around it
would fire first, and leave the connection to the kernel."""
PATH: Final = "/api/events/stream"
PAGE: Final = 50
MIN_REST_S: Final = 0.02
"""Rest before the log is read again, so that a few commits make one page."""


class FirstEvent(NamedTuple):
    """The first event of a stream, which is not from the log. `ended` when no other follows."""

    kind: str
    data: bytes
    ended: bool


class EventStreams:
    """Streams the log to clients. The id of each event is its cursor: a client that comes back goes on behind it."""

    def __init__(self, reader: EventReader, log: EventLog, clock: Clock) -> None:
        self._reader = reader
        self._event_log = log
        self._clock = clock
        self._open: Counter[bool] = Counter()

    def operations(self) -> Sequence[Operation]:
        """What can be done."""
        resume_from = "Go on after this event. An event `gap` says that some are no longer kept."
        resume = {"Last-Event-ID": {"pattern": "^[0-9]{1,18}$", "description": resume_from}}
        return [
            Operation(
                "GET",
                PATH,
                self.everything,
                "events",
                {200: "text/event-stream"},
                query=EventQuery,
                headers=resume,
                id="Streams_everything",
            )
        ]

    async def close(self, _app: web.Application) -> None:
        """End all streams and everything else that waits for events: the daemon stops."""
        self._event_log.close()

    async def everything(self, request: web.Request) -> web.StreamResponse:
        """Events as server-sent events, from now on or after `Last-Event-ID`.

        The first is `begin`, which has the cursor of where the stream begins, when there is no `Last-Event-ID`.
        The name of each is its type, the id its cursor, and the data the event as `/api/events` has it.
        """
        return await self.serve(request, query(request, EventQuery).only(self._reader))

    async def serve(
        self,
        request: web.Request,
        only: EventFilter,
        *,
        ends: Callable[[RenderedEvent], bool] = lambda _event: False,
        first: Callable[[], Awaitable[FirstEvent]] | None = None,
    ) -> web.StreamResponse:
        """Stream the events that `only` lets through, until one for which `ends` is true, or the client leaves.

        `first` gives the first event. It is called when the place in the log is known, so that nothing is missed.
        """
        last_id = _last_id(request)
        wakeup = Wakeup()
        with (
            self._place(is_dashboard=SESSION in request),
            self._event_log.notifying(wakeup),
            notify_on_disconnect(request, wakeup.stop),
        ):
            cursor = (await self._reader.ends()).last if last_id is None else last_id
            first_event = None if first is None else await first()
            async with sse_response(request, headers=SAFE_HEADERS, send_timeout=SEND_TIMEOUT_S) as response:
                with suppress(ConnectionError, TimeoutError, StorageError):  # the client comes back
                    if last_id is None and first_event is None:
                        # A client that is cut off before the first event comes back with this, and misses nothing.
                        await response.send(_json(cursor=str(cursor)), event="begin", id=str(cursor))
                    if first_event is not None:
                        await response.send(first_event.data.decode(), event=first_event.kind)
                    if first_event is None or not first_event.ended:
                        await self._follow(response, wakeup, cursor, only, ends)
            return response

    @contextmanager
    def _place(self, *, is_dashboard: bool) -> Iterator[None]:
        """One of the places of programs, or of dashboards. Raises ProblemError when all are taken."""
        if self._open[is_dashboard] >= MAX_STREAMS:
            raise ProblemError(
                HTTPStatus.SERVICE_UNAVAILABLE, f"{MAX_STREAMS} streams are open already.", headers={"Retry-After": "5"}
            )
        self._open[is_dashboard] += 1
        try:
            yield
        finally:
            self._open[is_dashboard] -= 1

    async def _follow(
        self,
        response: EventSourceResponse,
        wakeup: Wakeup,
        cursor: int,
        only: EventFilter,
        ends: Callable[[RenderedEvent], bool],
    ) -> None:
        while not wakeup.stopping:
            notified = wakeup.next
            try:
                page = await self._reader.page(cursor, limit=PAGE, only=only)
            except CursorGoneError as error:
                cursor = error.oldest
                await response.send(_json(oldestCursor=str(cursor)), event="gap", id=str(cursor))
                continue
            for event in page.events:
                await response.send(event.body.decode(), event=event.type, id=str(event.seq))
                if ends(event):
                    return
            cursor = page.next_cursor
            if not page.more:
                await self._clock.wait(notified, None)
                await self._clock.wait(wakeup.stopped, MIN_REST_S)


def _json(**members: str) -> str:
    return msgspec.json.encode(members).decode()


def _last_id(request: web.Request) -> int | None:
    text = request.headers.get("Last-Event-ID")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise ProblemError(HTTPStatus.BAD_REQUEST, "Last-Event-ID must be the id of an event of this stream.")
    return int(text)
