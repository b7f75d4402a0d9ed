"""From where Meta fetches the attachments of messages."""

from collections.abc import Callable

from inboxd.domain.outbound import OutboundAttachment


class Addresses:
    """The address of an attachment: the one that it was given, or that of an upload, which `of_upload` knows."""

    def __init__(self) -> None:
        self.of_upload: Callable[[str], str | None] = lambda _upload_id: None

    def __call__(self, one: OutboundAttachment) -> str:
        """The address. Raises ValueError when there is none any more."""
        found = one.url if one.upload_id is None else self.of_upload(one.upload_id)
        if found is None:
            msg = "The uploaded file is no longer kept. Upload it again, and send a new message."
            raise ValueError(msg)
        return found
