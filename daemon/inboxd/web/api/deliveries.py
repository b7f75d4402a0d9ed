"""`/api/deliveries`: what Meta sent, as it came, and what became of it."""

from http import HTTPStatus
from typing import Final

from aiohttp import web

from inboxd.store.inbox import Inbox
from inboxd.web.api import parameters
from inboxd.web.api.conversations import answer
from inboxd.web.api.resources import DeliveryList, DeliveryResource
from inboxd.web.problems import SAFE_HEADERS, ProblemError

PATH: Final = "/api/deliveries"
_STATES: Final = ("pending", "done", "failed")


class DeliveriesApi:
    """Looking at deliveries, and putting failed ones back in the queue."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def add_routes(self, app: web.Application) -> None:
        """Put the routes on the admin application."""
        app.router.add_get(PATH, self.page)
        app.router.add_get(PATH + "/{id}", self.one)
        app.router.add_get(PATH + "/{id}/raw", self.raw)
        app.router.add_post(PATH + "/{id}/retry", self.retry)

    async def page(self, request: web.Request) -> web.Response:
        """A page of deliveries, newest first."""
        parameters.only(request, ("limit", "offset", "state"))
        limit, offset = parameters.page(request)
        state = parameters.choice(request, "state", _STATES)
        found, total = await self._inbox.page(state=state, limit=limit, offset=offset)
        resources = [DeliveryResource.of(delivery) for delivery in found]
        return answer(DeliveryList(deliveries=resources, total=total, limit=limit, offset=offset))

    async def one(self, request: web.Request) -> web.Response:
        """One delivery, without its body."""
        found = await self._inbox.get(parameters.path_id(request, "delivery"))
        if found is None:
            raise parameters.not_found("delivery")
        return answer(DeliveryResource.of(found[0]))

    async def raw(self, request: web.Request) -> web.Response:
        """The body as Meta sent it, byte for byte."""
        found = await self._inbox.get(parameters.path_id(request, "delivery"))
        if found is None:
            raise parameters.not_found("delivery")
        return web.Response(body=found[1], content_type="application/octet-stream", headers=SAFE_HEADERS)

    async def retry(self, request: web.Request) -> web.Response:
        """Put a failed delivery back in the queue."""
        delivery_id = parameters.path_id(request, "delivery")
        if not await self._inbox.retry(delivery_id):
            if await self._inbox.get(delivery_id) is None:
                raise parameters.not_found("delivery")
            raise ProblemError(HTTPStatus.CONFLICT, "Only a failed delivery can be retried.")
        return web.Response(status=HTTPStatus.ACCEPTED, headers=SAFE_HEADERS)
