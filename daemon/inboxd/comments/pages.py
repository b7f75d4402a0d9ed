"""The pages of comments: the list of threads, one thread, and the private reply to a comment."""

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Final

from aiohttp import web

from inboxd.accounts.manager import AccountManager
from inboxd.comments.actions import CommentActions, RequestKey
from inboxd.comments.resources import MAX_REPLY, CommentResource, ThreadResource
from inboxd.comments.store import ThreadFilter
from inboxd.comments.threads import Threads
from inboxd.conversations.search_store import phrase
from inboxd.domain.comment import Comment, CommentState
from inboxd.domain.outbound import SentBy
from inboxd.domain.outbound_content import MAX_TEXT_BYTES
from inboxd.http import cursors
from inboxd.http.auth import OWNER, SCOPES
from inboxd.http.forms import fields_of
from inboxd.http.operations import not_found, path_id
from inboxd.http.problems import ProblemError
from inboxd.http.rendering import TICKED, choice_of, page, see_other
from inboxd.runtime.clock import Clock
from inboxd.sending.api import SCOPE
from inboxd.sending.pages import is_forced

LIMIT: Final = 50
LIVE_FRESH_MS: Final = 600_000
"""A page that keeps itself up to date has its thread read at Meta no more often than this."""
_MAX_WORDS: Final = 200
_MAX_ID: Final = 100
_STATES: Final = {one.value: one for one in CommentState}


