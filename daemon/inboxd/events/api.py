"""The event log over HTTP: reading page by page, and waiting for what comes next."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Final, Self

import msgspec
from aiohttp import web
from msgspec import Meta

from inboxd.events.envelope import Envelope
from inboxd.events.log import CursorGoneError, EventLog, EventPage, EventReader
from inboxd.events.query import EventQuery
from inboxd.events.schemas import ANY_EVENT, REF, schemas
from inboxd.events.store import EventFilter
from inboxd.http.operations import Operation, answer, query
from inboxd.http.problems import ProblemError
from inboxd.http.protocol import notify_on_disconnect
from inboxd.http.resource import EXAMPLE_ACCOUNT, Resource
from inboxd.runtime.clock import Clock
from inboxd.runtime.worker import Wakeup

PATH: Final = "/api/events"
MAX_LIMIT: Final = 500
MAX_WAIT_S: Final = 60
MAX_WAITING: Final = 64
"""Requests that may wait for events at the same time."""


class EventLogQuery(EventQuery, frozen=True):
    """Which events, from where, and how many."""

    after: (
        Annotated[
            str,
            Meta(
                pattern=r"^([0-9]{1,18}|latest)$(?!\n)",
                description="`nextCursor` of the page before. Without it: from the oldest event. `latest`: from now.",
            ),
        ]
        | None
    ) = None
    limit: Annotated[int, Meta(ge=1, le=MAX_LIMIT, description="How many events at most.")] = 100
    wait: Annotated[
        int,
        Meta(ge=0, le=MAX_WAIT_S, description="Seconds to wait for an event when there is none yet (long polling)."),
    ] = 0


_AnyEvent = Annotated[msgspec.Raw, Meta(extra_json_schema={"$ref": REF.format(name=ANY_EVENT)})]


class EventList(Resource, frozen=True):
    """Some events, in order. `events` may be shorter than `limit`, or empty, although `hasMore` is true."""

    events: list[_AnyEvent]
    next_cursor: str
    """Where to go on. Keep it when what was read is safe."""
    has_more: bool
    """Whether there are events after `nextCursor` already."""

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        event = Envelope(
            id="evt_01996c5f1a2b00000000000412",
            type="run.completed",
            account_id=EXAMPLE_ACCOUNT,
            occurred_at="2026-09-21T15:00:00.000Z",
            recorded_at="2026-09-21T15:00:00.000Z",
            data=msgspec.Raw(
                b'{"runId":"0198c2f4a1b27c3d","kind":"backfill","status":"completed","origin":"api","total":25,'
                b'"successCount":24,"errorCount":1,"skippedCount":0,"reason":null}'
            ),
        )
        return cls(events=[msgspec.Raw(msgspec.json.encode(event))], next_cursor="1042", has_more=False)


class EventsApi:
    """Reads the event log."""

    def __init__(self, reader: EventReader, log: EventLog, clock: Clock) -> None:
        self._reader = reader
        self._event_log = log
        self._clock = clock
        self._waiting = 0

    def operations(self) -> Sequence[Operation]:
        """What can be done."""
        return [
            Operation(
                "GET",
                PATH,
                self.events,
                "events",
                {200: EventList},
                query=EventLogQuery,
                problems=(410,),
                schemas=lambda: schemas(self._reader.types.values()),
            ),
        ]

    async def events(self, request: web.Request) -> web.Response:
        """Events after a cursor, in the order in which they were recorded, without gaps.

        410 when events after the cursor are no longer kept: `oldestCursor` is where to go on.
        """
        asked = query(request, EventLogQuery)
        only = asked.only(self._reader)
        try:
            after = await self._reader.cursor(asked.after)
            page = await self._reader.page(after, limit=asked.limit, only=only)
            if asked.wait and not page.events and not page.more:
                page = await self._wait(request, page, asked, only)
        except CursorGoneError as error:
            raise gone(error) from error
        listed = [msgspec.Raw(event.body) for event in page.events]
        return answer({"events": listed, "nextCursor": str(page.next_cursor), "hasMore": page.more})

    async def _wait(self, request: web.Request, page: EventPage, asked: EventLogQuery, only: EventFilter) -> EventPage:
        """The next page that has events; an empty one when the time is over. Raises CursorGoneError."""
        if self._waiting >= MAX_WAITING:
            detail = f"{MAX_WAITING} requests wait for events already."
            raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "5"})
        self._waiting += 1
        until = self._clock.monotonic() + asked.wait
        wakeup = Wakeup()
        try:
            with self._event_log.notifying(wakeup), notify_on_disconnect(request, wakeup.stop):
                while not wakeup.stopping and (rest := until - self._clock.monotonic()) > 0:
                    notified = wakeup.next
                    page = await self._reader.page(page.next_cursor, limit=asked.limit, only=only)
                    if page.events:
                        break
                    if not page.more:
                        await self._clock.wait(notified, rest)
        finally:
            self._waiting -= 1
        return page


def gone(error: CursorGoneError) -> ProblemError:
    """The problem that a cursor cannot be read from, with the oldest one that can."""
    return ProblemError(HTTPStatus.GONE, str(error), oldest_cursor=str(error.oldest))
