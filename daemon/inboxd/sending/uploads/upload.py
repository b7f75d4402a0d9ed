"""An uploaded file, and the public address under which Meta can fetch it for a time.

The address has no row of its own: it names the file and its end, and is signed with the key of the file.
"""

import hmac
import re
from typing import Final, NamedTuple, Self

from inboxd.runtime.errors import InboxdError

LINK_S: Final = 3600
"""How long an address works. Meta fetches the file while it answers the call that names it (within 75 s)."""
_LINK: Final = re.compile(r"([0-9]{1,18})-([0-9]{1,12})-([0-9a-f]{64})\.[a-z0-9]{2,5}")


class Upload(NamedTuple):
    """One file. Times in ms."""

    id: int
    name: str
    """Of the file in the folder: random."""
    key: bytes
    type: str
    """The type of the attachment: `image`, `video`, `audio` or `file`."""
    content_type: str
    bytes: int
    created_at: int
    expires_at: int

    def link(self, extension: str, now: int) -> str:
        """The last segment of an address that works for LINK_S from `now` (ms)."""
        ends_at_s = now // 1000 + LINK_S
        return f"{self.id}-{ends_at_s}-{self._seal(ends_at_s)}.{extension}"

    def allows(self, link: "UploadLink", now: int) -> bool:
        """Whether the link is ours, and has not ended at `now` (ms)."""
        return hmac.compare_digest(link.seal, self._seal(link.ends_at_s)) and now < link.ends_at_s * 1000

    def _seal(self, ends_at_s: int) -> str:
        return hmac.digest(self.key, f"{self.id}-{ends_at_s}".encode(), "sha256").hex()


class Sender(NamedTuple):
    """Who uploads a file."""

    requested_by: str
    """The name of the token."""
    key: str | None = None
    """The Idempotency-Key of the request."""


class UploadLink(NamedTuple):
    """What an address says."""

    upload_id: int
    ends_at_s: int
    """Seconds since the epoch."""
    seal: str

    @classmethod
    def parsed(cls, text: str) -> Self | None:
        """The link in the last segment of an address; None when it is none."""
        found = _LINK.fullmatch(text)
        return None if found is None else cls(int(found[1]), int(found[2]), found[3])


class UploadError(InboxdError):
    """A file cannot be taken or used. The text says why and what to do."""


class UploadGoneError(UploadError):
    """There is no such file, or it has expired."""


class NoPublicAddressError(UploadError):
    """Meta cannot fetch files from us."""


class NoUploadRoomError(UploadError):
    """The files that are kept take all the room that they may."""


class UploadTooLargeError(UploadError):
    """The file is larger than Instagram takes."""


class WrongUploadError(UploadError):
    """The file is of another type than the attachment."""
