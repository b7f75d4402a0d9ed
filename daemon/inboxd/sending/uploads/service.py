"""Taking files, and giving Meta an address of them."""

from collections.abc import AsyncIterator, Callable
from typing import Final

from inboxd.domain.media_type import MAX_BYTES, extension_of
from inboxd.receiving.webhooks import PATH
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import StorageError, StorageUnavailableError
from inboxd.sending.uploads.store import UploadStore
from inboxd.sending.uploads.upload import (
    NoPublicAddressError,
    NoUploadRoomError,
    Sender,
    Upload,
    UploadGoneError,
    UploadLink,
)

MEDIA_PATH: Final = PATH + "/media"
AT_ONCE: Final = 4
"""Files that may arrive at the same time."""


class UploadService:
    """The files. `base_url` is where Meta reaches the public listener, or empty. `max_bytes` bounds them together."""

    def __init__(self, store: UploadStore, clock: Clock, *, base_url: str, max_bytes: Callable[[], int]) -> None:
        self._store = store
        self._clock = clock
        self._base_url = base_url.rstrip("/")
        self._max_bytes = max_bytes
        self._arriving = 0
        self._log = logs.get("uploads")

    async def receive(self, pieces: AsyncIterator[bytes], wanted: str | None, sender: Sender) -> Upload:
        """Take a file. `wanted` is the type of attachment that it is for, or None.

        Raises UploadError, UnsendableFileError and StorageError.
        """
        self._require_address()
        if self._arriving >= AT_ONCE:
            msg = f"{AT_ONCE} files are arriving at this moment. Try again in a few seconds."
            raise NoUploadRoomError(msg)
        self._arriving += 1
        try:
            # Each file that is arriving may become as large as a file can be.
            if await self._store.total_bytes() + self._arriving * MAX_BYTES > self._max_bytes():
                msg = (
                    f"The files that are kept take the {self._max_bytes() // (1024 * 1024)} MB that they may "
                    "([sending] max_uploads_mb). Delete some, or wait: each goes a day after it came."
                )
                raise NoUploadRoomError(msg)
            return await self._store.receive(pieces, wanted, sender, self._clock.now_ms())
        except StorageUnavailableError as error:
            self._log.error("upload_not_stored", error=str(error))
            raise
        finally:
            self._arriving -= 1

    async def address(self, outbound_id: int, upload_id: int) -> str:
        """A public address of a file that a message sends, for Meta. It works for an hour.

        Raises UploadGoneError, NoPublicAddressError and StorageError.
        """
        self._require_address()
        upload = await self._store.used(outbound_id, upload_id)
        if upload is None:
            msg = f"The upload {upload_id} is not there any more."
            raise UploadGoneError(msg)
        await self.check(upload)
        link = upload.link(extension_of(upload.content_type), self._clock.now_ms())
        return f"{self._base_url}{MEDIA_PATH}/{link}"

    async def check(self, upload: Upload) -> None:
        """Whether the bytes of a file are there, so that Meta can fetch them; what is wrong is logged.

        Raises UploadGoneError, and StorageError when they cannot be read now.
        """
        try:
            await self._store.check(upload)
        except (UploadGoneError, StorageError) as error:
            is_gone = isinstance(error, UploadGoneError)
            of = upload.id if is_gone else None  # the folder's trouble is told once for all
            self._log.error("upload_missing", upload_id=of, error=str(error.__cause__ if is_gone else error))
            raise

    async def shown(self, text: str) -> Upload | None:
        """The file behind the last segment of an address; None when the address is not ours or has ended."""
        link = UploadLink.parsed(text)
        upload = None if link is None else await self._store.get(link.upload_id)
        if upload is None or link is None or not upload.allows(link, self._clock.now_ms()):
            return None
        return upload

    def _require_address(self) -> None:
        if not self._base_url:
            msg = (
                "Instagram fetches files itself, and inboxd does not know its own public address. Set base_url in "
                "[public] to the https:// address under which Meta reaches it, or give the attachment an 'url'."
            )
            raise NoPublicAddressError(msg)
