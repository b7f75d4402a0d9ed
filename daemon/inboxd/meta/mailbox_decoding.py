"""Decodes the answers of the Conversations API. Later code may rely on every value.

What Meta leaves out or sends in an odd form becomes None, and an item without a usable id is set aside and counted:
one odd item never hides the others. Sources: "Conversations API" of both products; the `Message` reference, whose
fields are not documented for Instagram.
"""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from urllib.parse import parse_qs, urlsplit

from inboxd.domain.mailbox import (
    Detail,
    ListedAttachment,
    ListedConversation,
    ListedMessage,
    ListedReaction,
    ListedStory,
    Page,
    Party,
    StoryKind,
)
from inboxd.meta import answers
from inboxd.meta.graph_errors import unusable

T = TypeVar("T")
MAX_ITEMS: Final = 1000
"""Most items of one page that are read. The others are set aside."""
MAX_PARTIES: Final = 100
MAX_PARTS: Final = 50
"""Most attachments, shares or reactions of one message."""
MAX_TEXT: Final = 64 * 1024
MAX_NAME: Final = 255
MAX_CURSOR: Final = 4096
MAX_EMOJI: Final = 64
MAX_PIXELS: Final = 1_000_000
MAX_BYTES: Final = 2**40
EARLIEST_MS: Final = 1_262_304_000_000
LATEST_MS: Final = 4_102_444_800_000
"""The years 2010 to 2099. Instagram is not older."""
_SECONDS_BELOW: Final = 10**11
_LONGEST_TIME: Final = 40
_NODE: Final = re.compile(r"[A-Za-z0-9_=:+$~-][A-Za-z0-9_.=:+$~-]{0,1023}")
_DETAILS: Final = frozenset({"from", "to", "message", "attachments", "shares", "story", "reactions", "is_unsupported"})
_MEDIA: Final = (("image_data", "image"), ("video_data", "video"), ("generic_template", "template"))
_STORIES: Final = (("mention", StoryKind.MENTION), ("reply_to", StoryKind.REPLY))


def node_id(value: object) -> str | None:
    """The id of a conversation or a message: letters, digits and signs that need no escape in a URL's path."""
    return value if isinstance(value, str) and _NODE.fullmatch(value) else None


def time_ms(value: object) -> int | None:
    """A time in ms: ISO 8601, or seconds or ms since the epoch as a number or text. None outside of 2010 to 2099."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and (len(value) > _LONGEST_TIME or not value.isascii()):
        return None
    try:
        number = int(float(value)) if isinstance(value, float) else int(value)
        found = number * 1000 if abs(number) < _SECONDS_BELOW else number
    except (ValueError, OverflowError):
        iso = _iso_ms(value)
        if iso is None:
            return None
        found = iso
    return found if EARLIEST_MS <= found < LATEST_MS else None


def conversations_page(answer: dict[str, Any], requested_after: str | None = None) -> Page[ListedConversation]:
    """A page of conversations. Raises GraphError when the answer is no list."""
    return _page(answer, _conversation, "conversations", requested_after)


def messages_page(answer: dict[str, Any], requested_after: str | None = None) -> Page[ListedMessage]:
    """A page of messages: of the edge `messages`, or of a conversation with the field `messages`.

    Raises GraphError when the answer is neither.
    """
    if "data" not in answer and node_id(answer.get("id")) is not None:
        inner = answer.get("messages")
        # A conversation without messages has no such field.
        answer = inner if isinstance(inner, dict) else {"data": []} if inner is None else {}
    return _page(answer, listed_message, "messages", requested_after)


def listed_message(fields: dict[str, Any]) -> ListedMessage | None:
    """A message; None when it has no usable id."""
    found = node_id(fields.get("id"))
    if found is None:
        return None
    created_time = time_ms(fields.get("created_time"))
    if "error" in fields or not fields.keys() & _DETAILS:
        return ListedMessage(found, created_time, Detail.UNAVAILABLE)
    return ListedMessage(
        id=found,
        created_time=created_time,
        detail=Detail.READABLE,
        sender=_party(fields.get("from")),
        recipients=_parties(fields.get("to")),
        text=_text(fields.get("message")),
        attachments=_attachments(fields.get("attachments")),
        shares=tuple(_shares(fields.get("shares"))),
        story=_story(fields.get("story")),
        reactions=_reactions(fields.get("reactions")),
        is_unsupported=answers.flag(fields.get("is_unsupported")) is True,
    )


def _conversation(fields: dict[str, Any]) -> ListedConversation | None:
    found = node_id(fields.get("id"))
    if found is None:
        return None
    return ListedConversation(found, time_ms(fields.get("updated_time")), _parties(fields.get("participants")))


def _page(
    answer: dict[str, Any], decode: Callable[[dict[str, Any]], T | None], what: str, requested_after: str | None
) -> Page[T]:
    listed = answer.get("data")
    if not isinstance(listed, list):
        msg = f"no list of {what}"
        raise unusable(msg)
    decoded = [decode(one) if isinstance(one, dict) else None for one in listed[:MAX_ITEMS]]
    items = tuple(one for one in decoded if one is not None)
    after, cut_off = _next(answer.get("paging"), requested_after)
    return Page(items, after, len(listed) - len(items), cut_off)


def _next(paging: object, requested_after: str | None) -> tuple[str | None, bool]:
    """The cursor of the next page, and whether there is a next page that cannot be requested.

    The address of the next page is not called, because it may be anything. Only its cursor is read.
    """
    told = _fields(paging)
    if not told.get("next"):
        return None, False
    after = _cursor(_fields(told.get("cursors")).get("after")) or _cursor_of(told.get("next"))
    if after is None or after == requested_after:
        return None, True
    return after, False


def _cursor(value: object) -> str | None:
    found = answers.word(value, MAX_CURSOR)
    # A cursor becomes part of a field expansion, where brackets would have a meaning.
    return found if found is not None and found.isascii() and not set(found) & set("(){}, ") else None


def _cursor_of(address: object) -> str | None:
    if not isinstance(address, str) or len(address) > 2 * MAX_CURSOR:
        return None
    try:
        return _cursor(parse_qs(urlsplit(address).query).get("after", [None])[0])
    except ValueError:
        return None


def _iso_ms(value: object) -> int | None:
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
        if found is None:
            return None
        return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        return None


def _text(value: object) -> str | None:
    """A message's text with half characters replaced, as webhooks have it; None when it is empty."""
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        return None
    return value.encode("utf-8", "replace").decode() or None


