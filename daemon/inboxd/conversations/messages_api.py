"""`/api/messaging/messages`: the messages of all conversations, by their words or in the order in which they came."""

from collections.abc import Callable, Sequence
from http import HTTPStatus
from typing import Annotated, Final

from aiohttp import web
from msgspec import Meta

from inboxd.conversations.resources import (
    ConversationResource,
    FoundMessage,
    MessageResource,
    MessageSearch,
)
from inboxd.conversations.search_store import phrase
from inboxd.conversations.store import ConversationStore, StoredMessage
from inboxd.domain.conversation import Conversation
from inboxd.domain.paging import Place
from inboxd.http import cursors
from inboxd.http.cursors import Cursor
from inboxd.http.operations import MAX_LIMIT, Operation, Query, answer, query
from inboxd.http.problems import ProblemError
from inboxd.storage.database import Read

PATH: Final = "/api/messaging/messages"
LATEST: Final = "latest"
_AFTER: Final = "`nextCursor` of the answer before, or `latest`: from now on. Without `q`."
Words = Annotated[
    str, Meta(min_length=1, max_length=200, description="Words; all must occur, one that ends in * may go on.")
]


class MessagesQuery(Query, frozen=True):
    """Which messages of all conversations."""

    q: Words | None = None
    after: Annotated[str, Meta(pattern=rf"^{LATEST}$(?!\n)|{cursors.PATTERN}", description=_AFTER)] | None = None
    client_account_id: Annotated[str, Meta(description="Of this account.")] | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_LIMIT)] = 50
    cursor: Cursor | None = None


class MessagesApi:
    """The messages of all conversations. `show` makes the resource of a conversation."""

    def __init__(self, read: Read, show: Callable[[Conversation], ConversationResource]) -> None:
        self._conversations = ConversationStore(read)
        self._show = show

    def operations(self) -> Sequence[Operation]:
        """The operations of the API."""
        return [Operation("GET", PATH, self.list, "conversations", {200: MessageSearch}, query=MessagesQuery)]

    async def list(self, request: web.Request) -> web.Response:
        """Messages of all conversations, each with its conversation: those with some words, or all that were stored.

        With `q` those with these words, the latest stored first, about a second after they arrived; `cursor` goes on.
        Without `q` all messages in the order in which they were stored, from the oldest that is kept, or `after` a
        place. `nextCursor` is always there then, and is the next `after`, now or when more has arrived. Where it stays
        the same there is nothing more yet; a page of one account may be short, or empty, before that.
        """
        asked = query(request, MessagesQuery)
        if asked.q is not None:
            if asked.after is not None:
                raise ProblemError(HTTPStatus.BAD_REQUEST, "'after' lists all messages: leave it or 'q' out.")
            return await self._search(asked, phrase(asked.q))
        if asked.cursor is not None:
            raise ProblemError(HTTPStatus.BAD_REQUEST, "'cursor' goes on with a search by 'q'; use 'after' here.")
        return await self._stored(asked)

    async def _search(self, asked: MessagesQuery, words: str) -> web.Response:
        before = cursors.place(asked.cursor)
        before_id = None if before is None else before.id
        found = await self._conversations.search(
            words, account_id=asked.client_account_id, before_id=before_id, limit=asked.limit
        )
        return self._answer(asked, found, Place(None, found[-1][0].id) if len(found) == asked.limit else None)

    async def _stored(self, asked: MessagesQuery) -> web.Response:
        if asked.after == LATEST:
            return self._answer(asked, [], await self._conversations.newest())
        after = cursors.place(asked.after) or Place(0, 0)
        found, following = await self._conversations.stored_after(
            after, account_id=asked.client_account_id, limit=asked.limit
        )
        return self._answer(asked, found, following)

    def _answer(
        self, asked: MessagesQuery, found: Sequence[tuple[StoredMessage, Conversation]], following: Place | None
    ) -> web.Response:
        results = [
            FoundMessage(message=MessageResource.of(stored, conversation), conversation=self._show(conversation))
            for stored, conversation in found
        ]
        cursor = None if following is None else cursors.of(following)
        return answer(MessageSearch(results=results, limit=asked.limit, next_cursor=cursor))
