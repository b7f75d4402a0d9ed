"""What was really sent by the API: the truth that tests compare with."""

from collections.abc import Sequence

import msgspec


class FetchedMedia(msgspec.Struct, frozen=True):
    """A file that was fetched to be sent. `sha256` is of its content, in hexadecimal."""

    type: str
    url: str
    content_type: str
    bytes: int
    sha256: str


class SentMessage(msgspec.Struct, frozen=True):
    """A message that was sent. `sent_ms` in ms since the epoch; `answer` and `echo` as the switches call them."""

    message_id: str
    account_id: str
    recipient_id: str
    comment_id: str | None
    """Set for a private reply."""
    sent_ms: int
    text: str | None
    attachments: tuple[str, ...]
    """Their types."""
    media: tuple[FetchedMedia, ...]
    template: str | None
    quick_replies: int
    reply_to: str | None
    messaging_type: str | None
    tag: str | None
    metadata: str | None
    answer: str
    echo: str


class SentAction(msgspec.Struct, frozen=True):
    """A sender action: typing_on, typing_off, mark_seen, react or unreact."""

    account_id: str
    recipient_id: str
    action: str
    sent_ms: int
    message_id: str | None = None
    reaction: str | None = None


class SentComment(msgspec.Struct, frozen=True):
    """A comment that was published. `parent_id`: the comment that it replies to."""

    comment_id: str
    account_id: str
    media_id: str
    parent_id: str | None
    text: str
    sent_ms: int
    answer: str
    echo: str


class SentView(msgspec.Struct, frozen=True):
    """GET /_simulator/sent. Everything in the order in which it was sent; `refused`: how often, by code/subcode."""

    messages: Sequence[SentMessage]
    actions: Sequence[SentAction]
    comments: Sequence[SentComment]
    refused: dict[str, int]


class Ledger:
    """Everything that was sent, and how many sends were refused."""

    def __init__(self) -> None:
        self.messages: list[SentMessage] = []
        self.actions: list[SentAction] = []
        self.comments: list[SentComment] = []
        self.refused: dict[str, int] = {}

    def refuse(self, body: bytes) -> None:
        """Count a send that was refused with this answer."""
        error = msgspec.json.decode(body)["error"]
        name = f"{error['code']}/{error['error_subcode']}" if "error_subcode" in error else str(error["code"])
        self.refused[name] = self.refused.get(name, 0) + 1

    def view(self, account_id: str | None = None) -> SentView:
        """What one account sent, or all did."""
        return SentView(
            [one for one in self.messages if account_id in {None, one.account_id}],
            [one for one in self.actions if account_id in {None, one.account_id}],
            [one for one in self.comments if account_id in {None, one.account_id}],
            dict(self.refused),
        )
