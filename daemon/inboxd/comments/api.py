"""`/api/comments`: comments and mentions as threads, and what can be done with them."""

import hashlib
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from inboxd.comments.actions import CommentActions, RequestKey
from inboxd.comments.resources import CommentChange, CommentResource, NewReply, ThreadList, WholeThreadResource
from inboxd.comments.store import ThreadFilter
from inboxd.comments.threads import Threads
from inboxd.conversations.messages_api import Words
from inboxd.conversations.search_store import phrase
from inboxd.domain.comment import Comment, CommentState
from inboxd.http import cursors
from inboxd.http.auth import OWNER
from inboxd.http.cursors import Cursor
from inboxd.http.operations import MAX_LIMIT, Operation, Query, answer, body, not_found, path_id, query
from inboxd.http.problems import SAFE_HEADERS
from inboxd.sending.api import PATH as OUTBOUND
from inboxd.sending.api import SCOPE
from inboxd.sending.idempotency_key import KEY, KEY_SCHEMA, key_of
from inboxd.sending.resources import OutboundResource

PATH: Final = "/api/comments"
_REFRESH: Final = "Whether it is read again at Meta before, where the budget allows."


class ThreadsQuery(Query, frozen=True):
    """Which threads."""

    account_id: Annotated[str, Meta(description="Of this account.")] | None = None
    media_id: Annotated[str, Meta(description="Under this post, by Meta's id.")] | None = None
    state: Annotated[CommentState, Meta(description="By who can see the first comment.")] | None = None
    answered: Annotated[bool, Meta(description="Those in which the account wrote last, or the others.")] | None = None
    q: Words | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_LIMIT, description="How many threads at most.")] = 50
    cursor: Cursor | None = None


class ThreadQuery(Query, frozen=True):
    """How to open a thread."""

    refresh: Annotated[bool, Meta(description=_REFRESH)] = True


class CommentsApi:
    """Comments and mentions."""

    def __init__(self, threads: Threads, actions: CommentActions) -> None:
        self._threads = threads
        self._actions = actions

    def operations(self) -> Sequence[Operation]:
        """The operations of the API."""
        one, tag = PATH + "/{id}", "comments"
        acts: dict[str, Any] = {"needs": SCOPE}
        return [
            Operation("GET", PATH, self.page, tag, {200: ThreadList}, query=ThreadsQuery),
            Operation("GET", one, self.one, tag, {200: WholeThreadResource}, query=ThreadQuery),
            Operation(
                "PATCH", one, self.change, tag, {200: CommentResource}, body=CommentChange, problems=(409, 502),
                examples={"body": {"hidden": True}}, **acts,
            ),
            Operation("DELETE", one, self.delete, tag, {204: None}, problems=(409, 502), **acts),
            Operation(
                "POST", one + "/replies", self.reply, tag, {202: OutboundResource}, body=NewReply, problems=(409,),
                headers={KEY: KEY_SCHEMA}, examples={"body": {"text": "It is 20 €.", "sentBy": "human"}}, **acts,
            ),
        ]  # fmt: skip

    async def page(self, request: web.Request) -> web.Response:
        """A page of threads, those with the latest comments first.

        With `q` only those in which a comment or the name of an author has the words, among the latest 2,000 comments
        that match.
        """
        asked = query(request, ThreadsQuery)
        wanted = ThreadFilter(
            account_id=asked.account_id,
            media_id=asked.media_id,
            state=asked.state,
            answered=asked.answered,
            words=None if asked.q is None else phrase(asked.q),
        )
        found = await self._threads.page(wanted, cursors.place(asked.cursor), limit=asked.limit)
        last = await self._threads.last(found) if len(found) == asked.limit else None
        following = None if last is None else cursors.of(last)
        return answer(ThreadList(threads=found, limit=asked.limit, next_cursor=following))

    async def one(self, request: web.Request) -> web.Response:
        """The thread in which a comment stands: the first comment, and all replies.

        No webhook tells of an edit or a deletion. So the first comment is read again at Meta, with the replies, unless
        it was within the last 30 seconds; this waits four seconds at most. When Meta cannot be asked now, what is
        stored is answered: `checkedAt` says how old it is, `checkProblem` why.
        """
        comment = await self._find(request)
        found = await self._threads.whole(comment, refresh=query(request, ThreadQuery).refresh)
        if found is None:
            raise not_found("comment")
        return answer(found)

    async def change(self, request: web.Request) -> web.Response:
        """Hide or show a comment.

        It is done at once; to do it again changes nothing. 409 when it cannot be done or Meta refuses it, 502 when Meta
        did not confirm it.
        """
        comment = await self._find(request)
        changed = await self._actions.hide(comment, hidden=body(request, CommentChange).hidden)
        return answer(await self._threads.resource(changed))

    async def delete(self, request: web.Request) -> web.Response:
        """Delete a comment with the replies to it.

        It is done at once. 204 also for one that is gone already; 409 and 502 as for hiding.
        """
        await self._actions.delete(await self._find(request))
        return web.Response(status=HTTPStatus.NO_CONTENT, headers=SAFE_HEADERS)

    async def reply(self, request: web.Request) -> web.Response:
        """Write a public reply under a comment.

        The reply is in the outbox, durably, when this answers 202. It stands under the first comment of the thread,
        also where a reply is answered. The comment is read again before; 409 when it is gone or hidden, and for
        comments of a broadcast. For a private reply: `POST /api/messaging/messages` with `commentId`.
        """
        comment, wanted = await self._find(request), body(request, NewReply)
        told = msgspec.json.encode(("comment", comment.id, wanted), order="deterministic")
        key = RequestKey(key_of(request), hashlib.blake2b(told, digest_size=16).digest())
        accepted = await self._actions.reply(
            comment, wanted.text, sent_by=wanted.sent_by, requested_by=request[OWNER].name, key=key
        )
        headers = {"Location": f"{OUTBOUND}/{accepted.id}"}
        return answer(OutboundResource.of(accepted), status=HTTPStatus.ACCEPTED, headers=headers)

    async def _find(self, request: web.Request) -> Comment:
        found = await self._threads.get(path_id(request, "comment"))
        if found is None:
            raise not_found("comment")
        return found
