"""The posts of the simulated Instagram and the comments under them, whether or not a webhook tells of them."""

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from inboxd.simulator.payloads import Item
from inboxd.simulator.people import person

OWN_NAME: Final = "the.shop"
_FIRST_COMMENT: Final = 18_100_000_000_000_000
_FIRST_POST: Final = 17_990_000_000_000_000
_VIDEOS: Final = ("REELS", "STORY")


@dataclass(slots=True)
class Post:
    """A post. `account_id`: who published it; None: somebody who is no account here."""

    id: str
    account_id: str | None
    created_ms: int
    caption: str = ""
    media_product_type: str = "FEED"
    username: str = OWN_NAME
    ad_id: str | None = None
    ad_title: str | None = None
    original_media_id: str | None = None
    live: bool = False
    """A broadcast that goes on."""
    mentions: set[str] = field(default_factory=set)
    """Accounts that the caption mentions."""

    @property
    def permalink(self) -> str:
        """The address of the post on Instagram."""
        kind = "reel" if self.media_product_type == "REELS" else "p"
        return f"https://www.instagram.com/{kind}/S{self.id[-10:]}/"

    @property
    def media_type(self) -> str:
        """IMAGE or VIDEO."""
        return "VIDEO" if self.media_product_type in _VIDEOS or self.live else "IMAGE"


@dataclass(slots=True)
class KeptComment:
    """A comment. Times in ms since the epoch."""

    id: str
    media_id: str
    from_id: str
    username: str
    text: str | None
    """None for a GIF, a sticker or a photo."""
    created_ms: int
    parent_id: str | None = None
    live: bool = False
    """Written during a broadcast."""
    hidden: bool = False
    deleted: bool = False
    edited: bool = False
    private_reply: str | None = None
    """The mid of the private reply."""
    mentions: set[str] = field(default_factory=set)
    """Accounts that it mentions, under a post of somebody else."""


class Posts:
    """All posts and comments. `now` tells the time in seconds since the epoch."""

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._posts: dict[str, Post] = {}
        self._comments: dict[str, KeptComment] = {}
        self._numbers = itertools.count(1)

    def apply(self, payload: Item) -> None:
        """Let the comments happen that a webhook payload tells of. What is already known changes nothing."""
        for entry in payload.get("entry", ()):
            account_id = str(entry.get("id"))
            for change in (*entry.get("changes", ()), entry):
                value = change.get("value")
                if change.get("field") in {"comments", "live_comments"} and isinstance(value, dict):
                    self._arrive(account_id, value, entry.get("time"), live=change["field"] == "live_comments")

    def post(self, media_id: str) -> Post | None:
        """The post with this id."""
        return self._posts.get(media_id)

    def comment(self, comment_id: str) -> KeptComment | None:
        """The comment with this id, also when it was deleted."""
        return self._comments.get(comment_id)

    def publish(self, account_id: str | None, **properties: Any) -> Post:
        """Add a post. Returns the one that is already there under this id."""
        media_id = properties.pop("media_id", None) or str(_FIRST_POST + next(self._numbers))
        if media_id not in self._posts:
            created_ms = properties.pop("created_ms", None) or int(self._now() * 1000)
            self._posts[media_id] = Post(media_id, account_id, created_ms, **properties)
        return self._posts[media_id]

    def write(self, media_id: str, from_id: str, text: str | None, **properties: Any) -> KeptComment:
        """Add a comment under a post. A reply to a reply is put under its parent."""
        comment_id = properties.pop("comment_id", None) or str(_FIRST_COMMENT + next(self._numbers))
        created_ms = properties.pop("created_ms", None) or int(self._now() * 1000)
        parent = self._comments.get(properties.pop("parent_id", None) or "")
        parent_id = None if parent is None else parent.parent_id or parent.id
        username = properties.pop("username", None) or self._name(from_id, media_id)
        written = KeptComment(comment_id, media_id, from_id, username, text, created_ms, parent_id, **properties)
        self._comments[comment_id] = written
        return written

    def answered_privately(self, comment_id: str, mid: str) -> None:
        """Note that the one private reply to a comment was sent."""
        self._comments[comment_id].private_reply = mid

    def under(self, media_id: str) -> list[KeptComment]:
        """The comments under a post that are not deleted, newest first, with replies."""
        found = [one for one in self._comments.values() if one.media_id == media_id and not self.is_gone(one)]
        return sorted(found, key=lambda one: (one.created_ms, one.id), reverse=True)

    def is_gone(self, comment: KeptComment) -> bool:
        """Whether the comment was deleted, or the one that it replies to."""
        parent = self._comments.get(comment.parent_id or "")
        return comment.deleted or (parent is not None and parent.deleted)

    def all(self) -> list[Post]:
        """Every post, in the order in which they became known."""
        return list(self._posts.values())

    def truth(self, account_id: str | None = None) -> list[KeptComment]:
        """Every comment that was ever written, under the posts of one account or all, oldest first."""
        found = [
            one
            for one in self._comments.values()
            if account_id in {None, self._posts[one.media_id].account_id, *one.mentions}
        ]
        return sorted(found, key=lambda one: (one.created_ms, one.id))

    def _name(self, who: str, media_id: str) -> str:
        found = person(who)
        if found is not None:
            return found.username
        return OWN_NAME if who == self._posts[media_id].account_id else f"user_{who}"

    def _arrive(self, account_id: str, value: Item, time: Any, *, live: bool) -> None:
        comment_id, media = value.get("id") or value.get("comment_id"), value.get("media") or {}
        if not comment_id or str(comment_id) in self._comments or "id" not in media or "from" not in value:
            return
        post = self.publish(
            account_id,
            media_id=str(media["id"]),
            media_product_type=media.get("media_product_type") or "FEED",
            ad_id=media.get("ad_id"),
            ad_title=media.get("ad_title"),
            original_media_id=media.get("original_media_id"),
            live=live,
        )
        self.write(
            post.id,
            str(value["from"]["id"]),
            value.get("text"),
            comment_id=str(comment_id),
            username=value["from"].get("username"),
            parent_id=value.get("parent_id"),
            created_ms=int(time) * 1000 if time and int(time) < 10**11 else time,
            live=live,
        )
