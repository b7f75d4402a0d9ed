"""Deliveries that could not be understood: look at them, try again."""

from typing import Final

import msgspec
from aiohttp import web

from inboxd.store.inbox import Inbox
from inboxd.web.api.operations import not_found, path_id
from inboxd.web.dashboard.rendering import offset_of, page, see_other

LIMIT: Final = 50
MAX_SHOWN: Final = 200_000
"""Characters of a body that are shown; the API has all of it."""


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
        found = await self._inbox.get(path_id(request, "delivery"))
        if found is None:
            raise not_found("delivery")
        delivery, body = found
        text = _readable(body)
        context = {"delivery": delivery, "body": text[:MAX_SHOWN], "is_cut": len(text) > MAX_SHOWN}
        return page(request, "delivery.html", context)

    async def retry(self, request: web.Request) -> web.Response:
        """Put it back in the queue."""
        delivery_id = path_id(request, "delivery")
        if not await self._inbox.retry(delivery_id) and await self._inbox.get(delivery_id) is None:
            raise not_found("delivery")
        return see_other(f"/deliveries/{delivery_id}")

    async def retry_all(self, _request: web.Request) -> web.Response:
        """Put all of them back in the queue."""
        await self._inbox.retry_all()
        return see_other("/deliveries")


def _readable(body: bytes) -> str:
    """The JSON with line breaks, or what is no JSON as it is."""
    try:
        return msgspec.json.format(body).decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return body.decode(errors="backslashreplace")
