"""Records what happens to comments and mentions in the event log, in the transaction that changes them."""

import sqlite3
from collections.abc import Sequence
from typing import Final

import msgspec

from inboxd.comments.event_types import (
    DELETED,
    HIDDEN,
    MENTION,
    RECEIVED,
    UNHIDDEN,
    UPDATED,
    CommentAuthor,
    CommentEventData,
    CommentMedia,
    MentionEventData,
)
from inboxd.domain.comment import Comment, CommentKind, CommentState
from inboxd.domain.event import EventType, NewEvent
from inboxd.events.log import EventLog
from inboxd.events.store import remove_comment_text
from inboxd.http.resource import iso

_OF_STATE: Final = {
    CommentState.HIDDEN: HIDDEN,
    CommentState.VISIBLE: UNHIDDEN,
    CommentState.DELETED: DELETED,
}


def record_received(connection: sqlite3.Connection, log: EventLog, comments: Sequence[Comment]) -> None:
    """Record that these comments and mentions arrived."""
    log.append(connection, [_received(one, ids_only=log.ids_only) for one in comments])


def record_change(connection: sqlite3.Connection, log: EventLog, before: Comment, after: Comment, now: int) -> None:
    """Record what really changed about a comment. A deleted one loses its text in earlier events. `now` in ms."""
    kinds = [] if before.state is after.state else [_OF_STATE[after.state]]
    is_deleted = after.state is CommentState.DELETED
    if not is_deleted and (before.text, before.author_username) != (after.text, after.author_username):
        kinds.insert(0, UPDATED)
    if is_deleted and after.comment_id is not None:
        remove_comment_text(connection, after.account_id, after.comment_id)
    log.append(connection, [_event(kind, after, now, ids_only=log.ids_only) for kind in kinds])


def _received(comment: Comment, *, ids_only: bool) -> NewEvent:
    if comment.kind is not CommentKind.MENTION:
        return _event(RECEIVED, comment, comment.commented_at, ids_only=ids_only)
    data = MentionEventData(media_id=comment.media_id, comment_id=comment.comment_id, id=str(comment.id))
    subject = comment.comment_id or comment.media_id
    event = NewEvent(MENTION.name, comment.account_id, comment.commented_at, msgspec.json.encode(data))
    return event._replace(subject=subject)


def _event(kind: EventType, comment: Comment, at: int, *, ids_only: bool) -> NewEvent:
    name = None if ids_only else comment.author_username
    data = CommentEventData(
        comment_id=comment.comment_id,
        parent_id=comment.parent_id,
        text=None if ids_only else comment.text,
        from_=CommentAuthor(id=comment.author_id, username=name) if comment.author_id or name else None,
        media=_media(comment, ids_only=ids_only),
        is_live=comment.kind is CommentKind.LIVE_COMMENT,
        is_own=comment.is_own,
        self_ig_scoped_id=comment.self_id,
        id=str(comment.id),
        thread_id=str(comment.root_id),
        hidden=comment.hidden,
        edited_at=iso(comment.edited_at),
    )
    participant_id = None if comment.is_own else comment.author_id
    event = NewEvent(kind.name, comment.account_id, at, msgspec.json.encode(data), participant_id)
    return event._replace(subject=comment.comment_id)


def _media(comment: Comment, *, ids_only: bool) -> CommentMedia | None:
    found = CommentMedia(
        id=comment.media_id,
        product_type=comment.product_type,
        original_id=comment.original_media_id,
        ad_id=comment.ad_id,
        ad_title=None if ids_only else comment.ad_title,
    )
    return None if found == _NO_MEDIA else found


_NO_MEDIA: Final = CommentMedia(id=None, product_type=None, original_id=None, ad_id=None, ad_title=None)
