"""The simulated Conversations API: lists, messages, and its quirks, which are switches of the behaviour."""

import hashlib
import random
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Final

from aiohttp import web

from inboxd.simulator.behaviour import Behaviour
from inboxd.simulator.caller import Caller
from inboxd.simulator.errors import RefusedError, missing, refused
from inboxd.simulator.field_expansion import Fields
from inboxd.simulator.graph_reading import page, parsed, require_known, time_of
from inboxd.simulator.mailbox import (
    KeptConversation,
    KeptMessage,
    Mailbox,
    shown_attachments,
    shown_shares,
    shown_story,
)
from inboxd.simulator.payloads import Item
from inboxd.simulator.people import person
from inboxd.simulator.posts import OWN_NAME

CONVERSATION_FIELDS: Final = frozenset(
    {"id", "updated_time", "participants", "messages", "message_count", "unread_count", "link"}
)
MESSAGE_FIELDS: Final = frozenset(
    {"id", "created_time", "from", "to", "message", "attachments", "shares", "story", "reactions", "is_unsupported"}
)
ALWAYS_SHOWN: Final = frozenset({"id", "created_time"})
_DELETED: Final = 9000001


class ConversationsApi:
    """Answers the calls of the Conversations API from `mailbox`. `now` tells the time in seconds since the epoch."""

    def __init__(
        self, mailbox: Mailbox, behaviour: Callable[[], Behaviour], chance: random.Random, now: Callable[[], float]
    ) -> None:
        self._mailbox = mailbox
        self._behaviour = behaviour
        self._random = chance
        self._now = now
        self._calls: dict[str, deque[float]] = {}
        self.refused = 0
        """Calls beyond the limit for one second."""

    def knows(self, node: str, caller: Caller) -> bool:
        """Whether `node` is a conversation or a message of the caller."""
        found = self._mailbox.conversation(node) or self._mailbox.conversation_of(node)
        return found is not None and found.account_id == caller.account_id

    def listed(self, request: web.Request, caller: Caller) -> web.Response:
        """GET /me/conversations or /{page}/conversations."""
        return self._answer(caller, lambda: self._conversations(request, caller))

    def node(self, request: web.Request, caller: Caller, node: str) -> web.Response:
        """GET /{conversation} or /{message}."""
        return self._answer(caller, lambda: self._node(request, caller, node))

    def edge(self, request: web.Request, caller: Caller, node: str) -> web.Response:
        """GET /{conversation}/messages."""
        return self._answer(caller, lambda: self._edge(request, caller, node))

    def _answer(self, caller: Caller, make: Callable[[], Item]) -> web.Response:
        behaviour = self._behaviour()
        try:
            self._pace(caller, behaviour.conversation_calls_per_s)
            if behaviour.tools_off:
                raise refused(
                    200, "The account owner has disabled access to direct messages", status=403, subcode=2534041
                )
            if self._random.random() < behaviour.conversation_error_rate:
                raise refused(1, "An unknown error occurred", status=500)
            return web.json_response(make())
        except RefusedError as error:
            return error.response

    def _pace(self, caller: Caller, most: int) -> None:
        calls, now = self._calls.setdefault(caller.account_id, deque()), self._now()
        while calls and calls[0] <= now - 1:
            calls.popleft()
        calls.append(now)
        if 0 < most < len(calls):
            self.refused += 1
            raise refused(613, "Calls to this API have exceeded the rate limit", subcode=2534040)

    def _conversations(self, request: web.Request, caller: Caller) -> Item:
        node = request.match_info.get("node", "me")
        if not caller.is_own_node(node):
            raise refused(3, "Application does not have the capability to make this API call.")
        if request.query.get("platform", "instagram") != "instagram":
            raise refused(100, "Param platform must be one of {INSTAGRAM}")
        fields = parsed(request.query.get("fields", "id,updated_time"))
        require_known(fields, CONVERSATION_FIELDS)
        found = [
            (updated_ms, one)
            for one in self._mailbox.conversations(caller.account_id)
            if not one.requests
            and request.query.get("user_id", one.participant_id) == one.participant_id
            and (updated_ms := self._updated_ms(one)) is not None
        ]
        if caller.page_id is not None and "platform" not in request.query:
            found = []  # these would be the Page's own conversations, on Messenger
        if self._behaviour().unordered:
            found.sort(key=lambda one: hashlib.sha256(one[1].id.encode()).digest())
        else:
            found.sort(key=lambda one: one[0], reverse=True)
        listed = [one for _, one in found]
        shown = page(listed, request.query, request, self._behaviour())
        return {**shown, "data": [self._shown_conversation(one, fields, caller, request) for one in shown["data"]]}

    def _node(self, request: web.Request, caller: Caller, node: str) -> Item:
        if not self.knows(node, caller):
            raise missing(node)
        fields = parsed(request.query.get("fields", ""))
        conversation = self._mailbox.conversation(node)
        if conversation is not None:
            require_known(fields, CONVERSATION_FIELDS)
            return self._shown_conversation(conversation, fields or parsed("id,updated_time"), caller, request)
        of_message = self._mailbox.conversation_of(node)
        visible = [] if of_message is None else self._visible(of_message)
        self._require_message_fields(fields)
        for rank, message in enumerate(visible):
            if message.mid == node and rank < self._behaviour().details_for_newest:
                return self._shown_message(message, fields or parsed("id,created_time"), caller)
        raise refused(_DELETED, "The message was deleted")

    def _edge(self, request: web.Request, caller: Caller, node: str) -> Item:
        if not self._behaviour().messages_edge:
            raise refused(2500, "Unknown path components: /messages")
        conversation = self._mailbox.conversation(node)
        if conversation is None or not self.knows(node, caller):
            raise missing(node)
        fields = parsed(request.query.get("fields", "id,created_time"))
        return self._messages(conversation, fields, request.query, caller, request)

    def _messages(
        self, conversation: KeptConversation, fields: Fields, modifiers: Any, caller: Caller, request: web.Request
    ) -> Item:
        self._require_message_fields(fields)
        behaviour, visible = self._behaviour(), self._visible(conversation)
        listed = page(visible, modifiers, request, behaviour)
        readable = {message.mid for message in visible[: behaviour.details_for_newest]}
        wants_details = bool(fields.keys() - ALWAYS_SHOWN)
        shown = []
        for message in listed["data"]:
            if message.mid not in readable and wants_details and behaviour.old_details == "error":
                raise refused(_DELETED, "The message was deleted")
            asked = fields if message.mid in readable else parsed("id,created_time")
            shown.append(self._shown_message(message, asked, caller))
        return {**listed, "data": shown}

    def _visible(self, conversation: KeptConversation) -> list[KeptMessage]:
        """The messages that are shown by now, newest first."""
        return sorted(self._shown(conversation), key=lambda one: (one.created_ms, one.mid), reverse=True)

    def _shown(self, conversation: KeptConversation) -> Iterator[KeptMessage]:
        before_s = self._now() - self._behaviour().visible_after_s
        return (one for one in conversation.messages.values() if not one.unsent and one.arrived_s <= before_s)

    def _updated_ms(self, conversation: KeptConversation) -> int | None:
        """When the conversation last changed; None when nothing of it is shown."""
        latest = max((one.created_ms for one in self._shown(conversation)), default=None)
        if latest is None or not self._behaviour().changes_move_updated_time:
            return latest
        return max(latest, conversation.changed_ms)

    def _shown_conversation(
        self, conversation: KeptConversation, fields: Fields, caller: Caller, request: web.Request
    ) -> Item:
        shown: Item = {"id": conversation.id}
        updated_ms = self._updated_ms(conversation)
        if "updated_time" in fields and updated_ms is not None:
            shown["updated_time"] = time_of(updated_ms, self._behaviour())
        if "participants" in fields:
            parties = [self._party(caller.account_id, caller)]
            if conversation.participant_id != caller.account_id:
                parties.append(self._party(conversation.participant_id, caller))
            shown["participants"] = {"data": parties}
        if "message_count" in fields:
            shown["message_count"] = len(conversation.messages)
        if "messages" in fields:
            wanted = fields["messages"]
            modifiers = {"limit": str(max(1, len(conversation.messages))), **wanted.modifiers}
            inner = wanted.inner or parsed("id,created_time")
            shown["messages"] = self._messages(conversation, inner, modifiers, caller, request)
        return shown

    def _shown_message(self, message: KeptMessage, fields: Fields, caller: Caller) -> Item:
        behaviour = self._behaviour()
        attachments = list(shown_attachments(message))
        with_attachments = behaviour.attachments == "always" or (
            behaviour.attachments == "login" and caller.page_id is not None
        )
        reactions = [
            {"reaction": emoji, "users": [self._party(who, caller)]} for who, emoji in message.reactions.items()
        ]
        story, shares = shown_story(message), shown_shares(message)
        known: Item = {
            "created_time": time_of(message.created_ms, behaviour),
            "from": self._party(message.sender_id, caller),
            "to": {"data": [self._party(message.recipient_id, caller)]},
            "message": message.text or "",
            "attachments": {"data": attachments} if attachments and with_attachments else None,
            "shares": {"data": shares} if shares else None,
            "story": story,
            "reactions": {"data": reactions} if reactions else None,
            "is_unsupported": True if message.is_unsupported else None,
        }
        # Meta leaves out what a message does not have.
        return {
            "id": message.mid,
            **{name: value for name, value in known.items() if name in fields and value is not None},
        }

    def _party(self, who: str, caller: Caller) -> Item:
        if who == caller.account_id:
            ids = {"main": who, "app_scoped": f"9{who}", "page": caller.page_id or who}
            return {"username": OWN_NAME, "id": ids[self._behaviour().own_id]}
        found = person(who)
        return {"username": found.username if found is not None else f"user_{who}", "id": who}

    def _require_message_fields(self, fields: Fields) -> None:
        require_known(fields, MESSAGE_FIELDS - set(self._behaviour().unknown_message_fields))
