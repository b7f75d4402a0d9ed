"""The types of events about what Meta sends beside messages: comments, mentions, thread control and referrals."""

from typing import Any, Final, Literal

import msgspec

from inboxd.conversations.examples import CONVERSATION
from inboxd.conversations.resources import ReferralResource
from inboxd.domain.event import EventType
from inboxd.domain.referral import Referral
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


class MentionEventData(Resource, frozen=True, kw_only=True):
    """Where the account was mentioned. Meta says neither by whom nor in which words."""

    media_id: str | None
    comment_id: str | None
    """Null: in the caption."""


class HandoverEventData(Resource, frozen=True, kw_only=True):
    """Which app controls a conversation. Null is what Meta did not say. In a log of ids only, `metadata` is null."""

    kind: Literal["pass", "take", "request", "app_roles"]
    participant_platform_id: str | None
    conversation_id: str | None
    previous_owner_app_id: str | None
    new_owner_app_id: str | None
    requested_owner_app_id: str | None
    metadata: str | None
    """What the other app wrote into it."""
    app_roles: dict[str, list[str]]
    """The roles of apps, by their ids; only of the kind `app_roles`."""


class ReferralEventData(Resource, frozen=True, kw_only=True):
    """What led a participant back to a conversation that there was already.

    In a log of ids only, the members of `referral` that are texts or addresses are null.
    """

    participant_platform_id: str | None
    conversation_id: str | None
    referral: ReferralResource | None


_ABOUT: Final[dict[str, Any]] = {
    "participant_platform_id": CONVERSATION.key.participant_id,
    "conversation_id": str(CONVERSATION.id),
}
COMMENT: Final = EventType(
    name="comment.received",
    summary="Somebody, or the account itself, commented on media of the account.",
    data=CommentEventData,
    example=CommentEventData(
        comment_id="18000000000000001",
        parent_id=None,
        text="How much is it?",
        from_=CommentAuthor(id=CONVERSATION.key.participant_id, username=CONVERSATION.participant_username),
        media=CommentMedia(id="17900000000000001", product_type="FEED", original_id=None, ad_id=None, ad_title=None),
        is_live=False,
        is_own=False,
        self_ig_scoped_id=None,
    ),
)
MENTION: Final = EventType(
    name="mention.received",
    summary="Somebody mentioned the account in a caption or a comment. A mention in a story arrives as a message.",
    data=MentionEventData,
    example=MentionEventData(media_id="17900000000000003", comment_id="18000000000000004"),
)
HANDOVER: Final = EventType(
    name="handover.changed",
    summary="The control of a conversation was passed, taken or requested by an app, or the roles of apps changed.",
    data=HandoverEventData,
    example=HandoverEventData(
        **_ABOUT,
        kind="pass",
        previous_owner_app_id="111",
        new_owner_app_id="222",
        requested_owner_app_id=None,
        metadata="for a human",
        app_roles={},
    ),
)
REFERRAL: Final = EventType(
    name="referral.received",
    summary="A participant came back to a conversation through a link or an ad, without writing.",
    data=ReferralEventData,
    example=ReferralEventData(
        **_ABOUT, referral=ReferralResource.of(Referral(source="SHORTLINKS", type="OPEN_THREAD", ref="poster"))
    ),
)
WEBHOOK_EVENT_TYPES: Final = (COMMENT, MENTION, HANDOVER, REFERRAL)
