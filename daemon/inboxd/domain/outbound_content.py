"""What may be sent: checks before a call is spent, and how a request becomes parts.

Meta takes a text or attachments in one call, and silently drops the attachment of a call that has both. So a request
becomes one part for each text, for each kind of attachment that Meta takes alone, and for a template. Limits: Meta's
"Send messages", "Quick replies", "Generic template" and "Button template" pages.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import msgspec

from inboxd.domain.outbound import (
    AttachmentType,
    Button,
    OutboundAttachment,
    OutboundKind,
    PartContent,
    QuickReply,
    QuickReplyType,
    Template,
    TemplateType,
)
from inboxd.runtime.errors import InboxdError

if TYPE_CHECKING:
    import regex

MAX_TEXT_BYTES: Final = 1000
"""Bytes of UTF-8 in one message."""
MAX_TEXT: Final = 20_000
"""Characters of a text that is split."""
MAX_PARTS: Final = 25
MAX_IMAGES: Final = 10
"""Images in one message. Other kinds are sent one by one."""
MAX_ATTACHMENTS: Final = 20
MAX_QUICK_REPLIES: Final = 13
_FILES: Final = frozenset({AttachmentType.IMAGE, AttachmentType.VIDEO, AttachmentType.AUDIO, AttachmentType.FILE})
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


class ContentError(InboxdError):
    """Meta would not take this; the message says what is wrong and what to do."""


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody wants to be sent, before it is checked."""

    text: str | None = None
    attachments: Sequence[OutboundAttachment] = ()
    attachments_first: bool = False
    """Whether the attachments are sent before the text. With quick replies they always are."""
    quick_replies: Sequence[QuickReply] = ()
    template: Template | None = None
    reply_to_mid: str | None = None
    split: bool = False
    """Whether a text that is too long is sent in several messages."""


def parts_of(draft: Draft, kind: OutboundKind, *, allow_http: bool) -> tuple[PartContent, ...]:
    """The parts of a request, in the order in which they are sent. `allow_http`: URLs need not be https.

    Raises ContentError.
    """
    text = draft.text if draft.text is not None and draft.text.strip() else None
    if text is None and not draft.attachments and draft.template is None:
        msg = "There is nothing to send: give a text, attachments or a template."
        raise ContentError(msg)
    _check_template(draft, text, allow_http=allow_http)
    _check_quick_replies(draft, text)
    texts = [PartContent(text=one) for one in _texts(text, split=draft.split)]
    if draft.quick_replies:
        # They vanish behind an attachment, and belong to what was said last.
        texts[-1] = msgspec.structs.replace(texts[-1], quick_replies=tuple(draft.quick_replies))
    files = list(_attachment_parts(draft.attachments, allow_http=allow_http))
    parts = [*files, *texts] if draft.attachments_first or draft.quick_replies else [*texts, *files]
    if draft.template is not None:
        parts.append(PartContent(template=draft.template))
    if draft.reply_to_mid is not None:
        parts[0] = msgspec.structs.replace(parts[0], reply_to_mid=draft.reply_to_mid)
    _check_kind(parts, kind)
    if len(parts) > MAX_PARTS:
        msg = f"This would be {len(parts)} messages; at most {MAX_PARTS} are sent for one request."
        raise ContentError(msg)
    return tuple(parts)


def split_text(text: str, most: int = MAX_TEXT_BYTES) -> list[str]:
    """`text` in pieces of at most `most` bytes of UTF-8, cut at blanks where it can be.

    What people see as one character, such as a flag or a family, is never cut. Raises ContentError when one of them is
    larger than `most`.
    """
    pieces: list[str] = []
    rest = _without_blanks_before(text).rstrip()
    while len(rest.encode()) > most:
        cut = _place_to_cut(rest, most)
        pieces.append(rest[:cut].rstrip())
        rest = _without_blanks_before(rest[cut:])
    return [*pieces, rest] if rest else pieces


def _graphemes(text: str) -> "Iterator[regex.Match[str]]":
    """What people see as one character each."""
    import regex  # noqa: PLC0415 - it takes two megabytes of memory, and few texts are so long

    return iter(regex.finditer(r"\X", text))


def _place_to_cut(text: str, most: int) -> int:
    """Behind the last blank within the first `most` bytes, or behind their last character if that were too early."""
    end = size = blank = 0
    for one in _graphemes(text):
        size += len(one.group().encode())
        is_blank = one.group().isspace()
        if size > most:
            if is_blank:
                return end
            break
        end = one.end()
        blank = end if is_blank else blank
    if end == 0:
        msg = f"The text has one character of more than {most} bytes."
        raise ContentError(msg)
    return blank if blank > end // 2 else end


def _without_blanks_before(text: str) -> str:
    """`text` without the blanks that it begins with; a blank that carries an accent is none."""
    for one in _graphemes(text):
        if not one.group().isspace():
            return text[one.start() :]
    return ""


def _texts(text: str | None, *, split: bool) -> list[str]:
    if text is None:
        return []
    if _CONTROL.search(text) is not None:
        msg = "The text has control characters."
        raise ContentError(msg)
    size = len(text.encode())
    if size <= MAX_TEXT_BYTES:
        return [text]
    if not split:
        msg = (
            f"The text has {size} bytes of UTF-8, and Instagram takes {MAX_TEXT_BYTES}. Shorten it, or have it sent in "
            'several messages with "split": true.'
        )
        raise ContentError(msg)
    return split_text(text)


