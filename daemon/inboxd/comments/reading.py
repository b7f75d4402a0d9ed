"""Reads comments again at Meta, because no webhook tells of an edit, a hide or a deletion."""

import asyncio
import sqlite3
from collections.abc import Sequence
from typing import Final

import msgspec

from inboxd.accounts.managed_account import ManagedAccount
from inboxd.accounts.manager import AccountManager
from inboxd.comments import media_store, store
from inboxd.comments.event_recording import record_change, record_received
from inboxd.domain.budget import Priority
from inboxd.domain.comment import Comment, CommentKind, ToldComment
from inboxd.domain.retry import FailureAction
from inboxd.events.log import EventLog
from inboxd.meta.comments_client import CommentsClient, ReadComment, is_no_mention, is_said_to_be_gone
from inboxd.meta.graph_errors import GraphError
from inboxd.runtime.clock import Clock
from inboxd.storage.database import Database

FRESH_MS: Final = 30_000
"""A comment that was read so short a time ago is not read again."""
DELETED_FRESH_MS: Final = 3_600_000
"""The same for one that was found to be gone."""
PATIENCE_S: Final = 4.0
"""How long somebody who opens a thread waits for Meta. Then what is stored is shown, with when it was read."""
NOT_SERVED: Final = "the account is not served, or has no valid token"
BROADCAST: Final = "comments of a broadcast cannot be read afterwards"
CAPTION: Final = "a mention in a caption has no comment that could be read"


class CommentReading:
    """Reads comments, and stores and records what has changed. Clients are kept for as long as an account is served."""

    def __init__(self, database: Database, event_log: EventLog, clock: Clock, accounts: AccountManager) -> None:
        self._database = database
        self._event_log = event_log
        self._clock = clock
        self._accounts = accounts
        self._clients: dict[str, tuple[ManagedAccount, CommentsClient]] = {}

    def serves(self, account_id: str) -> bool:
        """Whether the account is served, if calls can be made for it or not."""
        return account_id in self._accounts.served

    def client(self, account_id: str) -> CommentsClient | None:
        """The client of an account; None when no calls can be made for it."""
        managed = self._accounts.served.get(account_id)
        if managed is None or not managed.account.callable:
            return None
        known = self._clients.get(account_id)
        if known is None or known[0] is not managed:
            known = self._clients[account_id] = managed, CommentsClient(managed.graph, account_id)
        return known[1]

    async def refresh(self, comment: Comment) -> Comment:
        """The comment as it is now, if Meta can be asked at once; else as it is stored, with the reason.

        Somebody waits: it takes PATIENCE_S at most, and nothing that was read a moment ago is read again. Raises
        StorageError.
        """
        now = self._clock.now_ms()
        fresh_ms = FRESH_MS if comment.deleted_at is None else DELETED_FRESH_MS
        if comment.checked_at is not None and 0 <= now - comment.checked_at < fresh_ms:
            return comment
        client, problem = self.client(comment.account_id), unreadable(comment)
        if problem is None and client is None:
            problem = NOT_SERVED
        if client is None or problem is not None:
            return await self.failed(comment, problem or NOT_SERVED)
        budget = self._accounts.served[comment.account_id].graph.budget
        if budget.wait_s(priority=Priority.LIVE) > PATIENCE_S:
            return await self.failed(comment, "the budget of calls is used up, or Meta throttles them")
        try:
            async with asyncio.timeout(PATIENCE_S):
                return await self.read(client, comment, Priority.INTERACTIVE)
        except TimeoutError:
            return await self.failed(comment, f"Meta did not answer within {PATIENCE_S:.0f} s")
        except GraphError as error:
            return await self.failed(comment, str(error))

    async def read(self, client: CommentsClient, comment: Comment, priority: Priority) -> Comment:
        """Read a comment, and store what has changed. Raises GraphError and StorageError."""
        comment_id = comment.comment_id or ""
        try:
            if comment.kind is CommentKind.MENTION:
                found = await client.mention(comment_id, priority)
            else:
                found = await client.comment(comment_id, priority)
        except GraphError as error:
            if await self._is_gone(client, comment, error, priority):
                return await self.deleted(comment)
            raise
        return await self._keep(comment, found)

    async def failed(self, comment: Comment, problem: str) -> Comment:
        """Note why a comment could not be read. Raises StorageError."""
        if comment.check_problem == problem:
            return comment
        return await self._change(comment, check_problem=problem)

    async def hidden(self, comment: Comment, *, hidden: bool) -> Comment:
        """The comment was hidden or shown. Raises StorageError."""
        return await self._change(comment, hidden=hidden)

    async def deleted(self, comment: Comment) -> Comment:
        """The comment is gone, and the replies to it are. Their words are not kept. Raises StorageError."""
        now = self._clock.now_ms()

        def transaction(connection: sqlite3.Connection) -> Comment:
            gone = [comment.id] if not comment.is_root else [one.id for one in store.thread(connection, comment.id)]
            for one in {comment.id, *gone}:
                self._set(connection, one, {"deleted_at": now, "text": None, "checked_at": now, "check_problem": None})
            store.derive(connection, [comment.root_id])
            return store.get(connection, comment.id) or comment

        return await self._database.write(transaction)

    async def _is_gone(self, client: CommentsClient, comment: Comment, error: GraphError, priority: Priority) -> bool:
        """Whether the comment was deleted. Meta says the same of a comment that may not be read: its post tells."""
        if comment.kind is CommentKind.MENTION:
            return is_no_mention(error) and comment.checked_at is not None
        if not is_said_to_be_gone(error) or comment.media_id is None:
            return False
        try:
            await client.media(comment.media_id, priority)
        except GraphError:
            return False
        return True

    async def _keep(self, comment: Comment, found: ReadComment) -> Comment:
        now = self._clock.now_ms()
        replies = [] if comment.kind is CommentKind.MENTION else _told_replies(comment, found.replies, now)

        def transaction(connection: sqlite3.Connection) -> Comment:
            known = store.get(connection, comment.id)
            if known is None:
                return comment
            arrived = store.apply(connection, known.account_id, [_told(known, found), *replies], now)
            record_received(connection, self._event_log, [one.comment for one in arrived if one.is_new])
            if found.post is not None:
                media_store.keep(connection, known.account_id, msgspec.structs.replace(found.post, fetched_at=now))
            for one in found.replies:
                reply = store.by_key(connection, known.account_id, one.id)
                if reply is not None and comment.kind is not CommentKind.MENTION:
                    self._set(connection, reply.id, _read_values(reply, one, now))
            self._set(connection, known.id, _read_values(known, found, now), before=known)
            store.derive(connection, [known.root_id])
            return store.get(connection, known.id) or comment

        return await self._database.write(transaction)

    async def _change(self, comment: Comment, **changes: object) -> Comment:
        def transaction(connection: sqlite3.Connection) -> Comment:
            self._set(connection, comment.id, changes)
            return store.get(connection, comment.id) or comment

        return await self._database.write(transaction)

    def _set(
        self, connection: sqlite3.Connection, comment_id: int, changes: dict[str, object], before: Comment | None = None
    ) -> None:
        """Store changes of a comment and record them, against how it was `before` if that is given."""
        known, now = store.get(connection, comment_id), self._clock.now_ms()
        if known is None or (known.deleted_at is not None and changes.get("deleted_at") is not None):
            return  # it was known to be gone
        after = msgspec.structs.replace(known, **changes, updated_at=now)
        store.save(connection, after)
        was = before or known
        if was.told:
            record_change(connection, self._event_log, was, after, now)


