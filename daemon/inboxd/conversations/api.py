"""`/api/messaging`: conversations and messages, for scripts and CRMs."""

from collections.abc import Collection, Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from inboxd.conversations.conversation_import import ConversationExistsError, MisnamedError, import_conversation
from inboxd.conversations.input_resources import (
    ConversationChange,
    ImportProblem,
    ImportReport,
    NewConversation,
    NewImport,
    import_fields,
)
from inboxd.conversations.messages_api import MessagesApi, Words
from inboxd.conversations.resources import (
    ConversationList,
    ConversationResource,
    MessageList,
    MessageResource,
)
from inboxd.conversations.search_store import phrase
from inboxd.conversations.store import ConversationFilter, ConversationStore
from inboxd.conversations.updates import ConversationUpdates
from inboxd.domain.conversation import Conversation, ConversationStatus
from inboxd.domain.paging import Place
from inboxd.events.log import EventLog
from inboxd.http import cursors
from inboxd.http.cursors import Cursor
from inboxd.http.operations import (
    Operation,
    Page,
    answer,
    body,
    not_found,
    page_links,
    path_id,
    query,
)
from inboxd.http.problems import SAFE_HEADERS, ProblemError
from inboxd.profiles.outlook import ProfileOutlook
from inboxd.runtime.clock import Clock, unix_ms
from inboxd.storage.database import Database

PATH: Final = "/api/messaging/conversations"
_UPDATED_SINCE: Final = "Updated at this time or later (ISO 8601 with a time zone), the earliest update first."
_EXAMPLE: Final[dict[str, Any]] = {
    "clientAccountId": "17841400000000001",
    "platformConversationId": "17841400000000001_7000000000000001",
    "participantPlatformId": "7000000000000001",
    "participantUsername": None,
    "participantProfilePic": None,
    "unreadCount": 0,
    "status": "open",
    "metadata": {"crmId": "42"},
}


class ConversationQuery(Page, frozen=True):
    """Which conversations."""

    client_account_id: Annotated[str, Meta(description="Of this account.")] | None = None
    participant_platform_id: Annotated[str, Meta(description="With this participant.")] | None = None
    updated_since: Annotated[datetime, Meta(tz=True, description=_UPDATED_SINCE)] | None = None
    status: ConversationStatus | None = None
    has_unread: Annotated[bool, Meta(description="With, or without, unread messages.")] | None = None
    q: Words | None = None
    cursor: Cursor | None = None


class MessageQuery(Page, frozen=True):
    """Which messages of a conversation."""

    cursor: Cursor | None = None


