"""How public replies to comments, and answers to mentions, are sent, and looked for when Meta's answer was not seen."""

import sqlite3
from collections.abc import Sequence
from typing import Final

from inboxd.accounts.managed_account import ManagedAccount
from inboxd.comments import replies_store, store
from inboxd.comments.event_recording import record_received
from inboxd.comments.replies_store import OwnReply
from inboxd.domain.account import DAY_MS
from inboxd.domain.budget import Priority
from inboxd.domain.comment import Comment, CommentKind, ToldComment, reply_problem, same_text
from inboxd.domain.conversation import ConversationKey
from inboxd.events.log import EventLog
from inboxd.meta.comment_publishing import CommentPublisher
from inboxd.meta.comments_client import CommentsClient, ReadComment, is_said_to_be_gone
from inboxd.meta.graph_errors import GraphError
from inboxd.meta.send_client import SendReceipt
from inboxd.sending.delivery_store import Begun
from inboxd.sending.matching_store import Finding, Verdict
from inboxd.sending.outbound import OutboundPart, StoredOutbound
from inboxd.storage.database import Database

_EQUAL: Final = "The same reply was there shortly before it, unless the clock was set back since."
_UNSEEN: Final = "Meta shows no answers to mentions."


class CommentReplies:
    """The replies of one account."""

    def __init__(self, managed: ManagedAccount, database: Database, event_log: EventLog) -> None:
        self._managed = managed
        self._account_id = managed.account.id
        self._database = database
        self._event_log = event_log
        self._client = CommentsClient(managed.graph, managed.account.id)
        self._publisher = CommentPublisher(managed.graph)

    async def send(self, begun: Begun) -> SendReceipt:
        """Publish the reply. Raises SendError, NotSentError, OutcomeUnknownError, StorageError, and ValueError."""
        content, root = begun.part.content, await self._root(begun.outbound)
        if content is None or content.text is None:
            msg = "Its content was erased."
            raise ValueError(msg)
        if root is None:
            msg = "The comment that it answers is not kept any more."
            raise ValueError(msg)
        problem = reply_problem(root)
        if problem is not None:
            msg = f"Nothing can be written under this comment: {problem}."
            raise ValueError(msg)
        if root.kind is CommentKind.MENTION:
            body = {"media_id": root.media_id or "", "message": content.text}
            body |= {} if root.comment_id is None else {"comment_id": root.comment_id}
            return SendReceipt(await self._publisher.publish(f"{self._account_id}/mentions", body), None)
        return SendReceipt(await self._publisher.publish(f"{root.comment_id}/replies", {"message": content.text}), None)

    def settled(
        self, connection: sqlite3.Connection, begun: Begun, receipt: SendReceipt, _key: ConversationKey | None, now: int
    ) -> None:
        """Show the reply under its comment at once. Its webhook, or a reading, joins the same row."""
        root = store.by_key(connection, self._account_id, begun.outbound.comment_id or "")
        content = begun.part.content
        if root is None or content is None:
            return
        told = ToldComment(
            key=receipt.mid,
            comment_id=receipt.mid,
            kind=root.kind if root.kind is CommentKind.MENTION else CommentKind.COMMENT,
            at=now,
            parent_id=root.key,
            media_id=root.media_id,
            product_type=root.product_type,
            author_id=self._account_id,
            author_username=self._managed.account.username,
            is_own=True,
            text=content.text,
        )
        applied = store.apply(connection, self._account_id, [told], now)
        record_received(connection, self._event_log, [comment for comment, is_new in applied if is_new])

    async def look_for(self, one: StoredOutbound, part: OutboundPart) -> Finding:
        """Look among the replies that webhooks told of, then among those that Meta shows.

        Raises GraphError and StorageError.
        """
        root, text = await self._root(one), None if part.content is None else part.content.text
        if root is None or text is None:
            return Finding(Verdict.UNCLEAR, words="The comment, or the reply, is not kept any more.")
        known = await replies_store.own_replies(self._database.read, root.id, self._account_id)
        since = part.began_at or 0
        for reply in known:
            if not reply.is_of_a_part and reply.created_at >= since and same_text(reply.text, text):
                return Finding(Verdict.FOUND, reply.comment_id)
        if root.kind is CommentKind.MENTION or root.comment_id is None:
            return Finding(Verdict.UNCLEAR, words=_UNSEEN)
        try:
            found, is_whole = await self._client.all_replies(root.comment_id, Priority.LIVE)
        except GraphError as error:
            if is_said_to_be_gone(error):  # then it is not there, and Meta refuses another one
                return Finding(Verdict.ABSENT)
            raise
        mid = self._among(found, {reply.comment_id for reply in known}, text)
        if mid is not None:
            return Finding(Verdict.FOUND, mid)
        words = None if is_whole else "Meta shows not all replies to the comment."
        if any(_may_be_later(reply, since, text) for reply in known):
            words = _EQUAL
        return Finding(Verdict.ABSENT) if words is None else Finding(Verdict.UNCLEAR, words=words)

    def _among(self, found: Sequence[ReadComment], known: set[str], text: str) -> str | None:
        """The reply with this text that was not known, whoever Meta says wrote it."""
        account = self._managed.account
        for reply in found:
            name = (reply.author_username or "").casefold()
            others = name and account.username is not None and name != account.username.casefold()
            own = reply.author_id in {*account.aliases, account.app_scoped_id}
            if reply.id not in known and same_text(reply.text, text) and (own or not others):
                return reply.id
        return None

    async def _root(self, one: StoredOutbound) -> Comment | None:
        return await self._database.reading(
            lambda connection: store.by_key(connection, self._account_id, one.comment_id or "")
        )


def _may_be_later(reply: OwnReply, since: int, text: str) -> bool:
    """Whether a reply may be later than `since` (ms), if the clock was set back meanwhile by less than a day."""
    return not reply.is_of_a_part and reply.created_at >= since - DAY_MS and same_text(reply.text, text)
