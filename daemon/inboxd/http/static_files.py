"""The files that pages load: style sheets, scripts and icons."""

from importlib.resources.abc import Traversable
from pathlib import PurePosixPath
from typing import Final, NamedTuple

from aiohttp import web

from inboxd.http.rendering import HEADERS

STATIC: Final = "/static"
_CONTENT_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}


class _File(NamedTuple):
    content_type: str
    body: bytes


class StaticFiles:
    """Serves the files of `folder` whose content type is known. They are read once, when this is made."""

    def __init__(self, folder: Traversable) -> None:
        self._files = {
            one.name: _File(content_type, one.read_bytes())
            for one in folder.iterdir()
            if (content_type := _CONTENT_TYPES.get(PurePosixPath(one.name).suffix)) is not None
        }

    @property
    def paths(self) -> frozenset[str]:
        """The paths of the files on the listener."""
        return frozenset(f"{STATIC}/{name}" for name in self._files)

    def add_routes(self, app: web.Application) -> None:
        """Add the route of the files to the admin application."""
        app.router.add_get(STATIC + "/{name}", self.file, allow_head=False)

    async def file(self, request: web.Request) -> web.Response:
        """Answer with one file. Raises HTTPNotFound."""
        found = self._files.get(request.match_info["name"])
        if found is None:
            raise web.HTTPNotFound
        headers = {**HEADERS, "Cache-Control": "no-cache"}
        return web.Response(body=found.body, content_type=found.content_type, charset="utf-8", headers=headers)