class ConversationsApi:
    """Conversations and their messages. `accounts` has every id that names a served account."""

    def __init__(
        self,
        database: Database,
        accounts: Collection[str],
        clock: Clock,
        outlook: ProfileOutlook,
        event_log: EventLog,
    ) -> None:
        self._database = database
        self._conversations = ConversationStore(database.read)
        self._accounts = accounts
        self._clock = clock
        self._outlook = outlook
        self._event_log = event_log
        self._updates = ConversationUpdates(database, event_log, clock)

    def operations(self) -> Sequence[Operation]:
        """The operations of the API."""
        one = PATH + "/{id}"
        tag = "conversations"
        return [
            Operation("GET", PATH, self.page, tag, {200: ConversationList}, query=ConversationQuery),
            Operation(
                "POST", PATH, self.register, tag, {201: ConversationResource}, body=NewConversation, problems=(409,),
                examples={"body": _EXAMPLE},
            ),
            Operation(
                "POST", "/api/messaging/imports", self.import_many, tag, {200: ImportReport}, body=NewImport,
                examples={"body": {"conversations": [_EXAMPLE]}},
            ),
            Operation("GET", one, self.one, tag, {200: ConversationResource}, single=True),
            Operation(
                "PATCH", one, self.change, tag, {200: ConversationResource}, body=ConversationChange,
                examples={"body": {"status": "closed"}},
            ),
            Operation("DELETE", one, self.remove, tag, {204: None}),
            Operation("PATCH", one + "/read", self.read, tag, {200: ConversationResource}),
            Operation("GET", one + "/messages", self.messages, tag, {200: MessageList}, query=MessageQuery),
            *MessagesApi(self._database.read, self.resource).operations(),
        ]  # fmt: skip

    async def page(self, request: web.Request) -> web.Response:
        """A page of conversations, latest activity first.

        With `q` only those in which a name or a message has the words, among the latest 2,000 messages that match. With
        `updatedSince` the earliest update comes first, and `nextCursor` is always there: with it and the same
        `updatedSince` the list goes on, now or whenever more has been updated.
        """
        asked = query(request, ConversationQuery)
        cursor = cursors.place(asked.cursor)
        since = None if asked.updated_since is None else max(0, unix_ms(asked.updated_since))
        condition = ConversationFilter(
            account_id=asked.client_account_id,
            participant_id=asked.participant_platform_id,
            status=asked.status,
            has_unread=asked.has_unread,
            matching=None if asked.q is None else phrase(asked.q),
            before=cursor if since is None else None,
        )
        if since is None:
            found, total = await self._conversations.page(condition, limit=asked.limit, offset=asked.offset)
            following = Place(found[-1].last_message_at, found[-1].id) if len(found) == asked.limit else None
        else:
            found, total, following = await self._conversations.updated(
                condition, since, cursor, limit=asked.limit, offset=asked.offset
            )
        links = page_links(request, total=total, limit=asked.limit, offset=asked.offset) if not asked.cursor else {}
        listed = ConversationList(
            conversations=[self.resource(conversation) for conversation in found],
            total=total,
            limit=asked.limit,
            offset=asked.offset,
            next_cursor=None if following is None else cursors.of(following),
        )
        return answer(listed, headers=links)

    async def one(self, request: web.Request) -> web.Response:
        """One conversation."""
        return answer(self.resource(await self._find(request)))

    async def messages(self, request: web.Request) -> web.Response:
        """A page of a conversation's messages, newest first."""
        asked = query(request, MessageQuery)
        conversation = await self._find(request)
        found, total = await self._conversations.messages(
            conversation.id, limit=asked.limit, offset=asked.offset, before=cursors.place(asked.cursor)
        )
        following = None
        if len(found) == asked.limit:
            last = found[-1]
            following = cursors.of(Place(last.message.timeline_at, last.id))
        resources = [MessageResource.of(stored, conversation) for stored in found]
        links = page_links(request, total=total, limit=asked.limit, offset=asked.offset) if not asked.cursor else {}
        listed = MessageList(
            messages=resources, total=total, limit=asked.limit, offset=asked.offset, next_cursor=following
        )
        return answer(listed, headers=links)

    async def register(self, request: web.Request) -> web.Response:
        """Register a conversation that is known from another system.

        A profile that is missing is fetched by the next backfill, or when the person writes.
        """
        wanted = body(request, NewConversation)
        try:
            conversation = await import_conversation(self._database, self._event_log, wanted, self._clock.now_ms())
        except MisnamedError as error:
            raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"{error}.") from error
        except ConversationExistsError as error:
            raise ProblemError(HTTPStatus.CONFLICT, f"{error}.") from error
        location = {"Location": f"{PATH}/{conversation.id}"}
        return answer(self.resource(conversation), status=HTTPStatus.CREATED, headers=location)

    async def import_many(self, request: web.Request) -> web.Response:
        """Register many known conversations. Those that cannot be are reported by their number, the others stored.

        A `platformConversationId` of another system is kept as `importedConversationId` in the metadata.
        """
        wanted = body(request, NewImport)
        problems: list[ImportProblem] = []
        ignored: dict[str, None] = {}
        for row, members in enumerate(wanted.conversations, start=1):
            fields, unknown = import_fields(members)
            ignored |= dict.fromkeys(unknown)
            try:
                known = msgspec.convert(fields, NewConversation)
                now = self._clock.now_ms()
                await import_conversation(self._database, self._event_log, known, now, keep_foreign_id=True)
            except (msgspec.ValidationError, MisnamedError, ConversationExistsError) as error:
                problems.append(ImportProblem(row=row, error=str(error)))
        imported = len(wanted.conversations) - len(problems)
        return answer(ImportReport(imported=imported, errors=problems, ignored=list(ignored)))

    async def change(self, request: web.Request) -> web.Response:
        """Change the status (open, closed, archived) or the metadata of a conversation."""
        wanted = body(request, ConversationChange)
        conversation_id = path_id(request, "conversation")
        return self._written(
            await self._updates.change(conversation_id, status=wanted.status, metadata=wanted.metadata)
        )

    async def read(self, request: web.Request) -> web.Response:
        """Mark everything in a conversation as read by the account."""
        return self._written(await self._updates.mark_read(path_id(request, "conversation")))

    async def remove(self, request: web.Request) -> web.Response:
        """Delete a conversation with its messages. It begins anew when the person writes again."""
        if not await self._updates.delete(path_id(request, "conversation")):
            raise not_found("conversation")
        return web.Response(status=HTTPStatus.NO_CONTENT, headers=SAFE_HEADERS)

    def _written(self, conversation: Conversation | None) -> web.Response:
        if conversation is None:
            raise not_found("conversation")
        return answer(self.resource(conversation))

    async def _find(self, request: web.Request) -> Conversation:
        conversation = await self._conversations.get(path_id(request, "conversation"))
        if conversation is None:
            raise not_found("conversation")
        return conversation

    def resource(self, conversation: Conversation) -> ConversationResource:
        """The resource of a conversation, as of now."""
        waiting = self._outlook.of(
            conversation.key,
            conversation.profile_state,
            conversation.profile_reason,
            conversation.profile_next_attempt_at,
        )
        return ConversationResource.of(conversation, self._accounts, waiting, at=self._clock.now_ms())
