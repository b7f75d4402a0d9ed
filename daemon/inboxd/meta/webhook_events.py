"""What a webhook delivery says: its items as typed events, of every kind that Instagram is known to send.

Meta's "Webhooks" and "Webhook examples" pages of the Instagram Platform, and of Instagram Messaging for what only
the Messenger Platform documents.
"""

from typing import Any, ClassVar

import msgspec

from inboxd.runtime.errors import InboxdError

Id = str | int
"""An id as Meta sends it: a few samples print ids as numbers; in a WebhookEvent every id is text."""


class BrokenDeliveryError(InboxdError):
    """The body is signed but cannot be decoded as a whole. `webhook_decoding.decode_broken` saves what it can."""


class UnreadableDeliveryError(InboxdError):
    """The body is signed but is not a webhook payload: not JSON, or not an object with entries."""


class WebhookAttachment(msgspec.Struct, frozen=True):
    """`messaging[].message.attachments[]`. `url` and `title` stand beside the payload in link previews."""

    type: str
    payload: dict[str, Any] | None = None
    url: Any = None
    title: Any = None


class _QuickReply(msgspec.Struct, frozen=True):
    payload: str | None = None


class WebhookMessage(msgspec.Struct, frozen=True):
    """`messaging[].message`: a message, an echo, a message to oneself, a delete or an unsupported one."""

    mid: str | None = None
    """Missing or empty only in malformed items: they are messages all the same."""
    text: str | None = None
    attachments: tuple[WebhookAttachment, ...] | None = None
    quick_reply: _QuickReply | None = None
    reply_to: dict[str, Any] | None = None
    referral: dict[str, Any] | None = None
    is_echo: bool | None = None
    is_self: bool | None = None
    is_deleted: bool | None = None
    is_unsupported: bool | None = None
    app_id: Id | None = None

    @property
    def kind(self) -> str:
        """What happened, as one word."""
        if self.is_deleted:
            return "delete"
        if self.is_self:
            return "self_message"
        if self.is_echo:
            return "echo"
        return "unsupported" if self.is_unsupported else "message"


class MessageEdit(msgspec.Struct, frozen=True):
    """`messaging[].message_edit`. `num_edit` is shown quoted in one sample and bare in another."""

    mid: str
    text: str | None = None
    num_edit: Any = None

    @property
    def kind(self) -> str:
        """What happened, as one word."""
        return "edit_companion" if self.is_companion else "edit"

    @property
    def is_companion(self) -> bool:
        """Whether it is no edit: nearly every ordinary message is accompanied by one without text or with number 0."""
        return not self.text or self.num_edit in (0, "0")

    @property
    def number(self) -> int:
        """Which edit this is, from 1; 0 when Meta does not say."""
        try:
            return max(0, min(int(self.num_edit or 0), 2**31))
        except (TypeError, ValueError, OverflowError):
            return 0


class WebhookReaction(msgspec.Struct, frozen=True):
    """`messaging[].reaction`. Both `reaction` and `emoji` are absent when it is taken back."""

    kind: ClassVar[str] = "reaction"
    mid: str
    action: str
    reaction: str | None = None
    emoji: str | None = None


class Read(msgspec.Struct, frozen=True):
    """`messaging[].read`: the message that was seen."""

    kind: ClassVar[str] = "seen"
    mid: str


class Postback(msgspec.Struct, frozen=True):
    """`messaging[].postback`: a tapped ice breaker, menu item or button. `mid` and `payload` may be missing."""

    kind: ClassVar[str] = "postback"
    mid: str | None = None
    title: str | None = None
    payload: str | None = None
    referral: dict[str, Any] | None = None


class Other(msgspec.Struct, frozen=True):
    """Anything that is kept as it came: referrals, opt-ins, handover, comments, mentions, insights, the unknown."""

    kind: str
    reason: str | None = None
    """For unknown events: why they are unknown."""


Body = WebhookMessage | MessageEdit | WebhookReaction | Read | Postback | Other


class WebhookEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One item inside a delivery."""

    kind: str
    entry_id: str
    body: Body
    raw: msgspec.Raw
    """The item's own JSON, as it came."""
    sender_id: str | None = None
    recipient_id: str | None = None
    """Both ids are None where Meta leaves them out: the mid then finds the message."""
    sender_username: str | None = None
    timestamp: int | None = None
    """Milliseconds since the epoch; from the item, else its entry; None when neither says."""
    entry_time: int | None = None
    """When Meta sent the entry, where it says so."""
    standby: bool = False
    is_self: bool = False
    """The account did it to itself; postbacks say so on the item."""
