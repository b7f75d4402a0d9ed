"""The pages of conversations: the list, and one conversation as a thread."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from aiohttp import web

from inboxd.accounts.manager import AccountManager
from inboxd.conversations.display import displayed
from inboxd.conversations.resources import MessageResource
from inboxd.conversations.search_store import phrase
from inboxd.conversations.store import ConversationFilter, ConversationStore
from inboxd.conversations.updates import ConversationUpdates
from inboxd.domain.conversation import Conversation
from inboxd.domain.paging import Place
from inboxd.domain.waiting import Waiting
from inboxd.feature import ThreadPart
from inboxd.http import cursors
from inboxd.http.operations import not_found, path_id
from inboxd.http.rendering import TICKED, choice_of, page, see_other
from inboxd.profiles.outlook import ProfileOutlook
from inboxd.runtime.clock import Clock
from inboxd.storage.database import Database

LIMIT: Final = 50
_MAX_WORDS: Final = 200
_MAX_ID: Final = 100


class InboxPages:
    """`/inbox` and `/inbox/{id}`. `parts` are what other features show below the messages of a conversation."""

    def __init__(
        self,
        database: Database,
        accounts: AccountManager,
        clock: Clock,
        outlook: ProfileOutlook,
        updates: ConversationUpdates,
        parts: Sequence[Callable[[Conversation], Awaitable[ThreadPart]]],
    ) -> None:
        self._updates = updates
        self._parts = parts
        self._accounts = accounts
        self._conversations = ConversationStore(database.read)
        self._clock = clock
        self._outlook = outlook

    def add_routes(self, app: web.Application) -> None:
        """Put the pages on the admin application."""
        app.router.add_get("/inbox", self.all, allow_head=False)
        app.router.add_get("/inbox/{id}", self.thread, allow_head=False)
        app.router.add_post("/inbox/{id}/read", self.read)

    async def all(self, request: web.Request) -> web.Response:
        """A page of conversations, latest activity first. `q`, `unread` and `account` narrow it down."""
        words = request.query.get("q", "").strip()[:_MAX_WORDS]
        unread = bool(choice_of(request, "unread", TICKED))
        before = cursors.parsed(request.query.get("before"))
        account_id = request.query.get("account", "")[:_MAX_ID]
        condition = ConversationFilter(
            account_id=account_id or None,
            has_unread=True if unread else None,
            matching=phrase(words) if words else None,
            before=before,
        )
        found, total = await self._conversations.page(condition, limit=LIMIT, offset=0)
        latest = await self._conversations.latest([one.id for one in found])
        rows = [
            (one, self._waiting(one), MessageResource.of(latest[one.id], one) if one.id in latest else None)
            for one in found
        ]
        last = found[-1] if len(found) == LIMIT else None
        following = None if last is None else cursors.of(Place(last.last_message_at, last.id))
        context = {
            "displayed": displayed,
            "rows": rows,
            "total": total,
            "q": words,
            "unread": unread,
            "account": account_id,
            "accounts": self._choice(account_id, found),
            "labels": self._labels(found),
            "following": following,
            "first": before is None,
        }
        return page(request, "inbox.html", context)

    async def thread(self, request: web.Request) -> web.Response:
        """One conversation, the latest message at the bottom."""
        conversation = await self._find(request)
        before = cursors.parsed(request.query.get("before"))
        found, total = await self._conversations.messages(conversation.id, limit=LIMIT, offset=0, before=before)
        messages = [(stored.message.shown_at, MessageResource.of(stored, conversation)) for stored in reversed(found)]
        oldest = found[-1] if len(found) == LIMIT else None
        earlier = None if oldest is None else cursors.of(Place(oldest.message.timeline_at, oldest.id))
        context = {
            "displayed": displayed,
            "conversation": conversation,
            "account": self._name(conversation.key.account_id),
            "waiting": self._waiting(conversation),
            "messages": messages,
            "texts": {message.platform_message_id: message.content for _, message in messages},
            "total": total,
            "earlier": earlier,
            "latest": before is None,
            "parts_below": [await part(conversation) for part in self._parts] if before is None else [],
        }
        return page(request, "thread.html", context)

    async def read(self, request: web.Request) -> web.Response:
        """Mark a conversation as read."""
        conversation_id = path_id(request, "conversation")
        if await self._updates.mark_read(conversation_id) is None:
            raise not_found("conversation")
        return see_other(f"/inbox/{conversation_id}")

    def _name(self, account_id: str) -> str:
        """The name by which people know an account."""
        managed = self._accounts.served.get(account_id)
        if managed is None:
            return f"{account_id}, not served"
        account = managed.account
        return account.username or account.name or account.id

    def _choice(self, chosen: str, found: Sequence[Conversation]) -> list[tuple[str, str]]:
        """The accounts to choose from, each with its name. Empty when there is only one."""
        ids = {*self._accounts.served, *([chosen] if chosen else []), *(one.key.account_id for one in found)}
        if len(ids) < 2 and not chosen:
            return []
        return sorted(((one, self._name(one)) for one in ids), key=lambda pair: pair[1].lower())

    def _labels(self, found: Sequence[Conversation]) -> dict[str, str]:
        """The names of the accounts of these conversations. Empty when there is only one account."""
        ids = {conversation.key.account_id for conversation in found}
        if len(ids | self._accounts.served.keys()) < 2:
            return {}
        return {one: self._name(one) for one in ids}

    def _waiting(self, one: Conversation) -> Waiting | None:
        return self._outlook.of(one.key, one.profile_state, one.profile_reason, one.profile_next_attempt_at)

    async def _find(self, request: web.Request) -> Conversation:
        found = await self._conversations.get(path_id(request, "conversation"))
        if found is None:
            raise not_found("conversation")
        return found
