"""Comments, mentions and their threads, as the API says them."""

from enum import StrEnum
from typing import Annotated, Any, Final, Self

from msgspec import Meta

from inboxd.comments.outbound_store import PrivateReply
from inboxd.domain.comment import (
    Comment,
    CommentKind,
    CommentState,
    Post,
    delete_problem,
    hide_problem,
    private_reply_problem,
    private_reply_until,
    reply_problem,
)
from inboxd.domain.outbound import OutboundState, SentBy
from inboxd.http.resource import EXAMPLE_ACCOUNT, EXAMPLE_PARTICIPANT, Resource, iso
from inboxd.runtime.clock import iso_utc
from inboxd.sending.resources import OutboundResource

MAX_REPLY: Final = 2200
"""Characters of a comment."""


class PrivateReplyState(StrEnum):
    """Whether a comment can be answered by a message to its author."""

    AVAILABLE = "available"
    USED = "used"
    """It was answered so. Instagram allows it once, ever."""
    CLOSED = "closed"
    """It cannot be, or no longer."""


class PrivateReplyResource(Resource, frozen=True):
    """The private reply to a comment: a message to its author, once, within seven days."""

    state: PrivateReplyState
    reason: str | None
    """Why it is closed."""
    until: str | None
    """Until when it is available."""
    outbound_id: str | None
    """The message that was sent, or is to be."""
    outbound_state: OutboundState | None

    @classmethod
    def of(cls, comment: Comment, sent: PrivateReply | None, now: int) -> Self:
        """The state of the private reply to a comment at `now` (ms)."""
        if sent is not None:
            return cls(
                state=PrivateReplyState.USED,
                reason=None,
                until=None,
                outbound_id=str(sent.outbound_id),
                outbound_state=sent.state,
            )
        reason = private_reply_problem(comment, now)
        is_open = reason is None
        return cls(
            state=PrivateReplyState.AVAILABLE if is_open else PrivateReplyState.CLOSED,
            reason=reason,
            until=iso_utc(private_reply_until(comment)) if is_open else None,
            outbound_id=None,
            outbound_state=None,
        )


class AuthorResource(Resource, frozen=True):
    """Who wrote a comment, as far as Meta says."""

    platform_id: str | None
    username: str | None
    is_own: bool
    """Whether it is the account itself."""


class CommentResource(Resource, frozen=True):
    """A comment, a reply to one, a live comment or a mention."""

    id: str
    thread_id: str
    account_id: str
    kind: CommentKind
    platform_comment_id: str | None
    """Null for a mention in a caption."""
    platform_parent_id: str | None
    """The comment that it answers."""
    state: CommentState
    author: AuthorResource
    text: str | None
    """Null for a GIF, a sticker or a picture, which Meta shows nowhere, and for what was deleted."""
    like_count: int | None
    commented_at: str
    edited_at: str | None
    """When another text was first seen."""
    deleted_at: str | None
    """When it was seen to be gone."""
    checked_at: str | None
    """When it was last read at Meta. No webhook tells of an edit or a deletion."""
    check_problem: str | None
    """Why it could not be read the last time."""
    can_hide: bool
    can_delete: bool
    private_reply: PrivateReplyResource

    @classmethod
    def of(cls, comment: Comment, sent: PrivateReply | None, now: int) -> Self:
        """The resource of a comment at `now` (ms)."""
        return cls(
            id=str(comment.id),
            thread_id=str(comment.root_id),
            account_id=comment.account_id,
            kind=comment.kind,
            platform_comment_id=comment.comment_id,
            platform_parent_id=comment.parent_id,
            state=comment.state,
            author=AuthorResource(
                platform_id=comment.author_id, username=comment.author_username, is_own=comment.is_own
            ),
            text=comment.text,
            like_count=comment.like_count,
            commented_at=iso_utc(comment.commented_at),
            edited_at=iso(comment.edited_at),
            deleted_at=iso(comment.deleted_at),
            checked_at=iso(comment.checked_at),
            check_problem=comment.check_problem,
            can_hide=hide_problem(comment) is None,
            can_delete=comment.deleted_at is None and delete_problem(comment) is None,
            private_reply=PrivateReplyResource.of(comment, sent, now),
        )

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            id="31",
            thread_id="31",
            account_id=EXAMPLE_ACCOUNT,
            kind=CommentKind.COMMENT,
            platform_comment_id="18000000000000001",
            platform_parent_id=None,
            state=CommentState.VISIBLE,
            author=AuthorResource(platform_id=EXAMPLE_PARTICIPANT, username="ana_x", is_own=False),
            text="How much is it?",
            like_count=2,
            commented_at="2026-09-21T14:13:20.000Z",
            edited_at=None,
            deleted_at=None,
            checked_at="2026-09-21T14:20:00.000Z",
            check_problem=None,
            can_hide=True,
            can_delete=True,
            private_reply=PrivateReplyResource(
                state=PrivateReplyState.AVAILABLE,
                reason=None,
                until="2026-09-28T14:13:20.000Z",
                outbound_id=None,
                outbound_state=None,
            ),
        )