def _party(value: object) -> Party | None:
    told = _fields(value)
    found = answers.identifier(told.get("id"))
    return None if found is None else Party(found, answers.word(told.get("username"), MAX_NAME))


def _parties(value: object) -> tuple[Party, ...]:
    """The parties in a `data` list, or in a bare list. Those without a usable id are left out."""
    found = (_party(one) for one in _list(value, MAX_PARTIES))
    return tuple(party for party in found if party is not None)


def _attachments(value: object) -> tuple[ListedAttachment, ...] | None:
    if not isinstance(value, dict | list):
        return None
    return tuple(_attachment(one) for one in _list(value, MAX_PARTS) if isinstance(one, dict))


def _attachment(fields: dict[str, Any]) -> ListedAttachment:
    """An attachment. Voice notes and documents are both files: their MIME type tells them apart."""
    mime_type = answers.word(fields.get("mime_type"), MAX_NAME)
    found, kind = next(((_fields(fields[key]), name) for key, name in _MEDIA if key in fields), ({}, None))
    kind = kind or ("audio" if (mime_type or "").startswith("audio/") else "file")
    return ListedAttachment(
        type=kind,
        url=answers.address(found.get("url")) or answers.address(fields.get("file_url")),
        mime_type=mime_type,
        name=answers.text(fields.get("name"), MAX_NAME),
        title=answers.text(found.get("title"), MAX_NAME),
        preview_url=answers.address(found.get("preview_url")),
        width=answers.whole(found.get("width"), MAX_PIXELS),
        height=answers.whole(found.get("height"), MAX_PIXELS),
        size=answers.whole(fields.get("size"), MAX_BYTES),
    )


def _shares(value: object) -> Iterator[str]:
    for one in _list(value, MAX_PARTS):
        link = answers.address(_fields(one).get("link"))
        if link is not None:
            yield link


def _story(value: object) -> ListedStory | None:
    told = _fields(value)
    for name, kind in _STORIES:
        if isinstance(told.get(name), dict):
            story = told[name]
            return ListedStory(kind, answers.identifier(story.get("id")), answers.address(story.get("link")))
    return None


def _reactions(value: object) -> tuple[ListedReaction, ...] | None:
    if not isinstance(value, dict | list):
        return None
    found = ((answers.word(one.get("reaction"), MAX_EMOJI), one) for one in map(_fields, _list(value, MAX_PARTS)))
    return tuple(ListedReaction(emoji, _parties(one.get("users"))) for emoji, one in found if emoji is not None)


def _list(value: object, most: int) -> list[Any]:
    """The elements of a list, which may be wrapped in `data`."""
    inner = value.get("data") if isinstance(value, dict) else value
    return inner[:most] if isinstance(inner, list) else []


def _fields(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
