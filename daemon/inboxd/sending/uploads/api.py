"""The operations for files that are sent as attachments."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus
from typing import Annotated, Final, Literal, Self

from aiohttp import BodyPartReader, hdrs, web
from msgspec import Meta

from inboxd.domain.media_type import MAX_BYTES, UnsendableFileError
from inboxd.http.auth import OWNER
from inboxd.http.operations import MAX_LIMIT, Operation, Query, answer, not_found, path_id, query
from inboxd.http.problems import ProblemError
from inboxd.http.protocol import allow_more_time, send_continue
from inboxd.http.resource import Resource
from inboxd.runtime.clock import iso_utc
from inboxd.sending.idempotency_key import KEY, KEY_SCHEMA, key_of
from inboxd.sending.uploads.service import UploadService
from inboxd.sending.uploads.store import UploadStore
from inboxd.sending.uploads.upload import (
    NoPublicAddressError,
    NoUploadRoomError,
    Sender,
    Upload,
    UploadError,
    UploadTooLargeError,
)

PATH: Final = "/api/messaging/uploads"
MAX_BODY_BYTES: Final = MAX_BYTES + 64 * 1024
"""Of a request: the largest file, and the frame of a form."""
MOST_S: Final = 300.0
"""How long a file may take to arrive. Each piece of it has the time of a whole request."""
MOST_PARTS: Final = 100
"""Parts of a form in which the file is looked for."""
_KEY_SCHEMA: Final = {
    **KEY_SCHEMA,
    "description": "Names this request. The same key and the same file again: the answer is the same upload, as long "
    "as it is kept.",
}
_PIECE: Final = 64 * 1024
_STATUS: Final[dict[type[UploadError], HTTPStatus]] = {
    NoPublicAddressError: HTTPStatus.CONFLICT,
    NoUploadRoomError: HTTPStatus.SERVICE_UNAVAILABLE,
    UploadTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
}


class UploadQuery(Query, frozen=True, kw_only=True):
    """What the file is for."""

    type: Literal["image", "video", "audio", "file"] | None = None
    """The type of attachment that it becomes. An MP4 is a video unless this says `audio`."""


class UploadResource(Resource, frozen=True):
    """A file that can be sent as an attachment: `{"type": …, "uploadId": id}`."""

    id: Annotated[str, Meta(description="Give it as `uploadId` of an attachment of the same type.")]
    type: str
    content_type: str
    bytes: int
    created_at: str
    expires_at: str
    """It is removed after this, unless a message that waits needs it."""

    @classmethod
    def of(cls, upload: Upload) -> Self:
        """The resource of a file."""
        return cls(
            id=str(upload.id),
            type=upload.type,
            content_type=upload.content_type,
            bytes=upload.bytes,
            created_at=iso_utc(upload.created_at),
            expires_at=iso_utc(upload.expires_at),
        )

    @classmethod
    def example(cls) -> Self:
        """An example for the documentation."""
        at = 1_790_000_000_000
        return cls.of(Upload(12, "", b"", "image", "image/jpeg", 48_213, at, at + 86_400_000))


class UploadList(Resource, frozen=True):
    """The files that are kept, the latest first."""

    uploads: list[UploadResource]

    @classmethod
    def example(cls) -> Self:
        """An example for the documentation."""
        return cls(uploads=[UploadResource.example()])


class UploadsApi:
    """The operations."""

    def __init__(self, uploads: UploadService, store: UploadStore) -> None:
        self._uploads = uploads
        self._store = store

    def operations(self) -> Sequence[Operation]:
        """What the admin API offers."""
        tag, one = "sending", PATH + "/{id}"
        return [
            Operation(
                "POST", PATH, self.receive, tag, {201: UploadResource}, query=UploadQuery, problems=(409, 415),
                streams=MAX_BODY_BYTES, needs="send", headers={KEY: _KEY_SCHEMA},
            ),
            Operation("GET", PATH, self.all, tag, {200: UploadList}),
            Operation("GET", one, self.one, tag, {200: UploadResource}),
            Operation("DELETE", one, self.remove, tag, {204: None}, needs="send"),
        ]  # fmt: skip

    async def receive(self, request: web.Request) -> web.Response:
        """Upload a file, to send it as an attachment.

        The file is the body itself, or the first file of a `multipart/form-data` form. What it is, is told by its first
        bytes. Meta fetches it from the public listener when it is sent, under an address that ends after an hour.
        The same file with the same `Idempotency-Key` again is the same upload, as long as it is kept.
        """
        send_continue(request)
        wanted, sender = query(request, UploadQuery).type, Sender(request[OWNER].name, key_of(request))
        try:
            async with asyncio.timeout(MOST_S):
                upload = await self._uploads.receive(_pieces(request), wanted, sender)
        except TimeoutError as error:
            raise ProblemError(HTTPStatus.REQUEST_TIMEOUT, f"The file took longer than {MOST_S:.0f} s.") from error
        except UnsendableFileError as error:
            raise ProblemError(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, str(error)) from error
        except UploadError as error:
            headers = {"Retry-After": "30"} if isinstance(error, NoUploadRoomError) else {}
            raise ProblemError(_STATUS[type(error)], str(error), headers=headers) from error
        return answer(
            UploadResource.of(upload), status=HTTPStatus.CREATED, headers={hdrs.LOCATION: f"{PATH}/{upload.id}"}
        )

    async def all(self, _request: web.Request) -> web.Response:
        """The uploaded files that are kept, the latest 200."""
        return answer(UploadList(uploads=[UploadResource.of(one) for one in await self._store.latest(MAX_LIMIT)]))

    async def one(self, request: web.Request) -> web.Response:
        """One uploaded file: its type, its size, and when it expires."""
        upload = await self._store.get(path_id(request, "upload"))
        if upload is None:
            raise not_found("upload")
        return answer(UploadResource.of(upload))

    async def remove(self, request: web.Request) -> web.Response:
        """Delete an uploaded file. A message that still needs it fails."""
        if not await self._store.remove(path_id(request, "upload")):
            raise not_found("upload")
        return web.Response(status=HTTPStatus.NO_CONTENT)


async def _pieces(request: web.Request) -> AsyncIterator[bytes]:
    """The bytes of the file as they arrive. Raises ProblemError when a form has no file, or cannot be decoded."""
    pieces = _of_form(request) if request.content_type.startswith("multipart/") else _of_body(request)
    try:
        async for piece in pieces:
            allow_more_time(request)
            yield piece
    except (ProblemError, web.HTTPException, web.RequestPayloadError, ConnectionError):
        raise
    except Exception as error:  # what aiohttp raises for the parts of a form has no end of kinds
        raise ProblemError(HTTPStatus.BAD_REQUEST, "The form cannot be decoded.") from error


async def _of_body(request: web.Request) -> AsyncIterator[bytes]:
    async for piece in request.content.iter_chunked(_PIECE):
        yield piece


async def _of_form(request: web.Request) -> AsyncIterator[bytes]:
    form = await request.multipart()
    for _ in range(MOST_PARTS):
        part = await form.next()
        if part is None:
            break
        if isinstance(part, BodyPartReader) and part.filename is not None:
            while piece := await part.read_chunk(_PIECE):
                yield piece
            return
        await part.release()
    raise ProblemError(HTTPStatus.BAD_REQUEST, "The form has no file. Send it as a part with a filename.")
