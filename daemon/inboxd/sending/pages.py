"""Answering in the dashboard: what is not sent yet under a conversation, until when it can be answered, and a form."""

import hashlib
import secrets
from collections.abc import Awaitable, Callable, Collection
from http import HTTPStatus
from typing import Any, Final

from aiohttp import web

from inboxd.conversations.store import ConversationStore
from inboxd.domain.conversation import Conversation
from inboxd.domain.outbound import OutboundKind, OutboundState, SentBy
from inboxd.domain.outbound_content import ContentError, Draft, parts_of
from inboxd.domain.reply_window import Closed, ReplyWindow, Tag
from inboxd.feature import ThreadPart
from inboxd.http.auth import OWNER, SCOPES
from inboxd.http.forms import fields_of
from inboxd.http.operations import not_found, path_id
from inboxd.http.problems import ProblemError
from inboxd.http.rendering import page, see_other
from inboxd.runtime.clock import Clock
from inboxd.sending.outbound import (
    NewOutbound,
    NotNowError,
    OutboundBody,
    OutboundConflictError,
    OutboxFullError,
    StoredOutbound,
    WindowClosedError,
)
from inboxd.sending.resources import OutboundResource
from inboxd.sending.service import OutboxService
from inboxd.sending.store import OutboundFilter, OutboundStore
from inboxd.storage.database import Database

SHOWN: Final = 50
"""Of a conversation's outbound messages, the latest so many are looked at."""
_OPEN: Final = frozenset({OutboundState.QUEUED, OutboundState.SENDING, OutboundState.UNKNOWN, OutboundState.FAILED})


def is_forced(request: web.Request) -> bool:
    """Whether somebody saw that a message may have been sent, and wants it sent again all the same.

    A page that is old says of a message that it failed, which was tried again elsewhere and is unknown now.
    """
    return request.query.get("force") == "true"


class AnsweringPages:
    """The part of a conversation's page with which it is answered. `served` are the ids of the served accounts."""

    def __init__(self, database: Database, outbox: OutboxService, served: Collection[str], clock: Clock) -> None:
        self._store = OutboundStore(database.read)
        self._conversations = ConversationStore(database.read)
        self._outbox = outbox
        self._served = served
        self._clock = clock

    def add_routes(self, app: web.Application) -> None:
        """Put the forms on the admin application."""
        one = "/inbox/{id}"
        for path, handler in (
            (one + "/messages", self.send),
            (one + "/outbound/{outbound}/retry", self.retry),
            (one + "/outbound/{outbound}/cancel", self.cancel),
        ):
            app.router.add_post(path, handler)
            app[SCOPES]["POST", path] = "send"

    async def part(self, conversation: Conversation) -> ThreadPart:
        """What stands below the messages of a conversation. Raises StorageError."""
        found = await self._store.page(OutboundFilter(key=conversation.key), limit=SHOWN)
        unsent = [OutboundResource.of(one) for one in reversed(found) if one.state in _OPEN]
        return ThreadPart("composer.html", self._context(conversation) | {"unsent": unsent})

    async def send(self, request: web.Request) -> web.Response:
        """Put a text into the outbox. What cannot be sent is said beside the form, which keeps the text."""
        conversation = await self._conversations.get(path_id(request, "conversation"))
        if conversation is None:
            raise not_found("conversation")
        form = await fields_of(request)
        text = form.get("text", "").replace("\r\n", "\n").strip()
        try:
            await self._accept(request, conversation, text, form.get("key", ""))
        except (ContentError, WindowClosedError, OutboundConflictError, OutboxFullError) as error:
            context = {"outbox": self._context(conversation), "text": text, "problem": str(error)}
            return page(request, "answer.html", context, status=HTTPStatus.UNPROCESSABLE_ENTITY)
        return see_other(f"{_path(conversation)}#text")  # whoever answers goes on writing there

    async def retry(self, request: web.Request) -> web.Response:
        """Send a message once more."""
        force = is_forced(request)
        return await self._changed(request, lambda outbound_id: self._outbox.retry(outbound_id, force=force))

    async def cancel(self, request: web.Request) -> web.Response:
        """Do not send a message, or stop showing it."""
        return await self._changed(request, self._outbox.cancel)

    async def _changed(
        self, request: web.Request, change: Callable[[int], Awaitable[StoredOutbound | None]]
    ) -> web.Response:
        try:
            changed = await change(path_id(request, "outbound message", "outbound"))
        except (NotNowError, WindowClosedError) as error:
            raise ProblemError(HTTPStatus.CONFLICT, str(error)) from error
        if changed is None:
            raise not_found("outbound message")
        return see_other(f"/inbox/{path_id(request, 'conversation')}")

    async def _accept(self, request: web.Request, conversation: Conversation, text: str, key: str) -> None:
        if conversation.key.account_id not in self._served:
            raise ContentError("The account is not served here, so nothing can be sent for it.")
        form_key = f"form-{hashlib.sha256(key.encode()).hexdigest()}" if key else None  # a form that is sent twice
        await self._outbox.accept(
            NewOutbound(
                kind=OutboundKind.MESSAGE,
                account_id=conversation.key.account_id,
                participant_id=conversation.key.participant_id,
                sent_by=SentBy.HUMAN,
                body=OutboundBody(text=text),
                parts=parts_of(Draft(text=text, split=True), OutboundKind.MESSAGE, allow_http=False),
                requested_by=request[OWNER].name,
                idempotency_key=form_key,
                fingerprint=None if form_key is None else hashlib.sha256(text.encode()).digest(),
            )
        )

    def _context(self, conversation: Conversation) -> dict[str, Any]:
        window, now = ReplyWindow.of(conversation), self._clock.now_ms()
        decision = window.decide(SentBy.HUMAN, now)
        closed = decision.words if isinstance(decision, Closed) else ""
        if conversation.key.account_id not in self._served:
            closed = "The account is not served here, so nothing can be sent for it."
        paused_until = conversation.automation_paused_until
        return {
            "path": _path(conversation),
            "key": secrets.token_urlsafe(16),
            "closed": closed,
            "human_only": decision is Tag.HUMAN_AGENT,
            "until": window.expires_at(SentBy.HUMAN),
            "paused_until": paused_until if paused_until is not None and paused_until > now else None,
        }


def _path(conversation: Conversation) -> str:
    return f"/inbox/{conversation.id}"
