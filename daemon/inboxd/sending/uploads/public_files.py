"""The route on the public listener from which Meta fetches the files that are sent."""

from typing import Final

from aiohttp import web

from inboxd.http.access_log import SHOWN_PATH
from inboxd.http.problems import SAFE_HEADERS
from inboxd.runtime import logs
from inboxd.sending.uploads.service import MEDIA_PATH, UploadService
from inboxd.sending.uploads.store import UploadStore

_HEADERS: Final = {
    **SAFE_HEADERS,
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Robots-Tag": "noindex",
}


class PublicFiles:
    """Serves a file to whoever has an address of it that has not ended. Everything else is 404."""

    def __init__(self, uploads: UploadService, store: UploadStore) -> None:
        self._uploads = uploads
        self._store = store
        self._log = logs.get("uploads")

    def add_routes(self, app: web.Application) -> None:
        """Put the route on the public application."""
        app.router.add_get(MEDIA_PATH + "/{link}", self.file)

    async def file(self, request: web.Request) -> web.StreamResponse:
        """The bytes of a file."""
        request[SHOWN_PATH] = MEDIA_PATH
        upload = await self._uploads.shown(request.match_info["link"])
        if upload is None or not self._store.path(upload).is_file():
            raise web.HTTPNotFound
        self._log.info("upload_fetched", upload_id=upload.id, bytes=upload.bytes)
        response = web.FileResponse(self._store.path(upload), headers=_HEADERS)
        response.content_type = upload.content_type
        return response
