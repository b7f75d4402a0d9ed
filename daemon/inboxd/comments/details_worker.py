"""Reads what webhooks do not tell: the posts that were commented on, the words of mentions, and unknown comments."""

from typing import Final

import msgspec

from inboxd.accounts.managed_account import ManagedAccount
from inboxd.comments.due_store import DueCommentStore
from inboxd.comments.media_store import DueMedia, MediaStore
from inboxd.comments.reading import CommentReading, stops_the_account
from inboxd.domain.budget import Priority
from inboxd.domain.comment import Comment
from inboxd.meta.comments_client import CommentsClient
from inboxd.meta.graph_errors import GraphError
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock
from inboxd.runtime.worker import Schedule, Wakeup, each

PRIORITY: Final = Priority.HISTORY
"""These calls wait for everything live, and leave to it what is reserved for it."""
ATTEMPTS: Final = 4
FIRST_REST_MS: Final = 60_000
"""Delay before the second attempt. Before the third it is 4 times as long, before the fourth 9 times."""
SCHEDULE: Final = Schedule(storage_event="comments_wait_for_storage", storage_rest_s=5, log_part="comments")
ACCOUNT_REST_S: Final = 60.0
"""Delay after an error that concerns the whole account."""


class CommentDetails:
    """Reads what is due of one account, one after the other: comments first, then posts."""

    def __init__(
        self, managed: ManagedAccount, reading: CommentReading, due: DueCommentStore, media: MediaStore, clock: Clock
    ) -> None:
        self.wakeup = Wakeup()
        self.name = f"comment-details:{managed.account.id}"
        self._managed = managed
        self._account_id = managed.account.id
        self._reading = reading
        self._due = due
        self._media = media
        self._clock = clock
        self._log = logs.get("comments").bind(account_id=managed.account.id)
        self._stopped = False
        managed.listeners.append(self.wakeup.notify)

    async def poll(self) -> float | None:
        """Read what is due next. Raises StorageError."""
        client, now = self._reading.client(self._account_id), self._clock.now_ms()
        if client is None:
            return None
        self._stopped = False
        comment = await self._due.comment(self._account_id, now)
        if comment is not None:
            await each([comment], lambda one: self._comment(client, one), self._set_comment_aside)
        else:
            media = await self._media.due(self._account_id, now)
            if media is None:
                return await self._rest_s(now)
            await each([media], lambda one: self._post(client, one), self._set_post_aside)
        return ACCOUNT_REST_S if self._stopped else 0.0

    async def _comment(self, client: CommentsClient, comment: Comment) -> None:
        try:
            await self._reading.read(client, comment, PRIORITY)
        except GraphError as error:
            if self._stops(error):
                return
            await self._due.failed(comment.id, str(error), self._clock.now_ms(), ATTEMPTS, FIRST_REST_MS)

    async def _post(self, client: CommentsClient, media: DueMedia) -> None:
        try:
            read = client.mentioned_media if media.is_others else client.media
            post = await read(media.media_id, PRIORITY)
        except GraphError as error:
            if self._stops(error):
                return
            attempts, now = media.attempts + 1, self._clock.now_ms()
            next_at = None if attempts >= ATTEMPTS else now + FIRST_REST_MS * attempts**2
            await self._media.failed(self._account_id, media.media_id, str(error), next_at)
            return
        await self._media.keep(self._account_id, msgspec.structs.replace(post, fetched_at=self._clock.now_ms()))

    def _stops(self, error: GraphError) -> bool:
        self._stopped = stops_the_account(error)
        return self._stopped

    async def _set_comment_aside(self, comment: Comment, error: Exception) -> None:
        await self._due.failed(comment.id, f"it cannot be stored: {type(error).__name__}", 0, 0, 0)
        self._log.error("comment_details_set_aside", comment_id=comment.comment_id, exc_info=error)

    async def _set_post_aside(self, media: DueMedia, error: Exception) -> None:
        await self._media.failed(self._account_id, media.media_id, f"it cannot be stored: {type(error).__name__}", None)
        self._log.error("comment_details_set_aside", media_id=media.media_id, exc_info=error)

    async def _rest_s(self, now: int) -> float | None:
        moments = [await self._due.next_at(self._account_id), await self._media.next_at(self._account_id)]
        known = [at for at in moments if at is not None]
        return max(0.1, (min(known) - now) / 1000) if known else None
