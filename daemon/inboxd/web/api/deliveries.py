"""`/api/deliveries` and `/api/events`: what Meta sent, as it came, and what became of it."""

from collections.abc import Sequence
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from inboxd.store import events
from inboxd.store.conversations import Place
from inboxd.store.database import Read
from inboxd.store.inbox import Inbox
from inboxd.web.api import cursors
from inboxd.web.api.cursors import Cursor
from inboxd.web.api.operations import (
    MAX_LIMIT,
    Operation,
    Page,
    Query,
    answer,
    not_found,
    page_links,
    path_id,
    query,
)
from inboxd.web.api.resources.deliveries import (
    DeliveryList,
    DeliveryResource,
    EventList,
    EventResource,
    RetriedDeliveries,
)
from inboxd.web.problems import SAFE_HEADERS, ProblemError

PATH: Final = "/api/deliveries"


class DeliveryState(StrEnum):
    """What became of a delivery."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


class DeliveryQuery(Page, frozen=True):
    """Which deliveries."""

    state: DeliveryState | None = None


class EventQuery(Query, frozen=True):
    """Which kept events."""

    kind: Annotated[str, Meta(max_length=50, description="Of this kind.")] | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_LIMIT)] = 50
    cursor: Cursor | None = None


class DeliveriesApi:
    """Looking at deliveries, and putting failed ones back in the queue."""

    def __init__(self, inbox: Inbox, read: Read) -> None:
        self._inbox = inbox
        self._read = read

    def operations(self) -> Sequence[Operation]:
        """What can be done."""
        one = PATH + "/{id}"
        tag = "deliveries"
        return [
            Operation("GET", PATH, self.page, tag, {200: DeliveryList}, query=DeliveryQuery),
            Operation("GET", one, self.one, tag, {200: DeliveryResource}, single=True),
            Operation("GET", one + "/raw", self.raw, tag, {200: "application/octet-stream"}),
            Operation("POST", one + "/retry", self.retry, tag, {202: None}, problems=(409,)),
            Operation("POST", "/api/workers/retry-failed-deliveries", self.retry_all, tag, {202: RetriedDeliveries}),
            Operation("GET", "/api/events", self.events, "events", {200: EventList}, query=EventQuery),
        ]

    async def page(self, request: web.Request) -> web.Response:
        """A page of deliveries, newest first."""
        asked = query(request, DeliveryQuery)
        found, total = await self._inbox.page(state=asked.state, limit=asked.limit, offset=asked.offset)
        resources = [DeliveryResource.of(delivery) for delivery in found]
        links = page_links(request, total=total, limit=asked.limit, offset=asked.offset)
        listed = DeliveryList(deliveries=resources, total=total, limit=asked.limit, offset=asked.offset)
        return answer(listed, headers=links)

    async def one(self, request: web.Request) -> web.Response:
        """One delivery, without its body."""
        found = await self._inbox.get(path_id(request, "delivery"))
        if found is None:
            raise not_found("delivery")
        return answer(DeliveryResource.of(found[0]))

    async def raw(self, request: web.Request) -> web.Response:
        """The body of a delivery as Meta sent it, byte for byte."""
        found = await self._inbox.get(path_id(request, "delivery"))
        if found is None:
            raise not_found("delivery")
        return web.Response(body=found[1], content_type="application/octet-stream", headers=SAFE_HEADERS)

    async def retry(self, request: web.Request) -> web.Response:
        """Put a failed delivery back in the queue."""
        delivery_id = path_id(request, "delivery")
        if not await self._inbox.retry(delivery_id):
            if await self._inbox.get(delivery_id) is None:
                raise not_found("delivery")
            raise ProblemError(HTTPStatus.CONFLICT, "Only a failed delivery can be retried.")
        return web.Response(status=HTTPStatus.ACCEPTED, headers=SAFE_HEADERS)

    async def retry_all(self, _request: web.Request) -> web.Response:
        """Put every failed delivery back in the queue."""
        return answer(RetriedDeliveries(retried=await self._inbox.retry_all()), status=HTTPStatus.ACCEPTED)

    async def events(self, request: web.Request) -> web.Response:
        """Events that are no message and change none, the latest first: comments, mentions, handover, unknown kinds."""
        asked = query(request, EventQuery)
        before = cursors.place(asked.cursor)
        found = await events.page(
            self._read, kind=asked.kind, before_id=None if before is None else before.id, limit=asked.limit
        )
        following = cursors.of(Place(None, found[-1].id)) if len(found) == asked.limit else None
        listed = EventList(
            events=[EventResource.of(event, msgspec.Raw(event.payload)) for event in found],
            kinds=await events.kinds(self._read),
            limit=asked.limit,
            next_cursor=following,
        )
        return answer(listed)