class CommentPages:
    """`/comments`, `/comments/{id}` and `/comments/{id}/private`."""

    def __init__(self, threads: Threads, actions: CommentActions, accounts: AccountManager, clock: Clock) -> None:
        self._threads = threads
        self._actions = actions
        self._accounts = accounts
        self._clock = clock

    def add_routes(self, app: web.Application) -> None:
        """Put the pages on the admin application."""
        app.router.add_get("/comments", self.all, allow_head=False)
        app.router.add_get("/comments/{id}", self.thread, allow_head=False)
        app.router.add_get("/comments/{id}/private", self.private, allow_head=False)
        for path, handler in (
            ("reply", self.reply),
            ("private", self.reply_in_private),
            ("hide", self.hide),
            ("show", self.show),
            ("delete", self.delete),
            ("outbound/{outbound}/retry", self.retry),
            ("outbound/{outbound}/cancel", self.cancel),
        ):
            route = app.router.add_post(f"/comments/{{id}}/{path}", handler)
            if route.resource is not None:
                app[SCOPES]["POST", route.resource.canonical] = SCOPE

    async def all(self, request: web.Request) -> web.Response:
        """A page of threads, the latest comment first. `q`, `open`, `state` and `account` narrow it down."""
        words = request.query.get("q", "").strip()[:_MAX_WORDS]
        account_id = request.query.get("account", "")[:_MAX_ID]
        state, is_open = choice_of(request, "state", _STATES), bool(choice_of(request, "open", TICKED))
        before = cursors.parsed(request.query.get("before"))
        wanted = ThreadFilter(
            account_id=account_id or None,
            state=state,
            answered=False if is_open else None,
            words=phrase(words) if words else None,
        )
        found = await self._threads.page(wanted, before, limit=LIMIT)
        last = await self._threads.last(found) if len(found) == LIMIT else None
        context = {
            "threads": found,
            "initial": initial,
            "q": words,
            "open": is_open,
            "state": "" if state is None else state.value,
            "states": list(_STATES),
            "account": account_id,
            "accounts": self._choice(account_id, found),
            "names": {one.account_id: self._name(one.account_id) for one in found},
            "following": None if last is None else cursors.of(last),
            "first": before is None,
            "wanted": any(one.account.wants_comments for one in self._accounts.served.values()),
        }
        return page(request, "comments.html", context)

    async def thread(self, request: web.Request) -> web.Response:
        """One thread, the latest comment at the bottom."""
        comment = await self._find(request)
        return await self._thread(request, comment)

    async def reply(self, request: web.Request) -> web.Response:
        """Write a public reply."""
        comment, fields = await self._find(request), await fields_of(request)
        text = _text(fields)
        try:
            by, key = request[OWNER].name, _key(fields, comment)
            await self._actions.reply(comment, text, sent_by=SentBy.HUMAN, requested_by=by, key=key)
        except ProblemError as error:
            return await self._thread(request, comment, text=text, problem=error)
        return see_other(f"/comments/{comment.root_id}")

    async def private(self, request: web.Request) -> web.Response:
        """The form of a private reply."""
        return await self._private(request, await self._find(request))

    async def reply_in_private(self, request: web.Request) -> web.Response:
        """Send a private reply."""
        comment, fields = await self._find(request), await fields_of(request)
        text = _text(fields)
        try:
            by, key = request[OWNER].name, _key(fields, comment)
            await self._actions.reply_in_private(comment, text, requested_by=by, key=key)
        except ProblemError as error:
            return await self._private(request, comment, text=text, problem=error)
        return see_other(f"/comments/{comment.root_id}")

    async def hide(self, request: web.Request) -> web.Response:
        """Hide a comment."""
        return await self._hide(request, hidden=True)

    async def show(self, request: web.Request) -> web.Response:
        """Show a comment again."""
        return await self._hide(request, hidden=False)

    async def delete(self, request: web.Request) -> web.Response:
        """Delete a comment with the replies to it."""
        comment = await self._find(request)
        try:
            await self._actions.delete(comment)
        except ProblemError as error:
            return await self._thread(request, comment, problem=error)
        return see_other(f"/comments/{comment.root_id}")

    async def retry(self, request: web.Request) -> web.Response:
        """Send a reply once more."""
        force = is_forced(request)
        return await self._outbound(request, lambda outbound_id: self._actions.retry(outbound_id, force=force))

    async def cancel(self, request: web.Request) -> web.Response:
        """Do not send a reply, or stop showing it."""
        return await self._outbound(request, self._actions.cancel)

    async def _outbound(self, request: web.Request, change: Callable[[int], Awaitable[None]]) -> web.Response:
        comment, text = await self._find(request), request.match_info["outbound"]
        if not (text.isascii() and text.isdigit() and len(text) < 19):
            raise not_found("outbound message")
        try:
            await change(int(text))
        except ProblemError as error:
            return await self._thread(request, comment, problem=error)
        return see_other(f"/comments/{comment.root_id}")

    async def _hide(self, request: web.Request, *, hidden: bool) -> web.Response:
        comment = await self._find(request)
        try:
            await self._actions.hide(comment, hidden=hidden)
        except ProblemError as error:
            return await self._thread(request, comment, problem=error)
        return see_other(f"/comments/{comment.root_id}")

    async def _thread(
        self, request: web.Request, comment: Comment, *, text: str = "", problem: ProblemError | None = None
    ) -> web.Response:
        refresh = problem is None and self._is_opened(request, comment)
        found = await self._threads.whole(comment, refresh=refresh)
        if found is None:
            raise not_found("comment")
        context = {
            "thread": found,
            "comments": [found.comment, *found.replies],
            "initial": initial,
            "name": self._name(found.account_id),
            "text": text,
            "problem": None if problem is None else problem.detail,
            "key": secrets.token_hex(16),
            "most": MAX_REPLY,
        }
        status = HTTPStatus.OK if problem is None else problem.status
        return page(request, "comment_thread.html", context, status=status)

    async def _private(
        self, request: web.Request, comment: Comment, *, text: str = "", problem: ProblemError | None = None
    ) -> web.Response:
        context = {
            "comment": await self._threads.resource(comment),
            "initial": initial,
            "text": text,
            "problem": None if problem is None else problem.detail,
            "key": secrets.token_hex(16),
            "most": MAX_TEXT_BYTES,
        }
        status = HTTPStatus.OK if problem is None else problem.status
        return page(request, "comment_private.html", context, status=status)

    def _is_opened(self, request: web.Request, comment: Comment) -> bool:
        """Whether a person opens the page. A page that keeps itself up to date is no reason to ask Meta."""
        mode = request.headers.get("Sec-Fetch-Mode")
        if mode is not None:
            return mode == "navigate"
        return comment.checked_at is None or self._clock.now_ms() - comment.checked_at > LIVE_FRESH_MS

    def _name(self, account_id: str) -> str:
        managed = self._accounts.served.get(account_id)
        return f"{account_id}, not served" if managed is None else managed.account.display_name

    def _choice(self, chosen: str, found: Sequence[ThreadResource]) -> list[tuple[str, str]]:
        """The accounts to choose from, each with its name. Empty when there is only one."""
        ids = {*self._accounts.served, *([chosen] if chosen else []), *(one.account_id for one in found)}
        if len(ids) < 2 and not chosen:
            return []
        return sorted(((one, self._name(one)) for one in ids), key=lambda pair: pair[1].lower())

    async def _find(self, request: web.Request) -> Comment:
        found = await self._threads.get(path_id(request, "comment"))
        if found is None:
            raise not_found("comment")
        return found


def initial(comment: CommentResource) -> str:
    """The letter in place of a picture of the author."""
    return next((letter.upper() for letter in comment.author.username or "" if letter.isalnum()), "?")


def _text(fields: Mapping[str, str]) -> str:
    """What was written. Browsers end the lines of a form with CR and LF."""
    return fields.get("text", "").replace("\r\n", "\n")


def _key(fields: Mapping[str, str], comment: Comment) -> RequestKey:
    """The key of a form, so that a form that is sent twice sends one reply."""
    told = f"{comment.id}\n{_text(fields)}".encode()
    return RequestKey(fields.get("key", "")[:64] or None, hashlib.blake2b(told, digest_size=16).digest())
