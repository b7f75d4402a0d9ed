"""The first page: whether the daemon is healthy, what somebody should look at, and a card of each feature."""

from collections.abc import Awaitable, Callable, Sequence

from aiohttp import web

from inboxd.feature import OverviewPart
from inboxd.http.rendering import page


class Overview:
    """The page `/`. Its content comes from the features.

    The template of a card has a macro `section`, and may have a macro `tiles` for numbers in the page's first row.
    Both take the card's context.
    """

    def __init__(
        self,
        parts: Sequence[Callable[[], Awaitable[OverviewPart]]],
        *,
        problems: Callable[[], Sequence[str]],
    ) -> None:
        self._parts = parts
        self._problems = problems

    def add_routes(self, app: web.Application) -> None:
        """Put the page on the admin application."""
        app.router.add_get("/", self.show, allow_head=False)

    async def show(self, request: web.Request) -> web.Response:
        """The page: urgent needs come first, and otherwise everything in the order of its position."""
        parts = [await read() for read in self._parts]
        needs = [need for part in parts for need in part.needs]
        context = {
            "healthy": not self._problems(),
            "needs": sorted(needs, key=lambda need: (not need.urgent, need.position)),
            "cards": sorted((part.card for part in parts), key=lambda card: card.position),
        }
        return page(request, "overview.html", context)