class PostResource(Resource, frozen=True):
    """What was commented on. All but the id and the ad are null until it was read at Meta."""

    platform_media_id: str | None
    permalink: str | None
    thumbnail_url: str | None
    """An address of Meta's, which ends after some days."""
    media_type: str | None
    """`IMAGE`, `VIDEO`, `CAROUSEL_ALBUM`."""
    product_type: str | None
    """`FEED`, `REELS`, `STORY`."""
    caption: str | None
    owner_username: str | None
    posted_at: str | None
    ad_id: str | None
    ad_title: str | None
    original_media_id: str | None
    """The post that an ad was made of."""
    problem: str | None
    """Why it could not be read."""

    @classmethod
    def of(cls, comment: Comment, post: Post | None) -> Self:
        """The resource of what `comment` stands under."""
        known = post or Post(media_id=comment.media_id or "")
        return cls(
            platform_media_id=comment.media_id,
            permalink=known.permalink,
            thumbnail_url=known.thumbnail_url,
            media_type=known.media_type,
            product_type=comment.product_type or known.product_type,
            caption=known.caption,
            owner_username=known.owner_username,
            posted_at=iso(known.posted_at),
            ad_id=comment.ad_id,
            ad_title=comment.ad_title,
            original_media_id=comment.original_media_id,
            problem=known.problem,
        )

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            platform_media_id="17900000000000001",
            permalink="https://www.instagram.com/p/S7900000001/",
            thumbnail_url="https://scontent.cdninstagram.com/v/t51.29350-15/1.jpg",
            media_type="IMAGE",
            product_type="FEED",
            caption="The new blue one",
            owner_username="the_shop",
            posted_at="2026-09-20T09:00:00.000Z",
            ad_id=None,
            ad_title=None,
            original_media_id=None,
            problem=None,
        )


class ThreadResource(Resource, frozen=True):
    """A comment with the number of replies to it, and the post that it stands under."""

    id: str
    account_id: str
    kind: CommentKind
    post: PostResource
    comment: CommentResource
    """The first comment. Only its id is known, and `text` is null, where Meta told of a reply alone."""
    reply_count: int
    answered: bool
    """Whether the account wrote last."""
    last_comment_at: str
    reply_problem: str | None
    """Why nothing can be written under it; null when it can be tried."""

    @classmethod
    def members(cls, root: Comment, post: Post | None, sent: PrivateReply | None, now: int) -> dict[str, Any]:
        """What the list and the thread itself say alike."""
        return {
            "id": str(root.id),
            "account_id": root.account_id,
            "kind": root.kind,
            "post": PostResource.of(root, post),
            "comment": CommentResource.of(root, sent, now),
            "reply_count": root.replies,
            "answered": root.answered,
            "last_comment_at": iso_utc(root.last_at),
            "reply_problem": reply_problem(root),
        }

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        comment = CommentResource.example()
        return cls(
            id=comment.id,
            account_id=comment.account_id,
            kind=comment.kind,
            post=PostResource.example(),
            comment=comment,
            reply_count=0,
            answered=False,
            last_comment_at=comment.commented_at,
            reply_problem=None,
        )


class WholeThreadResource(ThreadResource, frozen=True):
    """A comment with all replies to it."""

    replies: list[CommentResource]
    """The earliest first; of very many, the latest 500."""
    outbound: list[OutboundResource]
    """Replies of the account that are not under it yet: queued, being sent, unknown or failed."""

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        thread = ThreadResource.example()
        return cls(**{name: getattr(thread, name) for name in thread.__struct_fields__}, replies=[], outbound=[])


class ThreadList(Resource, frozen=True):
    """A page of threads, those with the latest comments first."""

    threads: list[ThreadResource]
    limit: int
    next_cursor: str | None

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(threads=[ThreadResource.example()], limit=50, next_cursor=None)


class CommentChange(Resource, frozen=True, forbid_unknown_fields=True):
    """What to change about a comment."""

    hidden: bool


class NewReply(Resource, frozen=True, forbid_unknown_fields=True):
    """A public reply."""

    text: Annotated[str, Meta(min_length=1, max_length=MAX_REPLY, description="Text alone: Meta drops pictures.")]
    sent_by: SentBy = SentBy.AUTOMATION
