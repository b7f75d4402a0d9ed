"""What can be done with the outbox: accept, cancel, retry. Each is one transaction."""

import sqlite3
from collections.abc import Callable
from typing import Final

import msgspec

from inboxd.conversations import store as conversations
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.outbound import (
    FINAL,
    OutboundAttachment,
    OutboundKind,
    OutboundState,
    PartState,
    SentBy,
    holds,
    state_of,
)
from inboxd.domain.reply_window import Closed, ReplyWindow
from inboxd.events.log import EventLog
from inboxd.runtime.clock import Clock, iso_utc
from inboxd.runtime.errors import InboxdError
from inboxd.sending import store
from inboxd.sending.comment_source import CommentSource
from inboxd.sending.event_recording import record_outbound
from inboxd.sending.outbound import (
    NewOutbound,
    NotNowError,
    OutboxFullError,
    StoredOutbound,
    UnknownCommentError,
    WindowClosedError,
)
from inboxd.sending.uploads.store import use as use_uploads
from inboxd.storage.database import Database

_RECOUNT_S: Final = 1.0
_UNSENT: Final = (PartState.QUEUED, PartState.FAILED, PartState.UNKNOWN)


class OutboxService:
    """Accepts, cancels and retries outbound messages. `notify` is told the account that has something to send."""

    def __init__(
        self,
        database: Database,
        event_log: EventLog,
        clock: Clock,
        *,
        max_waiting: Callable[[], int],
        hold_after_failure: Callable[[], bool],
    ) -> None:
        self._database = database
        self._event_log = event_log
        self._clock = clock
        self._max_waiting = max_waiting
        self._hold_after_failure = hold_after_failure
        self._store = store.OutboundStore(database.read)
        self._waiting, self._counted_at = 0, float("-inf")
        self.comments: CommentSource | None = None
        """Set by the feature that keeps comments."""
        self.notify: list[Callable[[str], None]] = []
        """Called on the event loop, with the account, when one of its messages may be due. Must not raise."""

    async def known(self, requested_by: str, key: str | None, fingerprint: bytes) -> StoredOutbound | None:
        """The message that an idempotency key of somebody has brought already.

        Raises OutboundConflictError when the key was used for another request, and StorageError.
        """
        if key is None:
            return None
        return await self._database.reading(lambda connection: store.known(connection, requested_by, key, fingerprint))

    async def accept(self, new: NewOutbound) -> StoredOutbound:
        """Put a message into the outbox; it is durable when this returns. What its idempotency key brought stays one.

        Whether it may be sent is decided for the moment, and until when: by the reply window, or by the comment that it
        answers in private. A reply to a comment brings its own end.
        Raises WindowClosedError, UnknownCommentError, OutboundConflictError, OutboxFullError, UploadError and
        StorageError.
        """
        await self._require_room()
        now = self._clock.now_ms()

        def transaction(connection: sqlite3.Connection) -> StoredOutbound:
            known = store.known(connection, new.requested_by, new.idempotency_key, new.fingerprint)
            if known is not None:
                return known
            outbound_id = store.accept(connection, self._until(connection, new, now), now)
            use_uploads(connection, outbound_id, _attached(new), now)
            record_outbound(connection, self._event_log, outbound_id, now)
            return _whole(connection, outbound_id)

        accepted = await self._database.write(transaction)
        self._waiting += 1
        self._tell(new.account_id)
        return accepted

    async def cancel(self, outbound_id: int) -> StoredOutbound | None:
        """Do not send what is not sent of a message. Later ones of its lane go on. None when there is none.

        Raises NotNowError while a call is being made, and when nothing is left to be sent; and StorageError.
        """
        now = self._clock.now_ms()

        def transaction(connection: sqlite3.Connection) -> StoredOutbound | None:
            one = store.get(connection, outbound_id)
            if one is None or one.state is OutboundState.CANCELED:
                return one
            if one.state in FINAL:
                msg = f"It is {one.state} already."
                raise NotNowError(msg)
            if any(part.state is PartState.SENDING for part in one.parts):
                msg = "It is being sent at this moment. Look again in a few seconds."
                raise NotNowError(msg)
            self._set(connection, one, PartState.CANCELED, _UNSENT, now)
            return store.get(connection, outbound_id)

        return await self._changed(transaction)

    async def retry(self, outbound_id: int, *, force: bool) -> StoredOutbound | None:
        """Send what failed once more. None when there is none.

        With `force` also what is unknown: it may then be sent twice.
        Raises NotNowError in any other state, WindowClosedError, and StorageError.
        """
        now = self._clock.now_ms()

        def transaction(connection: sqlite3.Connection) -> StoredOutbound | None:
            one = store.get(connection, outbound_id)
            if one is None:
                return None
            _require_retryable(one, force=force)
            expires_at = one.expires_at
            if one.kind is OutboundKind.MESSAGE and one.key is not None:
                expires_at = require_open(connection, one.key, one.sent_by, now)
            self._set(connection, one, PartState.QUEUED, (PartState.FAILED, PartState.UNKNOWN), now, expires_at)
            return store.get(connection, outbound_id)

        return await self._changed(transaction)

    def _set(
        self,
        connection: sqlite3.Connection,
        one: StoredOutbound,
        parts: PartState,
        of_parts: tuple[PartState, ...],
        now: int,
        expires_at: int | None = None,
    ) -> None:
        """Give the parts that are in one of some states another one, and the message what follows."""
        after = [parts if part.state in of_parts else part.state for part in one.parts]
        state = OutboundState.CANCELED if parts is PartState.CANCELED else state_of(after)
        keeps = holds(state, hold_after_failure=self._hold_after_failure())
        change = store.StateChange(state, parts, of_parts, holds=keeps, expires_at=expires_at)
        store.set_state(connection, one, change, now)
        record_outbound(connection, self._event_log, one.id, now)

    def _until(self, connection: sqlite3.Connection, new: NewOutbound, now: int) -> NewOutbound:
        """The message with its end. Raises WindowClosedError and UnknownCommentError."""
        if new.kind is OutboundKind.MESSAGE:
            key = ConversationKey(new.account_id, new.participant_id or "")
            return msgspec.structs.replace(new, expires_at=require_open(connection, key, new.sent_by, now))
        if new.kind is OutboundKind.COMMENT_REPLY:
            return new
        comment = None if self.comments is None else self.comments(connection, new.account_id, new.comment_id or "")
        if comment is None:
            msg = "There is no comment with this id in this account. Give its platformCommentId."
            raise UnknownCommentError(msg)
        if comment.expires_at <= now:
            ended = iso_utc(comment.expires_at)
            msg = f"Instagram takes private replies for seven days. For this comment they ended at {ended}."
            raise WindowClosedError(msg)
        return msgspec.structs.replace(new, participant_id=comment.participant_id, expires_at=comment.expires_at)

    async def _changed(
        self, transaction: Callable[[sqlite3.Connection], StoredOutbound | None]
    ) -> StoredOutbound | None:
        changed = await self._database.write(transaction)
        if changed is not None:
            self._tell(changed.account_id)
        return changed

    async def _require_room(self) -> None:
        """Raise OutboxFullError when too many wait. They are counted at most once a second."""
        if self._clock.monotonic() - self._counted_at > _RECOUNT_S:
            self._counted_at = self._clock.monotonic()
            self._waiting = await self._store.waiting(self._max_waiting() + 1)
        if self._waiting >= self._max_waiting():
            msg = f"{self._max_waiting()} messages wait to be sent. Wait until some are sent, or cancel some."
            raise OutboxFullError(msg)

    def _tell(self, account_id: str) -> None:
        for tell in self.notify:
            tell(account_id)


