"""Outbound messages: what is to be sent, in parts, and what became of it.

An outbound message has one part for each call of the Send API. `state_of` says what the parts together come to.
"""

import re
from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from inboxd.domain.message import Attachment, Message
from inboxd.domain.plain_text import plain


class OutboundKind(StrEnum):
    """What is sent."""

    MESSAGE = "message"
    """A message in a conversation."""
    PRIVATE_REPLY = "private_reply"
    """A message that answers a comment, and opens a conversation with its author. One for each comment, ever."""
    COMMENT_REPLY = "comment_reply"
    """A public reply under a comment."""


class SentBy(StrEnum):
    """Who wrote it. Only what a human wrote may be sent with the tag HUMAN_AGENT."""

    HUMAN = "human"
    AUTOMATION = "automation"


class OutboundState(StrEnum):
    """The state of an outbound message."""

    QUEUED = "queued"
    SENDING = "sending"
    """A call is being made, or some parts are sent and others are not."""
    UNKNOWN = "unknown"
    """Meta's answer to a call was not seen. It is found out whether the message was sent before anything else is."""
    SENT = "sent"
    DELIVERED = "delivered"
    """Its echo was seen: all parts are in the conversation."""
    READ = "read"
    FAILED = "failed"
    CANCELED = "canceled"


class PartState(StrEnum):
    """The state of one part."""

    QUEUED = "queued"
    SENDING = "sending"
    UNKNOWN = "unknown"
    SENT = "sent"
    FAILED = "failed"
    CANCELED = "canceled"


FINAL: Final = frozenset({OutboundState.SENT, OutboundState.DELIVERED, OutboundState.READ, OutboundState.CANCELED})
"""States in which nothing more is sent. A failed message may be retried."""


class ReasonCode(StrEnum):
    """Why a message waits, is unknown or failed, as a word for programs. docs/sending.md explains each."""

    BEHIND = "behind"
    """It waits for an earlier one of its conversation. It is never stored."""
    WINDOW_CLOSED = "window_closed"
    NO_PERMISSION = "no_permission"
    ACCOUNT_NOT_CALLABLE = "account_not_callable"
    """The account has no valid token, or is not served."""
    ACCOUNT_RESTRICTED = "account_restricted"
    THROTTLED = "throttled"
    NOT_CONNECTED = "not_connected"
    """The call could not be made. Nothing was sent."""
    UNREACHABLE_PERSON = "unreachable_person"
    """The participant blocked the account, or cannot receive messages."""
    NOT_THREAD_OWNER = "not_thread_owner"
    """Another app has the conversation."""
    BAD_MEDIA = "bad_media"
    BAD_CONTENT = "bad_content"
    COMMENT_ANSWERED = "comment_answered"
    """The comment has a private reply already, or cannot have one."""
    REFUSED = "refused"
    """Meta refused it for another reason."""
    ANSWER_NOT_SEEN = "answer_not_seen"
    NOT_DELIVERED = "not_delivered"
    """It was proved several times that it had not arrived."""
    UNRESOLVED = "unresolved"
    """Whether it was sent could not be found out. A person has to look."""


class AttachmentType(StrEnum):
    """What kind of attachment is sent."""

    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    FILE = "file"
    LIKE_HEART = "like_heart"
    POST = "post"


class _Piece(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, rename="camel", forbid_unknown_fields=True):
    """A piece of a message. It is stored, and shown, under the names of the API."""


class OutboundAttachment(_Piece, frozen=True):
    """One attachment: a file by its `url` or `uploadId`, an own post by its `mediaId`, or a heart."""

    type: AttachmentType
    url: Annotated[str, Meta(max_length=2048)] | None = None
    upload_id: Annotated[str, Meta(pattern=r"^[0-9]{1,18}$(?!\n)")] | None = None
    media_id: Annotated[str, Meta(pattern=r"^[0-9]{1,32}$(?!\n)")] | None = None


class QuickReplyType(StrEnum):
    """What a quick reply gives back."""

    TEXT = "text"
    EMAIL = "user_email"
    PHONE = "user_phone_number"


class QuickReply(_Piece, frozen=True):
    """One quick reply. One that gives an e-mail address or a phone number has no title of its own."""

    type: QuickReplyType = QuickReplyType.TEXT
    title: Annotated[str, Meta(max_length=20)] | None = None
    payload: Annotated[str, Meta(max_length=1000)] | None = None


class Button(_Piece, frozen=True):
    """One button: it opens a `url`, or its `payload` comes back as a postback."""

    title: Annotated[str, Meta(min_length=1, max_length=20)]
    url: Annotated[str, Meta(max_length=2048)] | None = None
    payload: Annotated[str, Meta(max_length=1000)] | None = None


