"""Builds this feature: comments and mentions as threads."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from inboxd.accounts.manager import AccountManager
from inboxd.comments import details_worker, earlier_worker, personal_data_store, store
from inboxd.comments.actions import CommentActions
from inboxd.comments.api import CommentsApi
from inboxd.comments.details_worker import CommentDetails
from inboxd.comments.due_store import DueCommentStore
from inboxd.comments.earlier_store import EarlierStore
from inboxd.comments.earlier_worker import EarlierComments
from inboxd.comments.event_types import EVENT_TYPES
from inboxd.comments.media_store import MediaStore
from inboxd.comments.pages import CommentPages
from inboxd.comments.projection import CommentProjection
from inboxd.comments.reading import CommentReading
from inboxd.comments.replies import CommentReplies
from inboxd.comments.store import CommentStore
from inboxd.comments.threads import Threads
from inboxd.domain.comment import private_reply_problem, private_reply_until
from inboxd.domain.outbound import OutboundKind
from inboxd.events.feature import Events
from inboxd.feature import Core, Feature, Job, Link, Setting
from inboxd.receiving.store import Inbox
from inboxd.sending.comment_source import CommentToAnswer
from inboxd.sending.feature import Sending
from inboxd.sending.outbound import WindowClosedError


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is configured of this feature. Days of 0 mean for ever."""

    keep_messages_days: int


def build(
    core: Core,
    options: Options,
    *,
    accounts: AccountManager,
    events: Events,
    sending: Sending,
    inbox: Inbox,
) -> Feature:
    """Build the feature."""
    database, clock, event_log = core.database, core.clock, events.log
    days = Setting("storage.keep_messages_days", options.keep_messages_days)
    projection = CommentProjection(event_log, clock)
    reading = CommentReading(database, event_log, clock, accounts)
    due, media = DueCommentStore(database), MediaStore(database)
    comments, threads = CommentStore(database.read), Threads(database, reading, clock)
    actions = CommentActions(comments, reading, sending.outbox, clock)

    def find(connection: sqlite3.Connection, account_id: str, comment_id: str) -> CommentToAnswer | None:
        comment = store.by_key(connection, account_id, comment_id)
        if comment is None or comment.comment_id is None:
            return None
        problem = private_reply_problem(comment, clock.now_ms())
        if problem is not None:
            msg = f"This comment cannot be answered in private: {problem}."
            raise WindowClosedError(msg)
        return CommentToAnswer(comment.author_id, private_reply_until(comment))

    sending.outbox.comments = find
    sending.outbox_pages.comment_links = comments.paths
    sending.channels[OutboundKind.COMMENT_REPLY] = partial(CommentReplies, database=database, event_log=event_log)

    def account_workers(account_id: str) -> Sequence[Job]:
        worker = CommentDetails(accounts.served[account_id], reading, due, media, clock)
        projection.listeners[account_id] = worker.wakeup.notify
        return (Job(worker, details_worker.SCHEDULE),)

    async def account_removed(account_id: str) -> None:
        projection.listeners.pop(account_id, None)

    earlier = EarlierComments(EarlierStore(database), clock, waiting=lambda: inbox.pressure)
    return Feature(
        name="comments",
        workers=(Job(earlier, earlier_worker.SCHEDULE),),
        account_workers=account_workers,
        on_account_removed=account_removed,
        event_types=EVENT_TYPES,
        projections=(projection.project,),
        operations=CommentsApi(threads, actions).operations(),
        pages=(CommentPages(threads, actions, accounts, clock),),
        templates="inboxd.comments",
        links=(Link("/comments", "Comments", 15),),
        reload=(days.rule,),
        expiries=personal_data_store.expiries(database, days=days),
        personal_data=personal_data_store.personal_data(database),
    )
