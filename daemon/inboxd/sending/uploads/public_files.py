"""The route on the public listener from which Meta fetches the files that are sent."""

import asyncio
from typing import Final

from aiohttp import hdrs, web
from aiohttp.abc import AbstractStreamWriter

from inboxd.http.access_log import SHOWN_PATH
from inboxd.http.problems import SAFE_HEADERS
from inboxd.runtime import logs
from inboxd.runtime.errors import StorageError
from inboxd.sending.uploads.service import MEDIA_PATH, UploadService
from inboxd.sending.uploads.store import UploadStore
from inboxd.sending.uploads.upload import Upload, UploadGoneError

AT_ONCE: Final = 32
"""Files that are fetched at the same time. Webhooks come on the same listener, and need connections of it."""
MOST_S: Final = 90.0
"""How long a file may take to be fetched. Meta itself gives up after 75 s."""
_HEADERS: Final = {
    **SAFE_HEADERS,
    "Content-Security-Policy": "default-src 'none'; sandbox",
    "X-Robots-Tag": "noindex",
}


class PublicFiles:
    """Serves a file to whoever has an address of it that has not ended. Everything else is 404."""

    def __init__(self, uploads: UploadService, store: UploadStore, *, most_s: float = MOST_S) -> None:
        self._uploads = uploads
        self._store = store
        self._most_s = most_s
        self._fetching: set[_Fetch] = set()
        self._log = logs.get("uploads")

    def add_routes(self, app: web.Application) -> None:
        """Put the route on the public application."""
        app.router.add_get(MEDIA_PATH + "/{link}", self.file)

    async def file(self, request: web.Request) -> web.StreamResponse:
        """The bytes of a file."""
        request[SHOWN_PATH] = MEDIA_PATH
        upload = await self._uploads.shown(request.match_info["link"])
        if upload is None:
            raise web.HTTPNotFound
        try:
            await self._uploads.check(upload)
        except UploadGoneError:
            raise web.HTTPNotFound from None
        except StorageError:  # it names the folder: that is for the log alone
            raise web.HTTPServiceUnavailable(headers={hdrs.RETRY_AFTER: "5"}) from None
        if len(self._fetching) >= AT_ONCE:
            self._log.warning("uploads_busy", upload_id=upload.id, fetching=len(self._fetching))
            raise web.HTTPServiceUnavailable(headers={hdrs.RETRY_AFTER: "5"})
        self._log.info("upload_fetched", upload_id=upload.id, bytes=upload.bytes)
        return _Fetch(self._store, upload, self._fetching, self._most_s)


class _Fetch(web.FileResponse):
    """A file that is being fetched: one of `fetching` meanwhile, and given up after `most_s` seconds."""

    def __init__(self, store: UploadStore, upload: Upload, fetching: "set[_Fetch]", most_s: float) -> None:
        super().__init__(store.path(upload), headers=_HEADERS)
        self.content_type = upload.content_type
        self._fetching = fetching
        self._most_s = most_s

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send it. aiohttp sends a whole file in here."""
        self._fetching.add(self)
        try:
            async with asyncio.timeout(self._most_s):
                return await super().prepare(request)
        except TimeoutError as error:
            if request.transport is not None:
                request.transport.abort()
            msg = "the file was not fetched in time"
            raise ConnectionResetError(msg) from error
        finally:
            self._fetching.discard(self)
