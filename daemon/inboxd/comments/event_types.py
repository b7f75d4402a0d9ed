"""The types of events about comments and mentions."""

from typing import Final

import msgspec

from inboxd.conversations.examples import CONVERSATION
from inboxd.domain.event import EventType
from inboxd.http.resource import Resource


class CommentAuthor(Resource, frozen=True, kw_only=True):
    """Who wrote a comment. In a log of ids only, `username` is null."""

    id: str | None
    username: str | None


class CommentMedia(Resource, frozen=True, kw_only=True):
    """What was commented on. In a log of ids only, `adTitle` is null."""

    id: str | None
    product_type: str | None
    """`FEED`, `REELS`, `STORY` or another that Meta names."""
    original_id: str | None
    """The media that an ad was made of."""
    ad_id: str | None
    ad_title: str | None


class CommentEventData(Resource, frozen=True, kw_only=True):
    """A comment. Null is what Meta did not say. In a log of ids only, `text` is null."""

    comment_id: str | None
    parent_id: str | None
    """The comment that it answers."""
    text: str | None
    """Meta sends none for a GIF, a sticker or a picture."""
    from_: CommentAuthor | None = msgspec.field(name="from")
    media: CommentMedia | None
    is_live: bool
    """Whether it was written during a live broadcast."""
    is_own: bool
    """Whether the account itself wrote it. A bot must not answer its own comments."""
    self_ig_scoped_id: str | None
    """Only in comments of the account: its own id, as Meta scopes ids of people."""
    id: str | None = None
    """Its id in `/api/comments`. Null in events of earlier releases."""
    thread_id: str | None = None
    """The id of the comment that begins its thread: `/api/comments/{threadId}`."""
    hidden: bool = False
    edited_at: str | None = None
    """When another text was first seen. Meta tells of no edit: comments are read again when they are opened."""


class MentionEventData(Resource, frozen=True, kw_only=True):
    """Where the account was mentioned. Meta says neither by whom nor in which words."""

    media_id: str | None
    comment_id: str | None
    """Null: in the caption."""
    id: str | None = None
    """Its id in `/api/comments`, which has the words once they are read. Null in events of earlier releases."""


_COMMENT: Final = CommentEventData(
    comment_id="18000000000000001",
    parent_id=None,
    text="How much is it?",
    from_=CommentAuthor(id=CONVERSATION.key.participant_id, username=CONVERSATION.participant_username),
    media=CommentMedia(id="17900000000000001", product_type="FEED", original_id=None, ad_id=None, ad_title=None),
    is_live=False,
    is_own=False,
    self_ig_scoped_id=None,
    id="31",
    thread_id="31",
)
_CHANGED: Final = {"edited_at": "2026-09-21T15:02:11.000Z", "text": "How much is it in blue?"}


def _type(name: str, summary: str, example: CommentEventData) -> EventType:
    return EventType(name=f"comment.{name}", summary=summary, data=CommentEventData, example=example)


RECEIVED: Final = _type("received", "Somebody, or the account itself, commented on media of the account.", _COMMENT)
UPDATED: Final = _type(
    "updated",
    "A comment or a mention has another text than was known. Meta tells of no edit: it is seen when it is read again.",
    msgspec.structs.replace(_COMMENT, **_CHANGED),
)
HIDDEN: Final = _type(
    "hidden", "A comment was hidden, here or elsewhere.", msgspec.structs.replace(_COMMENT, hidden=True)
)
UNHIDDEN: Final = _type("unhidden", "A hidden comment is shown again.", _COMMENT)
DELETED: Final = _type(
    "deleted",
    "A comment was deleted, here or elsewhere. Meta tells of no deletion: it is seen when the comment is read again.",
    msgspec.structs.replace(_COMMENT, text=None),
)
MENTION: Final = EventType(
    name="mention.received",
    summary="Somebody mentioned the account in a caption or a comment. A mention in a story arrives as a message.",
    data=MentionEventData,
    example=MentionEventData(media_id="17900000000000003", comment_id="18000000000000004", id="32"),
)
EVENT_TYPES: Final = (RECEIVED, UPDATED, HIDDEN, UNHIDDEN, DELETED, MENTION)