class Element(_Piece, frozen=True):
    """One card of a generic template."""

    title: Annotated[str, Meta(min_length=1, max_length=80)]
    subtitle: Annotated[str, Meta(max_length=80)] | None = None
    image_url: Annotated[str, Meta(max_length=2048)] | None = None
    url: Annotated[str, Meta(max_length=2048)] | None = None
    """What opens when the card is tapped."""
    buttons: Annotated[tuple[Button, ...], Meta(max_length=3)] = ()


class TemplateType(StrEnum):
    """What a template looks like."""

    BUTTON = "button"
    GENERIC = "generic"


class Template(_Piece, frozen=True):
    """A template: `button` is a text with buttons, `generic` is a row of cards."""

    type: TemplateType
    text: Annotated[str, Meta(max_length=640)] | None = None
    buttons: Annotated[tuple[Button, ...], Meta(max_length=3)] = ()
    elements: Annotated[tuple[Element, ...], Meta(max_length=10)] = ()


class PartContent(_Piece, frozen=True):
    """What one call of the Send API sends: a text, attachments of one kind, or a template."""

    text: str | None = None
    attachments: tuple[OutboundAttachment, ...] = ()
    quick_replies: tuple[QuickReply, ...] = ()
    template: Template | None = None
    reply_to_mid: str | None = None
    """Meta's id of the message that it answers."""


_LISTED_AS: Final = {
    AttachmentType.POST: frozenset({"share", "ig_post", "ig_reel", "ig_story", "media_share", "post"}),
    AttachmentType.LIKE_HEART: frozenset({"like_heart", "sticker", "image"}),
    AttachmentType.AUDIO: frozenset({"audio", "video"}),  # its file is an MP4
}
"""The types by which webhooks and the Conversations API may name an attachment that was sent, where it has several."""
_LINK: Final = re.compile(r"(?:https?://|www\.)\S+|\b[\w-]+(?:\.[\w-]+)*\.[a-z]{2,}(?:/\S*)?", re.IGNORECASE)
_LONGEST_LINK: Final = 2000
"""By so many characters more may Meta show a text than was sent, because it replaces links."""
_TEMPLATE: Final = frozenset({"template", "generic_template", "fallback"})


def lane_of(kind: OutboundKind, *, participant_id: str | None, comment_id: str | None) -> str:
    """What keeps its order: a participant, or a comment."""
    return f"p:{participant_id}" if kind is OutboundKind.MESSAGE else f"c:{comment_id}"


def state_of(parts: Sequence[PartState], *, delivered: bool = False, read: bool = False) -> OutboundState:
    """What the parts together come to. `delivered`: the echo of each was seen; `read`: the participant has seen them.

    A read or an echo says nothing while a part is not known to be sent.
    """
    states = set(parts)
    if states == {PartState.SENT}:
        return OutboundState.READ if read else OutboundState.DELIVERED if delivered else OutboundState.SENT
    for one in (PartState.UNKNOWN, PartState.SENDING, PartState.FAILED, PartState.CANCELED):
        if one in states:
            return OutboundState(one.value)
    return OutboundState.SENDING if PartState.SENT in states else OutboundState.QUEUED


def holds(state: OutboundState, *, hold_after_failure: bool) -> bool:
    """Whether the later ones of its lane wait for a message in this state."""
    if state is OutboundState.FAILED:
        return hold_after_failure
    return state not in FINAL


def same_content(part: PartContent, message: Message) -> bool | None:
    """Whether a message of the conversation may be what `part` sent. None when nothing is known of its content.

    The text is compared as it was before edits, and without regard to blanks, to how letters are composed, to
    characters that are not seen, and to escapes. None also when only links differ: Meta may replace them, or show one
    as a post. The Conversations API may leave attachments out: an empty copy that was read there may be any attachment.
    """
    content = message.content
    if content is None:
        return None
    if part.template is not None:
        return _is_template(part.template, content.attachments, content.text)
    if part.attachments:
        if content.text and plain(content.text):
            return False
        if not content.attachments:
            return message.read_at is not None
        return _same_attachments(part.attachments, content.attachments)
    return _same_text(part.text or "", content.text or "")  # whatever else: a link may get a preview as an attachment


def _same_attachments(wanted: Sequence[OutboundAttachment], found: Sequence[Attachment]) -> bool:
    if len(wanted) != len(found):
        return False
    kinds = {one.type.lower() for one in found}
    kind = wanted[0].type
    return kinds <= _LISTED_AS.get(kind, frozenset({kind.value}))


def _is_template(template: Template, found: Sequence[Attachment], text: str | None) -> bool:
    if found:
        return all(one.type.lower() in _TEMPLATE for one in found)
    titles = {template.text, *(one.title for one in template.elements)}
    return not plain(text) or plain(text) in {plain(one) for one in titles}


def _same_text(wanted: str, found: str) -> bool | None:
    one, other = plain(wanted), plain(found)
    if one == other:
        return bool(one) or wanted == found
    if len(other) > 2 * len(one) + _LONGEST_LINK:
        return False  # a look for links in it could take long
    without, links = _LINK.subn("", one)
    return None if links and without.split() == _LINK.sub("", other).split() else False