def unreadable(comment: Comment) -> str | None:
    """Why a comment cannot be read; None when it can be tried."""
    if comment.kind is CommentKind.LIVE_COMMENT:
        return BROADCAST
    if comment.comment_id is None:
        return CAPTION if comment.kind is CommentKind.MENTION else "Meta did not give it an id"
    return None


def stops_the_account(error: GraphError) -> bool:
    """Whether nothing else of the account can be read now either."""
    return error.of_host or error.action in {FailureAction.NEEDS_LOGIN, FailureAction.WAIT_FOR_BUDGET}


def _read_values(known: Comment, found: ReadComment, now: int) -> dict[str, object]:
    edited = known.text is not None and found.text is not None and found.text != known.text
    return {
        "text": found.text or known.text,
        "like_count": found.like_count,
        "hidden": known.hidden if found.hidden is None else found.hidden,
        "deleted_at": None,
        "edited_at": now if edited else known.edited_at,
        "checked_at": now,
        "check_problem": None,
    }


def _told(known: Comment, found: ReadComment) -> ToldComment:
    return ToldComment(
        key=known.key,
        comment_id=known.comment_id,
        kind=known.kind,
        at=found.at or known.commented_at,
        parent_id=None if found.parent_id == found.id else found.parent_id,
        media_id=found.media_id,
        author_id=found.author_id,
        author_username=found.author_username,
        text=found.text,
    )


def _told_replies(comment: Comment, found: Sequence[ReadComment], now: int) -> list[ToldComment]:
    return [
        ToldComment(
            key=one.id,
            comment_id=one.id,
            kind=CommentKind.COMMENT,
            at=one.at or now,
            parent_id=comment.comment_id,
            media_id=comment.media_id,
            product_type=comment.product_type,
            author_id=one.author_id,
            author_username=one.author_username,
            text=one.text,
        )
        for one in found
        if one.id != comment.comment_id
    ]
