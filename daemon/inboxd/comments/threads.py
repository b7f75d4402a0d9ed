"""Threads with everything that is shown of them."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Final

from inboxd.comments.media_store import MediaStore
from inboxd.comments.outbound_store import CommentOutboundStore, PrivateReply
from inboxd.comments.reading import CommentReading
from inboxd.comments.resources import CommentResource, ThreadResource, WholeThreadResource
from inboxd.comments.store import CommentStore, ThreadFilter
from inboxd.domain.account import DAY_MS
from inboxd.domain.comment import Comment
from inboxd.domain.paging import Place
from inboxd.runtime.clock import Clock
from inboxd.sending.resources import OutboundResource
from inboxd.storage.database import Database

POST_FRESH_MS: Final = DAY_MS
"""A post that was read longer ago is read again when its thread is opened: addresses of pictures end."""

Sent = dict[tuple[str, str], PrivateReply]


class Threads:
    """Reads threads. Every method raises StorageError."""

    def __init__(self, database: Database, reading: CommentReading, clock: Clock) -> None:
        self._comments = CommentStore(database.read)
        self._media = MediaStore(database)
        self._outbound = CommentOutboundStore(database.read)
        self._reading = reading
        self._clock = clock

    async def get(self, comment_id: int) -> Comment | None:
        """The comment with this id of ours."""
        return await self._comments.get(comment_id)

    async def page(self, wanted: ThreadFilter, before: Place | None, *, limit: int) -> list[ThreadResource]:
        """A page of threads, those with the latest comments first."""
        roots, now = await self._comments.page(wanted, before, limit=limit), self._clock.now_ms()
        posts = await self._media.many([(one.account_id, one.media_id) for one in roots if one.media_id is not None])
        sent = await self._sent(roots)
        return [
            ThreadResource(
                **ThreadResource.members(one, posts.get((one.account_id, one.media_id or "")), _of(sent, one), now)
            )
            for one in roots
        ]

    async def last(self, threads: Sequence[ThreadResource]) -> Place | None:
        """The place of the last of these threads."""
        found = await self._comments.get(int(threads[-1].id)) if threads else None
        return None if found is None else Place(found.last_at, found.id)

    async def whole(self, comment: Comment, *, refresh: bool) -> WholeThreadResource | None:
        """The thread that a comment stands in. `refresh`: its first comment is read again at Meta, if that can be done.

        None when it was erased meanwhile.
        """
        root = await self._comments.get(comment.root_id)
        if root is None:
            return None
        if refresh:
            root = await self._reading.refresh(root)
            if root.media_id is not None:
                now = self._clock.now_ms()
                await self._media.read_again(root.account_id, root.media_id, now - POST_FRESH_MS, now)
        found = await self._comments.thread(root.id)
        posts = await self._media.many([] if root.media_id is None else [(root.account_id, root.media_id)])
        sent, now = await self._sent([root, *found]), self._clock.now_ms()
        waiting = await self._outbound.waiting(root.account_id, root.key)
        return WholeThreadResource(
            **ThreadResource.members(root, posts.get((root.account_id, root.media_id or "")), _of(sent, root), now),
            replies=[CommentResource.of(one, _of(sent, one), now) for one in found if one.id != root.id],
            outbound=[OutboundResource.of(one) for one in waiting],
        )

    async def resource(self, comment: Comment) -> CommentResource:
        """One comment."""
        return CommentResource.of(comment, _of(await self._sent([comment]), comment), self._clock.now_ms())

    async def _sent(self, comments: Sequence[Comment]) -> Sent:
        ids = defaultdict[str, list[str]](list)
        for one in comments:
            if one.comment_id is not None:
                ids[one.account_id].append(one.comment_id)
        found: Sent = {}
        for account_id, comment_ids in ids.items():
            replies = await self._outbound.private_replies(account_id, comment_ids)
            found |= {(account_id, comment_id): reply for comment_id, reply in replies.items()}
        return found


def _of(sent: Sent, comment: Comment) -> PrivateReply | None:
    return sent.get((comment.account_id, comment.comment_id or ""))