def require_open(connection: sqlite3.Connection, key: ConversationKey, sent_by: SentBy, now: int) -> int | None:
    """Until when (ms) a message of `sent_by` may be sent. Raises WindowClosedError when it may not be at `now`."""
    conversation = conversations.get_by_key(connection, key)
    window = ReplyWindow() if conversation is None else ReplyWindow.of(conversation)
    decision = window.decide(sent_by, now)
    if isinstance(decision, Closed):
        raise WindowClosedError(decision.words)
    return window.expires_at(sent_by)


def _require_retryable(one: StoredOutbound, *, force: bool) -> None:
    """Raises NotNowError."""
    if one.body is None:
        msg = "Its content was erased. It cannot be sent again."
        raise NotNowError(msg)
    if one.state is OutboundState.UNKNOWN and not force:
        msg = (
            "It may have been sent: Meta's answer was not seen, and inboxd is finding out. Look into the conversation. "
            "With force (?force=true, or 'inboxd outbox retry --force') it is sent again, and the participant may get "
            "it twice."
        )
        raise NotNowError(msg)
    if one.state not in {OutboundState.FAILED, OutboundState.UNKNOWN}:
        msg = f"Only a failed message can be retried. This one is {one.state}."
        raise NotNowError(msg)


def _attached(new: NewOutbound) -> list[OutboundAttachment]:
    return [one for part in new.parts for one in part.attachments if one.upload_id is not None]


def _whole(connection: sqlite3.Connection, outbound_id: int) -> StoredOutbound:
    found = store.get(connection, outbound_id)
    if found is None:  # pragma: no cover - it was just stored
        msg = f"outbound {outbound_id} is not there"
        raise InboxdError(msg)
    return found
