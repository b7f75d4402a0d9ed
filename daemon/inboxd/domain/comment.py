"""Comments and mentions: what is known of one, and what may be done with it."""

from enum import StrEnum
from typing import Final

import msgspec

from inboxd.domain.account import DAY_MS, HOUR_MS
from inboxd.domain.plain_text import plain

PRIVATE_REPLY_MS: Final = 7 * DAY_MS
"""A comment may be answered privately for so long ("Private replies")."""
LONGEST_LIVE_MS: Final = 4 * HOUR_MS
"""The longest broadcast. A live comment can be answered privately only during the broadcast, whose end nobody tells."""


class CommentKind(StrEnum):
    """What a thread is made of."""

    COMMENT = "comment"
    LIVE_COMMENT = "live_comment"
    """Written during a broadcast. It can be read, answered publicly and deleted only until the broadcast ends."""
    MENTION = "mention"
    """The account was mentioned in a comment or a caption of somebody else."""


class CommentState(StrEnum):
    """Who can see a comment."""

    VISIBLE = "visible"
    HIDDEN = "hidden"
    """Only its author and the account see it."""
    DELETED = "deleted"


class ToldComment(msgspec.Struct, frozen=True, kw_only=True):
    """What a webhook, or an answer of the Graph API, says of a comment. None is what was not said. Times in ms."""

    key: str
    """What makes it the same comment: Meta's id where there is one."""
    comment_id: str | None
    kind: CommentKind
    at: int
    parent_id: str | None = None
    media_id: str | None = None
    product_type: str | None = None
    original_media_id: str | None = None
    ad_id: str | None = None
    ad_title: str | None = None
    author_id: str | None = None
    author_username: str | None = None
    self_id: str | None = None
    is_own: bool = False
    """Whether it is known to be the account's own, whoever else it names."""
    text: str | None = None
    hidden: bool | None = None
    like_count: int | None = None


class Comment(msgspec.Struct, frozen=True, kw_only=True):
    """A comment or a mention, as it is stored. Times in ms."""

    id: int
    account_id: str
    key: str
    comment_id: str | None
    kind: CommentKind
    root_id: int
    parent_id: str | None
    told: bool
    media_id: str | None
    product_type: str | None
    original_media_id: str | None
    ad_id: str | None
    ad_title: str | None
    author_id: str | None
    author_username: str | None
    self_id: str | None
    is_own: bool
    text: str | None
    like_count: int | None
    hidden: bool
    deleted_at: int | None
    commented_at: int
    edited_at: int | None
    checked_at: int | None
    check_problem: str | None
    last_at: int
    replies: int
    answered: bool
    updated_at: int

    @property
    def state(self) -> CommentState:
        """Who can see it, as far as is known."""
        if self.deleted_at is not None:
            return CommentState.DELETED
        return CommentState.HIDDEN if self.hidden else CommentState.VISIBLE

    @property
    def is_root(self) -> bool:
        """Whether a thread begins with it."""
        return self.root_id == self.id


class Post(msgspec.Struct, frozen=True, kw_only=True):
    """What was commented on, as the Graph API shows it. Times in ms."""

    media_id: str
    permalink: str | None = None
    media_type: str | None = None
    product_type: str | None = None
    thumbnail_url: str | None = None
    """It ends after some days."""
    caption: str | None = None
    owner_username: str | None = None
    posted_at: int | None = None
    fetched_at: int | None = None
    problem: str | None = None


def same_text(one: str | None, other: str | None) -> bool:
    """Whether two texts are the same, as `plain` compares them."""
    return one is not None and other is not None and plain(one) == plain(other)


def reply_problem(comment: Comment) -> str | None:
    """Why nothing can be written under the thread of `comment`, its first one; None when it can be tried."""
    if comment.deleted_at is not None:
        return "it was deleted"
    if comment.kind is CommentKind.LIVE_COMMENT:
        return "comments of a broadcast cannot be answered publicly"
    if comment.kind is CommentKind.MENTION:
        return None if comment.media_id is not None else "Meta did not say where the account was mentioned"
    if comment.comment_id is None:
        return "Meta did not give it an id"
    return "it is hidden: show it again first" if comment.hidden else None


def hide_problem(comment: Comment) -> str | None:
    """Why `comment` cannot be hidden or shown; None when it can be tried."""
    problem = delete_problem(comment)
    if problem is None and comment.deleted_at is not None:
        problem = "it was deleted"
    if problem is None and comment.is_own:
        problem = "the account's own comments always stay visible"
    return problem


def delete_problem(comment: Comment) -> str | None:
    """Why `comment` cannot be deleted; None when it can be tried."""
    if comment.comment_id is None:
        return "Meta did not give it an id"
    if comment.kind is CommentKind.MENTION:
        return "it stands under a post of somebody else"
    return "comments of a broadcast cannot be changed" if comment.kind is CommentKind.LIVE_COMMENT else None


def private_reply_problem(comment: Comment, now: int) -> str | None:
    """Why `comment` cannot have a private reply at `now` (ms), as far as itself tells; None when it can be tried."""
    if comment.comment_id is None:
        return "Meta did not give it an id"
    if comment.is_own:
        return "it is the account's own"
    if comment.deleted_at is not None:
        return "it was deleted"
    if comment.kind is CommentKind.MENTION:
        return "it stands under a post of somebody else"
    if now >= private_reply_until(comment):
        is_live = comment.kind is CommentKind.LIVE_COMMENT
        return "the broadcast is over" if is_live else "it is older than seven days"
    return None


def private_reply_until(comment: Comment) -> int:
    """Until when a private reply may be tried (ms)."""
    is_live = comment.kind is CommentKind.LIVE_COMMENT
    return comment.commented_at + (LONGEST_LIVE_MS if is_live else PRIVATE_REPLY_MS)
