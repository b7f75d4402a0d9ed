"""`/api/messaging/conversations`: the inbox, for scripts and CRMs."""

from collections.abc import Collection
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web

from inboxd.domain.conversation import Conversation, ConversationStatus
from inboxd.store.conversations import ConversationFilter, Conversations
from inboxd.web.api import parameters
from inboxd.web.api.resources import ConversationList, ConversationResource, MessageList, MessageResource
from inboxd.web.problems import SAFE_HEADERS

PATH: Final = "/api/messaging/conversations"
_STATUSES: Final = tuple(status.value for status in ConversationStatus)


class ConversationsApi:
    """Reading conversations and their messages."""

    def __init__(self, conversations: Conversations, accounts: Collection[str]) -> None:
        self._conversations = conversations
        self._accounts = accounts

    def add_routes(self, app: web.Application) -> None:
        """Put the routes on the admin application."""
        app.router.add_get(PATH, self.page)
        app.router.add_get(PATH + "/{id}", self.one)
        app.router.add_get(PATH + "/{id}/messages", self.messages)

    async def page(self, request: web.Request) -> web.Response:
        """A page of conversations, latest activity first."""
        parameters.only(request, ("limit", "offset", "clientAccountId", "status", "hasUnread"))
        limit, offset = parameters.page(request)
        status = parameters.choice(request, "status", _STATUSES)
        found, total = await self._conversations.page(
            ConversationFilter(
                account_id=request.query.get("clientAccountId"),
                status=None if status is None else ConversationStatus(status),
                has_unread=parameters.flag(request, "hasUnread"),
            ),
            limit=limit,
            offset=offset,
        )
        resources = [ConversationResource.of(conversation, self._accounts) for conversation in found]
        return answer(ConversationList(conversations=resources, total=total, limit=limit, offset=offset))

    async def one(self, request: web.Request) -> web.Response:
        """One conversation."""
        parameters.only(request, ())
        return answer(ConversationResource.of(await self._find(request), self._accounts))

    async def messages(self, request: web.Request) -> web.Response:
        """A page of a conversation's messages, newest first."""
        parameters.only(request, ("limit", "offset"))
        limit, offset = parameters.page(request)
        conversation = await self._find(request)
        found, total = await self._conversations.messages(conversation.id, limit=limit, offset=offset)
        resources = [MessageResource.of(stored, conversation) for stored in found]
        return answer(MessageList(messages=resources, total=total, limit=limit, offset=offset))

    async def _find(self, request: web.Request) -> Conversation:
        conversation = await self._conversations.get(parameters.path_id(request, "conversation"))
        if conversation is None:
            raise parameters.not_found("conversation")
        return conversation


def answer(resource: msgspec.Struct, *, status: HTTPStatus = HTTPStatus.OK) -> web.Response:
    """A resource as JSON."""
    return web.Response(
        status=status,
        body=msgspec.json.encode(resource),
        content_type="application/json",
        charset="utf-8",
        headers=SAFE_HEADERS,
    )
