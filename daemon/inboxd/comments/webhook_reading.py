"""From a webhook event about a comment or a mention to what it says. Its payload may be anything."""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from inboxd.domain.comment import CommentKind, ToldComment
from inboxd.domain.payload import shown
from inboxd.domain.untrusted import id_of, object_of, text_of
from inboxd.meta.webhook_decoding import MAX_ITEM_BYTES, MAX_NAME

MAX_TEXT: Final = 10_000
"""Characters of a comment, which has 2,200 at most."""
MAX_WORD: Final = 200
KINDS: Final = {
    "comment": CommentKind.COMMENT,
    "live_comment": CommentKind.LIVE_COMMENT,
    "mention": CommentKind.MENTION,
}
"""The kinds of webhook events that are read here."""


def told_comment(kind: str, payload: bytes, at: int) -> ToldComment:
    """What a webhook event of one of `KINDS` says. `at` is when it happened (ms)."""
    value = object_of(_parsed(payload), "value")
    if KINDS[kind] is CommentKind.MENTION:
        return _mention(value, payload, at)
    author, media = object_of(value, "from"), object_of(value, "media")
    comment_id, text = id_of(value, "id") or id_of(value, "comment_id"), value.get("text")
    parent_id = id_of(value, "parent_id")
    return ToldComment(
        key=comment_id or _made_up_key(kind, payload),
        comment_id=comment_id,
        kind=KINDS[kind],
        at=at,
        parent_id=None if parent_id == comment_id else parent_id,
        media_id=id_of(media, "id"),
        product_type=text_of(media, "media_product_type", MAX_WORD),
        original_media_id=id_of(media, "original_media_id"),
        ad_id=id_of(media, "ad_id"),
        ad_title=text_of(media, "ad_title", MAX_TEXT),
        author_id=id_of(author, "id"),
        author_username=text_of(author, "username", MAX_NAME),
        self_id=id_of(author, "self_ig_scoped_id"),
        text=text[:MAX_TEXT] if isinstance(text, str) and text else None,
    )


def _mention(value: Mapping[str, Any], payload: bytes, at: int) -> ToldComment:
    comment_id, media_id = id_of(value, "comment_id"), id_of(value, "media_id")
    key = comment_id or (None if media_id is None else f"caption:{media_id}") or _made_up_key("mention", payload)
    return ToldComment(key=key, comment_id=comment_id, kind=CommentKind.MENTION, at=at, media_id=media_id)


def _made_up_key(kind: str, payload: bytes) -> str:
    """The same for each copy of an event that names no id."""
    return "event:" + hashlib.blake2b(kind.encode() + b":" + payload, digest_size=16).hexdigest()


def _parsed(payload: bytes) -> Mapping[str, Any]:
    """The item as Meta sent it; an empty object when it is too large, or none."""
    if len(payload) > MAX_ITEM_BYTES:
        return {}
    value = msgspec.json.decode(shown(payload).json)
    return value if isinstance(value, dict) else {}
