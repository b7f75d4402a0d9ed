"""What is done with comments: a public reply through the outbox; hiding, showing and deleting at once."""

from http import HTTPStatus
from typing import Final, NamedTuple

from inboxd.comments.reading import CommentReading
from inboxd.comments.resources import MAX_REPLY
from inboxd.comments.store import CommentStore
from inboxd.domain.account import DAY_MS
from inboxd.domain.comment import Comment, CommentState, delete_problem, hide_problem, reply_problem
from inboxd.domain.outbound import OutboundKind, PartContent, SentBy
from inboxd.domain.outbound_content import ContentError, Draft, parts_of
from inboxd.domain.retry import FailureAction
from inboxd.http.operations import not_found
from inboxd.http.problems import ProblemError
from inboxd.meta.comments_client import CommentsClient, is_said_to_be_gone
from inboxd.meta.graph_errors import GraphError
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import InboxdError
from inboxd.sending.outbound import (
    NewOutbound,
    NotNowError,
    OutboundBody,
    OutboundConflictError,
    OutboxFullError,
    StoredOutbound,
    UnknownCommentError,
    WindowClosedError,
)
from inboxd.sending.service import OutboxService

REPLY_ENDS_MS: Final = DAY_MS
"""A public reply that could not be sent for so long is not sent any more."""


class RequestKey(NamedTuple):
    """What makes a second request for the same reply harmless."""

    key: str | None
    fingerprint: bytes
    """Of the request: another one with the same key is refused."""


class CommentActions:
    """Acts on comments. Every method raises ProblemError, which says what to do, and StorageError."""

    def __init__(self, comments: CommentStore, reading: CommentReading, outbox: OutboxService, clock: Clock) -> None:
        self._comments = comments
        self._reading = reading
        self._outbox = outbox
        self._clock = clock

    async def reply(
        self,
        comment: Comment,
        text: str,
        *,
        sent_by: SentBy,
        requested_by: str,
        key: RequestKey,
    ) -> StoredOutbound:
        """Put a public reply into the outbox. It stands under the first comment of the thread, as Instagram has it.

        The comment is read again before: it may be gone, or hidden.
        """
        try:
            known = await self._outbox.known(requested_by, key.key, key.fingerprint)
            if known is not None:
                return known
            _check_text(text)
            root = await self._root(comment)
            problem = reply_problem(root)
            if problem is None:
                self._client(root)
                root = await self._reading.refresh(root)
                problem = reply_problem(root)
            if problem is not None:
                detail = f"Nothing can be written under this comment: {problem}."
                raise ProblemError(HTTPStatus.CONFLICT, detail)
            return await self._outbox.accept(
                NewOutbound(
                    kind=OutboundKind.COMMENT_REPLY,
                    account_id=root.account_id,
                    participant_id=None,  # no conversation: what is written there has nothing to do with it
                    comment_id=root.key,
                    sent_by=sent_by,
                    body=OutboundBody(text=text),
                    parts=(PartContent(text=text),),
                    requested_by=requested_by,
                    idempotency_key=key.key,
                    fingerprint=None if key.key is None else key.fingerprint,
                    expires_at=self._clock.now_ms() + REPLY_ENDS_MS,
                )
            )
        except (OutboundConflictError, OutboxFullError) as error:
            raise _not_accepted(error) from error

    async def retry(self, outbound_id: int, *, force: bool) -> None:
        """Send a reply that failed once more; with `force` also one of which it is not known whether it was sent."""
        try:
            found = await self._outbox.retry(outbound_id, force=force)
        except (NotNowError, WindowClosedError) as error:
            raise ProblemError(HTTPStatus.CONFLICT, str(error)) from error
        if found is None:
            raise not_found("outbound message")

    async def cancel(self, outbound_id: int) -> None:
        """Do not send a reply, or give it up: the later ones go on."""
        try:
            found = await self._outbox.cancel(outbound_id)
        except NotNowError as error:
            raise ProblemError(HTTPStatus.CONFLICT, str(error)) from error
        if found is None:
            raise not_found("outbound message")

    async def reply_in_private(
        self, comment: Comment, text: str, *, requested_by: str, key: RequestKey
    ) -> StoredOutbound:
        """Put a message to the author of a comment into the outbox, written by a human. One for each comment, ever.

        The comment is read again before.
        """
        try:
            known = await self._outbox.known(requested_by, key.key, key.fingerprint)
            if known is not None:
                return known
            self._client(comment)
            comment = await self._reading.refresh(comment)
            return await self._outbox.accept(
                NewOutbound(
                    kind=OutboundKind.PRIVATE_REPLY,
                    account_id=comment.account_id,
                    participant_id=None,
                    comment_id=comment.comment_id,
                    sent_by=SentBy.HUMAN,
                    body=OutboundBody(text=text),
                    parts=parts_of(Draft(text=text), OutboundKind.PRIVATE_REPLY, allow_http=False),
                    requested_by=requested_by,
                    idempotency_key=key.key,
                    fingerprint=None if key.key is None else key.fingerprint,
                )
            )
        except ContentError as error:
            raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, str(error)) from error
        except UnknownCommentError as error:
            raise ProblemError(HTTPStatus.NOT_FOUND, str(error)) from error
        except (OutboundConflictError, OutboxFullError, WindowClosedError) as error:
            raise _not_accepted(error) from error

    async def hide(self, comment: Comment, *, hidden: bool) -> Comment:
        """Hide or show a comment, at Meta and here. To do so again changes nothing."""
        problem = hide_problem(comment)
        if problem is not None:
            what = "hidden" if hidden else "shown"
            raise ProblemError(HTTPStatus.CONFLICT, f"This comment cannot be {what}: {problem}.")
        client = self._client(comment)
        try:
            await client.hide(comment.comment_id or "", hidden=hidden)
        except GraphError as error:
            if is_said_to_be_gone(error):
                comment = await self._reading.refresh(comment)
                if comment.state is CommentState.DELETED:
                    raise ProblemError(HTTPStatus.CONFLICT, "This comment was deleted.") from error
            raise refused(error) from error
        return await self._reading.hidden(comment, hidden=hidden)

    async def delete(self, comment: Comment) -> None:
        """Delete a comment with the replies to it, at Meta and here. One that is gone already is deleted here."""
        if comment.deleted_at is not None:
            return
        problem = delete_problem(comment)
        if problem is not None:
            raise ProblemError(HTTPStatus.CONFLICT, f"This comment cannot be deleted: {problem}.")
        client = self._client(comment)
        try:
            await client.delete(comment.comment_id or "")
        except GraphError as error:
            if not is_said_to_be_gone(error):
                raise refused(error) from error
            comment = await self._reading.refresh(comment)
            if comment.state is not CommentState.DELETED:
                raise refused(error) from error
            return
        await self._reading.deleted(comment)

    def _client(self, comment: Comment) -> CommentsClient:
        client = self._reading.client(comment.account_id)
        if client is not None:
            return client
        if not self._reading.serves(comment.account_id):
            detail = "Nothing can be done with this comment: the account is not served."
            raise ProblemError(HTTPStatus.CONFLICT, detail)
        # It passes: a program that took it for a refusal would forget the comment.
        check = f"'inboxd account check {comment.account_id}' says what is missing"
        detail = f"Nothing can be done with this comment now: the account has no valid token. {check}. Try again then."
        raise ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "60"})

    async def _root(self, comment: Comment) -> Comment:
        return comment if comment.is_root else await self._comments.get(comment.root_id) or comment