def _attachment_parts(attachments: Sequence[OutboundAttachment], *, allow_http: bool) -> Iterator[PartContent]:
    if len(attachments) > MAX_ATTACHMENTS:
        msg = f"There are {len(attachments)} attachments; at most {MAX_ATTACHMENTS} can be sent at a time."
        raise ContentError(msg)
    for number, one in enumerate(attachments):
        _check_attachment(one, f"attachments[{number}]", allow_http=allow_http)
    for kind, several in groupby(attachments, key=lambda one: one.type):
        same = list(several)
        size = MAX_IMAGES if kind is AttachmentType.IMAGE else 1
        for start in range(0, len(same), size):
            yield PartContent(attachments=tuple(same[start : start + size]))


def _check_attachment(one: OutboundAttachment, where: str, *, allow_http: bool) -> None:
    members = {"url": one.url, "uploadId": one.upload_id, "mediaId": one.media_id}
    given = [name for name, value in members.items() if value is not None]
    if one.type in _FILES:
        if len(given) != 1 or given == ["mediaId"]:
            msg = f"{where}: an attachment of type {one.type} needs either a url or an uploadId."
            raise ContentError(msg)
    elif one.type is AttachmentType.POST:
        if given != ["mediaId"]:
            msg = f"{where}: a post needs its mediaId, and nothing else."
            raise ContentError(msg)
    elif given:
        msg = f"{where}: a like_heart has no url, no uploadId and no mediaId."
        raise ContentError(msg)
    if one.url is not None:
        check_url(one.url, f"{where}.url", allow_http=allow_http)


def check_url(url: str, where: str, *, allow_http: bool) -> None:
    """Whether Meta, or a browser, may open `url`. Raises ContentError."""
    schemes = ("https", "http") if allow_http else ("https",)
    if _host(url, schemes) is None:
        msg = f"{where}: this is no {' or '.join(schemes)} URL. Encode blanks, and what is not ASCII."
        raise ContentError(msg)
    if "@" in urlsplit(url).netloc:
        msg = f"{where}: a URL with a user or a password cannot be sent: Meta does not use it, and others would see it."
        raise ContentError(msg)


def _host(url: str, schemes: Collection[str]) -> str | None:
    """The host of a URL; None when it is no URL with one of `schemes`."""
    if not url.isascii() or not url.isprintable() or " " in url:
        return None
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises where it is no number
    except ValueError:
        return None
    return (parts.hostname or None) if parts.scheme in schemes else None


def _check_quick_replies(draft: Draft, text: str | None) -> None:
    if not draft.quick_replies:
        return
    if len(draft.quick_replies) > MAX_QUICK_REPLIES:
        msg = f"There are {len(draft.quick_replies)} quick replies, and Instagram shows {MAX_QUICK_REPLIES}."
        raise ContentError(msg)
    if text is None:
        msg = "Quick replies need a text."
        raise ContentError(msg)
    for number, one in enumerate(draft.quick_replies):
        where = f"quickReplies[{number}]"
        if one.type is QuickReplyType.TEXT and not (one.title or "").strip():
            msg = f"{where}: it needs a title of at most 20 characters."
            raise ContentError(msg)
        if one.type is not QuickReplyType.TEXT and (one.title is not None or one.payload is not None):
            msg = f"{where}: Instagram fills in what a {one.type} shows; it has no title and no payload of its own."
            raise ContentError(msg)


def _check_template(draft: Draft, text: str | None, *, allow_http: bool) -> None:
    template = draft.template
    if template is None:
        return
    if text is not None or draft.attachments or draft.quick_replies:
        msg = "A template is sent alone: without text, attachments and quick replies beside it."
        raise ContentError(msg)
    if template.type is TemplateType.BUTTON:
        if not (template.text or "").strip() or not template.buttons or template.elements:
            msg = "template: a button template has a text and 1 to 3 buttons, and no elements."
            raise ContentError(msg)
        _check_buttons(template.buttons, "template.buttons", allow_http=allow_http)
        return
    if not template.elements or template.buttons or template.text is not None:
        msg = "template: a generic template has 1 to 10 elements, and no text and buttons of its own."
        raise ContentError(msg)
    for number, one in enumerate(template.elements):
        where = f"template.elements[{number}]"
        if one.subtitle is None and one.image_url is None and one.url is None and not one.buttons:
            msg = f"{where}: beside its title it needs a subtitle, an imageUrl, a url or buttons."
            raise ContentError(msg)
        for name, url in (("imageUrl", one.image_url), ("url", one.url)):
            if url is not None:
                check_url(url, f"{where}.{name}", allow_http=allow_http)
        _check_buttons(one.buttons, f"{where}.buttons", allow_http=allow_http)


def _check_buttons(buttons: Sequence[Button], where: str, *, allow_http: bool) -> None:
    for number, one in enumerate(buttons):
        if (one.url is None) == (one.payload is None) or one.payload == "":
            msg = f"{where}[{number}]: a button has either a url or a payload."
            raise ContentError(msg)
        if one.url is not None:
            check_url(one.url, f"{where}[{number}].url", allow_http=allow_http)


def _check_kind(parts: Sequence[PartContent], kind: OutboundKind) -> None:
    if kind is OutboundKind.MESSAGE:
        return
    if len(parts) > 1:
        what = "private reply" if kind is OutboundKind.PRIVATE_REPLY else "reply to a comment"
        msg = f"A {what} is one message, and this would be {len(parts)}."
        raise ContentError(msg)
    (only,) = parts
    if only.attachments or only.reply_to_mid is not None:
        msg = "A reply to a comment has no attachments, and answers no message."
        raise ContentError(msg)
    if kind is OutboundKind.COMMENT_REPLY and (only.template is not None or only.quick_replies):
        msg = "A public reply to a comment is a text."
        raise ContentError(msg)
