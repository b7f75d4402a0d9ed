"""Webhooks about comments and mentions, as Instagram sends them."""

from typing import Final

from inboxd.simulator.behaviour import Behaviour
from inboxd.simulator.payloads import Item
from inboxd.simulator.posts import KeptComment, Post

OWN_SCOPED_ID: Final = "7900000000000001"
"""The Instagram-scoped id of the account itself, which only its own comments show."""


def comment_payload(post: Post, comment: KeptComment, behaviour: Behaviour) -> Item:
    """The webhook about a comment under a post of an account."""
    account_id = str(post.account_id)
    value: Item = {behaviour.comment_key: comment.id}
    if comment.parent_id is not None:
        value["parent_id"] = comment.parent_id
    if behaviour.comment_from:
        value["from"] = {"id": comment.from_id, "username": comment.username}
        if comment.from_id == account_id:
            value["from"]["id"] = account_id if behaviour.own_comment_id == "main" else f"9{account_id}"
            if behaviour.own_comment_marker:
                value["from"]["self_ig_scoped_id"] = OWN_SCOPED_ID
    if comment.text is not None:
        value["text"] = comment.text
    known = {
        "id": post.id,
        "media_product_type": post.media_product_type,
        "ad_id": post.ad_id,
        "ad_title": post.ad_title,
        "original_media_id": post.original_media_id,
    }
    value["media"] = {name: found for name, found in known.items() if found is not None}
    field = "live_comments" if comment.live else "comments"
    return _payload(account_id, comment.created_ms, field, value, behaviour)


def mention_payload(account_id: str, media_id: str, comment_id: str | None, at_ms: int, behaviour: Behaviour) -> Item:
    """The webhook about a mention in a caption, or in a comment. It has ids only."""
    value = {"media_id": media_id} | ({} if comment_id is None else {"comment_id": comment_id})
    return _payload(account_id, at_ms, "mentions", value, behaviour)


def _payload(account_id: str, at_ms: int, field: str, value: Item, behaviour: Behaviour) -> Item:
    change = {"field": field, "value": value}
    body = change if behaviour.comment_envelope == "entry" else {"changes": [change]}
    # Entries with changes have their time in seconds.
    return {"object": "instagram", "entry": [{"id": account_id, "time": at_ms // 1000, **body}]}