def _check_text(text: str) -> None:
    """Raises ProblemError (422) for what is no comment."""
    if not text.strip():
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "'text' must have more than blanks.")
    if len(text) > MAX_REPLY:
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"'text' may have {MAX_REPLY} characters.")
    if any(letter < " " and letter not in "\n\r\t" for letter in text):
        raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, "'text' must have no control characters.")


def _not_accepted(error: InboxdError) -> ProblemError:
    """The problem for what the outbox did not take."""
    if isinstance(error, OutboxFullError):
        return ProblemError(HTTPStatus.TOO_MANY_REQUESTS, str(error), headers={"Retry-After": "30"})
    return ProblemError(HTTPStatus.CONFLICT, str(error))


def refused(error: GraphError) -> ProblemError:
    """The problem for what Meta did not do."""
    if error.action is FailureAction.WAIT_FOR_BUDGET:
        detail = f"Nothing was done: {error}. Try again then."
        return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "60"})
    if error.action in {FailureAction.LACKS_PERMISSION, FailureAction.NEEDS_LOGIN}:
        detail = f"Meta refuses it: {error}. 'inboxd account check' says what is missing."
        if error.action is FailureAction.NEEDS_LOGIN:
            return ProblemError(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers={"Retry-After": "60"})
        return ProblemError(HTTPStatus.CONFLICT, detail)
    detail = f"Meta did not confirm it: {error}. Try again: to do it twice does no harm."
    return ProblemError(HTTPStatus.BAD_GATEWAY, detail)
