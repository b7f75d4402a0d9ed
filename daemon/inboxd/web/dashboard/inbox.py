"""Conversations, and one as a thread."""

from typing import Final

from aiohttp import web

from inboxd.clock import Clock
from inboxd.domain.conversation import Conversation
from inboxd.store import conversations
from inboxd.store.conversations import ConversationFilter, Conversations, Place
from inboxd.store.database import Database
from inboxd.store.search import phrase
from inboxd.web.api import cursors
from inboxd.web.api.operations import not_found, path_id
from inboxd.web.api.resources.conversations import MessageResource
from inboxd.web.dashboard.rendering import page, see_other

LIMIT: Final = 50
_MAX_WORDS: Final = 200


class InboxPages:
    """`/inbox` and its threads."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._conversations = Conversations(database.read)
        self._clock = clock

    def add_routes(self, app: web.Application) -> None:
        """Put the pages on the admin application."""
        app.router.add_get("/inbox", self.all, allow_head=False)
        app.router.add_get("/inbox/{id}", self.thread, allow_head=False)
        app.router.add_post("/inbox/{id}/read", self.read)

    async def all(self, request: web.Request) -> web.Response:
        """Conversations, the latest first; with `q` those that match, with `unread` only those."""
        words = request.query.get("q", "").strip()[:_MAX_WORDS]
        unread = request.query.get("unread") == "1"
        before = cursors.parsed(request.query.get("before"))
        condition = ConversationFilter(
            has_unread=True if unread else None, matching=phrase(words) if words else None, before=before
        )
        found, total = await self._conversations.page(condition, limit=LIMIT, offset=0)
        latest = await self._conversations.latest([one.id for one in found])
        rows = [(one, MessageResource.of(latest[one.id], one) if one.id in latest else None) for one in found]
        last = found[-1] if len(found) == LIMIT else None
        following = None if last is None else cursors.of(Place(last.last_message_at, last.id))
        context = {
            "rows": rows,
            "total": total,
            "q": words,
            "unread": unread,
            "following": following,
            "first": before is None,
        }
        return page(request, "inbox.html", context)

    async def thread(self, request: web.Request) -> web.Response:
        """One conversation, the latest message at the bottom."""
        conversation = await self._find(request)
        before = cursors.parsed(request.query.get("before"))
        found, total = await self._conversations.messages(conversation.id, limit=LIMIT, offset=0, before=before)
        messages = [MessageResource.of(stored, conversation) for stored in reversed(found)]
        oldest = found[-1] if len(found) == LIMIT else None
        earlier = None if oldest is None else cursors.of(Place(oldest.message.timeline_at, oldest.id))
        context = {
            "conversation": conversation,
            "messages": messages,
            "texts": {message.platform_message_id: message.content for message in messages},
            "total": total,
            "earlier": earlier,
            "latest": before is None,
        }
        return page(request, "thread.html", context)

    async def read(self, request: web.Request) -> web.Response:
        """Mark a conversation as read."""
        conversation, now = await self._find(request), self._clock.now_ms()
        await self._database.write(lambda connection: conversations.mark_read(connection, conversation.id, now))
        return see_other(f"/inbox/{conversation.id}")

    async def _find(self, request: web.Request) -> Conversation:
        found = await self._conversations.get(path_id(request, "conversation"))
        if found is None:
            raise not_found("conversation")
        return found
