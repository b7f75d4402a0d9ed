"""`/api/deliveries` and `/api/webhook-events`: what Meta sent, as it came, and what became of it."""

import asyncio
from collections.abc import Sequence
from enum import StrEnum
from http import HTTPStatus
from typing import Annotated, Final

from aiohttp import web
from msgspec import Meta

from inboxd.domain.paging import Place
from inboxd.http import cursors
from inboxd.http.cursors import Cursor
from inboxd.http.operations import MAX_LIMIT, Operation, Page, Query, answer, not_found, page_links, path_id, query
from inboxd.http.problems import SAFE_HEADERS, ProblemError
from inboxd.receiving import webhook_event_store
from inboxd.receiving.resources import (
    DeliveryList,
    DeliveryResource,
    RetriedDeliveries,
    WebhookEventList,
    WebhookEventResource,
)
from inboxd.receiving.store import Inbox
from inboxd.storage.database import Read

PATH: Final = "/api/deliveries"
WEBHOOK_EVENTS: Final = "/api/webhook-events"


class DeliveryState(StrEnum):
    """What became of a delivery."""

    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


class DeliveryQuery(Page, frozen=True):
    """Which deliveries."""

    state: DeliveryState | None = None


class WebhookEventQuery(Query, frozen=True):
    """Which webhook events."""

    kind: Annotated[str, Meta(max_length=50, description="Of this kind.")] | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_LIMIT)] = 50
    cursor: Cursor | None = None


class DeliveriesApi:
    """Looking at deliveries, and putting failed ones back in the queue."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

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
        found = await self._inbox.look(path_id(request, "delivery"))
        if found is None:
            raise not_found("delivery")
        return answer(DeliveryResource.of(found[0]))

    async def raw(self, request: web.Request) -> web.Response:
        """The body of a delivery as Meta sent it, byte for byte."""
        found = await self._inbox.get(path_id(request, "delivery"))
        if found is None:
            raise not_found("delivery")
        return _download(found[1], f"delivery-{found[0].id}")

    async def retry(self, request: web.Request) -> web.Response:
        """Put a failed delivery back in the queue."""
        delivery_id = path_id(request, "delivery")
        if not await self._inbox.retry(delivery_id):
            if await self._inbox.look(delivery_id) is None:
                raise not_found("delivery")
            raise ProblemError(HTTPStatus.CONFLICT, "Only a failed delivery can be retried.")
        return web.Response(status=HTTPStatus.ACCEPTED, headers=SAFE_HEADERS)

    async def retry_all(self, _request: web.Request) -> web.Response:
        """Put every failed delivery back in the queue."""
        return answer(RetriedDeliveries(retried=await self._inbox.retry_all()), status=HTTPStatus.ACCEPTED)


class WebhookEventsApi:
    """Looking at webhook events that are no message and change none."""

    def __init__(self, read: Read) -> None:
        self._read = read

    def operations(self) -> Sequence[Operation]:
        """What can be done."""
        tag = "webhook-events"
        payload = WEBHOOK_EVENTS + "/{id}/payload"
        return [
            Operation("GET", WEBHOOK_EVENTS, self.page, tag, {200: WebhookEventList}, query=WebhookEventQuery),
            Operation("GET", payload, self.payload, tag, {200: "application/octet-stream"}),
        ]

    async def page(self, request: web.Request) -> web.Response:
        """Webhook events that are no message and change none, the latest first.

        Comments, mentions, handover and unknown kinds. A payload that is larger than 16 KiB is left out here.
        """
        asked = query(request, WebhookEventQuery)
        before = cursors.place(asked.cursor)
        found = await webhook_event_store.page(
            self._read, kind=asked.kind, before_id=None if before is None else before.id, limit=asked.limit
        )
        following = cursors.of(Place(None, found[-1].id)) if len(found) == asked.limit else None
        resources = await asyncio.to_thread(lambda: [WebhookEventResource.of(event) for event in found])
        kinds = await webhook_event_store.kinds(self._read)
        listed = WebhookEventList(webhook_events=resources, kinds=kinds, limit=asked.limit, next_cursor=following)
        return answer(listed)

    async def payload(self, request: web.Request) -> web.Response:
        """The payload of a webhook event as Meta sent it, byte for byte."""
        event_id = path_id(request, "webhook event")
        found = await webhook_event_store.payload(self._read, event_id)
        if found is None:
            raise not_found("webhook event")
        return _download(found, f"webhook-event-{event_id}")


def _download(body: bytes, name: str) -> web.Response:
    headers = {**SAFE_HEADERS, "Content-Disposition": f'attachment; filename="{name}"'}
    return web.Response(body=body, content_type="application/octet-stream", headers=headers)
