"""Deliveries that could not be processed: look at them, try again."""

import asyncio
from typing import Final

from aiohttp import web

from inboxd.domain.payload import readable
from inboxd.http.operations import not_found, path_id
from inboxd.http.rendering import offset_of, page, see_other
from inboxd.receiving.store import Inbox

LIMIT: Final = 50
MAX_READ: Final = 65_536
"""Bytes of a body that are looked at…"""
MAX_SHOWN: Final = 200_000
"""…and characters that are shown of them; the API has all of it."""


class DeliveryPages:
    """`/deliveries`."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox

    def add_routes(self, app: web.Application) -> None:
        """Put the pages on the admin application."""
        app.router.add_get("/deliveries", self.all, allow_head=False)
        app.router.add_post("/deliveries/retry", self.retry_all)
        app.router.add_get("/deliveries/{id}", self.one, allow_head=False)
        app.router.add_post("/deliveries/{id}/retry", self.retry)

    async def all(self, request: web.Request) -> web.Response:
        """Failed deliveries, the latest first."""
        offset = offset_of(request)
        found, total = await self._inbox.page(state="failed", limit=LIMIT, offset=offset)
        waiting, oldest_s = await self._inbox.backlog()
        context = {
            "deliveries": found,
            "total": total,
            "following": offset + LIMIT if offset + LIMIT < total else None,
            "waiting": waiting,
            "oldest_s": oldest_s,
        }
        return page(request, "deliveries.html", context)

    async def one(self, request: web.Request) -> web.Response:
        """A delivery as it came."""
        found = await self._inbox.look(path_id(request, "delivery"), MAX_READ)
        if found is None:
            raise not_found("delivery")
        delivery, beginning = found
        text = await asyncio.to_thread(readable, beginning, limit=MAX_SHOWN)
        context = {"delivery": delivery, "body": text, "is_cut": delivery.size > MAX_READ or len(text) == MAX_SHOWN}
        return page(request, "delivery.html", context)

    async def retry(self, request: web.Request) -> web.Response:
        """Put it back in the queue."""
        delivery_id = path_id(request, "delivery")
        if not await self._inbox.retry(delivery_id) and await self._inbox.look(delivery_id) is None:
            raise not_found("delivery")
        return see_other(f"/deliveries/{delivery_id}")

    async def retry_all(self, _request: web.Request) -> web.Response:
        """Put all of them back in the queue."""
        await self._inbox.retry_all()
        return see_other("/deliveries")
