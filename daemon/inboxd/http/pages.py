"""What the admin application needs of pages of the dashboard."""

from typing import Protocol

from aiohttp import web


class Pages(Protocol):
    """A group of pages."""

    def add_routes(self, app: web.Application) -> None:
        """Add the routes of the pages to the admin application."""
