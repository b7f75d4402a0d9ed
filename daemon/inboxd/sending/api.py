"""`/api/messaging/…/messages` and `/api/messaging/outbound`: what the account sends, and what became of it."""

import hashlib
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from inboxd.conversations.api import PATH as CONVERSATIONS
from inboxd.conversations.messages_api import PATH as MESSAGES
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.outbound import OutboundKind, OutboundState
from inboxd.domain.outbound_content import ContentError, parts_of
from inboxd.domain.paging import Place
from inboxd.http import cursors
from inboxd.http.auth import OWNER
from inboxd.http.cursors import Cursor
from inboxd.http.operations import MAX_LIMIT, Operation, Query, answer, body, not_found, path_id, query
from inboxd.http.problems import ProblemError
from inboxd.sending.idempotency_key import KEY, KEY_SCHEMA, key_of
from inboxd.sending.input_resources import NewDirectMessage, NewMessage
from inboxd.sending.outbound import (
    NewOutbound,
    NotNowError,
    OutboundConflictError,
    OutboxFullError,
    StoredOutbound,
    UnknownCommentError,
    WindowClosedError,
)
from inboxd.sending.resources import OutboundList, OutboundResource
from inboxd.sending.service import OutboxService
from inboxd.sending.store import OutboundFilter, OutboundStore
from inboxd.sending.uploads.upload import UploadError
from inboxd.storage.database import Database

PATH: Final = "/api/messaging/outbound"
SCOPE: Final = "send"
_EXAMPLE: Final[dict[str, Any]] = {"text": "Yes, in blue and in green.", "replyTo": "17", "sentBy": "human"}
_DIRECT_EXAMPLE: Final[dict[str, Any]] = {
    "accountId": "17841400000000001",
    "participantPlatformId": "7000000000000001",
    "text": "Your parcel is on its way.",
}
OfConversation = Annotated[str, Meta(pattern=r"^[0-9]{1,18}$(?!\n)", description="Of this conversation.")]


class OutboundQuery(Query, frozen=True):
    """Which outbound messages."""

    state: OutboundState | None = None
    account_id: Annotated[str, Meta(description="Of this account.")] | None = None
    conversation_id: OfConversation | None = None
    limit: Annotated[int, Meta(ge=1, le=MAX_LIMIT, description="How many messages at most.")] = 50
    cursor: Cursor | None = None


class RetryQuery(Query, frozen=True):
    """How to try again."""

    force: Annotated[bool, Meta(description="Also when it may have been sent. The participant may get it twice.")] = (
        False
    )


class OutboundApi:
    """The outbox.

    `accounts` maps every id that names a served account to its main id. `allow_http`: URLs need not be https.
    """

    def __init__(
        self, database: Database, outbox: OutboxService, accounts: Mapping[str, str], *, allow_http: bool
    ) -> None:
        self._store = OutboundStore(database.read)
        self._outbox = outbox
        self._accounts = accounts
        self._allow_http = allow_http

    def operations(self) -> Sequence[Operation]:
        """The operations of the API."""
        one, tag = PATH + "/{id}", "sending"
        accepts: dict[str, Any] = {"needs": SCOPE, "headers": {KEY: KEY_SCHEMA}, "problems": (409,)}
        changes: dict[str, Any] = {"needs": SCOPE, "problems": (409,)}
        return [
            Operation(
                "POST", CONVERSATIONS + "/{id}/messages", self.answer, tag, {202: OutboundResource}, body=NewMessage,
                examples={"body": _EXAMPLE}, **accepts,
            ),
            Operation(
                "POST", MESSAGES, self.send, tag, {202: OutboundResource}, body=NewDirectMessage,
                examples={"body": _DIRECT_EXAMPLE}, **accepts,
            ),
            Operation("GET", PATH, self.page, tag, {200: OutboundList}, query=OutboundQuery),
            Operation("GET", one, self.one, tag, {200: OutboundResource}, single=True),
            Operation("POST", one + "/cancel", self.cancel, tag, {200: OutboundResource}, **changes),
            Operation("POST", one + "/retry", self.retry, tag, {200: OutboundResource}, query=RetryQuery, **changes),
        ]  # fmt: skip

    async def answer(self, request: web.Request) -> web.Response:
        """Answer in a conversation.

        The message is in the outbox, durably, when this answers 202; look at `state` of the outbound message, or at the
        events `outbound.…`, for what became of it. The messages of one conversation are sent in order. 409 when the
        reply window is closed.
        """
        wanted = body(request, NewMessage)
        conversation_id = path_id(request, "conversation")
        key = await self._store.key_of(conversation_id)
        if key is None:
            raise not_found("conversation")
        return await self._accepted(request, wanted, OutboundKind.MESSAGE, key)

    async def send(self, request: web.Request) -> web.Response:
        """Write to a participant, or answer a comment in private.

        It answers as an answer in a conversation does. A comment gets one private reply, ever, within seven days; it
        opens the conversation with its author.
        """
        wanted = body(request, NewDirectMessage)
        if (wanted.participant_platform_id is None) == (wanted.comment_id is None):
            raise _unprocessable("Give either participantPlatformId or commentId.")
        account_id = wanted.account_id
        if wanted.comment_id is None:
            key = ConversationKey(account_id, wanted.participant_platform_id or "")
            return await self._accepted(request, wanted, OutboundKind.MESSAGE, key)
        return await self._accepted(
            request, wanted, OutboundKind.PRIVATE_REPLY, ConversationKey(account_id, ""), wanted.comment_id
        )

    async def page(self, request: web.Request) -> web.Response:
        """A page of outbound messages, the latest first."""
        asked = query(request, OutboundQuery)
        key = None
        if asked.conversation_id is not None:
            key = await self._store.key_of(int(asked.conversation_id))
            if key is None:
                return answer(OutboundList(outbound=[], limit=asked.limit, next_cursor=None))
        before = cursors.place(asked.cursor)
        condition = OutboundFilter(
            state=asked.state, account_id=asked.account_id, key=key, before_id=None if before is None else before.id
        )
        found = await self._store.page(condition, limit=asked.limit)
        last = found[-1] if len(found) == asked.limit else None
        following = None if last is None else cursors.of(Place(last.created_at, last.id))
        resources = [OutboundResource.of(one) for one in found]
        return answer(OutboundList(outbound=resources, limit=asked.limit, next_cursor=following))

    async def one(self, request: web.Request) -> web.Response:
        """One outbound message."""
        return _shown(await self._store.shown(path_id(request, "outbound message")))

    async def cancel(self, request: web.Request) -> web.Response:
        """Do not send what is not sent yet of an outbound message. The later ones of its conversation go on.

        What failed, or is unknown, can be canceled too: then nothing waits for it any more. 409 when it is sent, or
        just being sent.
        """
        outbound_id = path_id(request, "outbound message")
        try:
            return _shown(await self._outbox.cancel(outbound_id))
        except NotNowError as error:
            raise ProblemError(HTTPStatus.CONFLICT, str(error)) from error

    async def retry(self, request: web.Request) -> web.Response:
        """Send a failed outbound message once more, as its reply window allows now.

        409 in any other state. One that is unknown may have been sent: it is sent again only with `force`, and the
        participant may then get it twice.
        """
        outbound_id = path_id(request, "outbound message")
        try:
            return _shown(await self._outbox.retry(outbound_id, force=query(request, RetryQuery).force))
        except (NotNowError, WindowClosedError) as error:
            raise ProblemError(HTTPStatus.CONFLICT, str(error)) from error

    async def _accepted(
        self,
        request: web.Request,
        wanted: NewMessage,
        kind: OutboundKind,
        key: ConversationKey,
        comment_id: str | None = None,
    ) -> web.Response:
        main_id = self._accounts.get(key.account_id)
        if main_id is None:
            raise ProblemError(HTTPStatus.CONFLICT, "The account is not served here, so nothing can be sent for it.")
        key = ConversationKey(main_id, key.participant_id)
        idempotency_key = key_of(request)
        fingerprint = _fingerprint(kind, key, comment_id, wanted)
        by = request[OWNER].name
        try:
            known = await self._outbox.known(by, idempotency_key, fingerprint)
            if known is not None:
                return _accepted(known)
            mid = await self._replied_mid(key, wanted)
            parts = parts_of(wanted.draft(mid), kind, allow_http=self._allow_http)
            accepted = await self._outbox.accept(
                NewOutbound(
                    kind=kind,
                    account_id=key.account_id,
                    participant_id=key.participant_id or None,
                    comment_id=comment_id,
                    sent_by=wanted.sent_by,
                    body=wanted.outbound_body,
                    parts=parts,
                    requested_by=by,
                    idempotency_key=idempotency_key,
                    fingerprint=None if idempotency_key is None else fingerprint,
                )
            )
        except (ContentError, UploadError) as error:
            raise _unprocessable(str(error)) from error
        except UnknownCommentError as error:
            raise ProblemError(HTTPStatus.NOT_FOUND, str(error)) from error
        except (WindowClosedError, OutboundConflictError) as error:
            raise ProblemError(HTTPStatus.CONFLICT, str(error)) from error
        except OutboxFullError as error:
            headers = {"Retry-After": "30"}
            raise ProblemError(HTTPStatus.TOO_MANY_REQUESTS, str(error), headers=headers) from error
        return _accepted(accepted)

    async def _replied_mid(self, key: ConversationKey, wanted: NewMessage) -> str | None:
        """Meta's id of the message that `wanted` answers. Raises ProblemError (422)."""
        if wanted.reply_to is None:
            return None
        mid = await self._store.mid_of(key, int(wanted.reply_to))
        if mid is None:
            raise _unprocessable("replyTo: there is no such message in this conversation, or it was taken back.")
        return mid


def _shown(one: StoredOutbound | None) -> web.Response:
    if one is None:
        raise not_found("outbound message")
    return answer(OutboundResource.of(one))


def _accepted(one: StoredOutbound) -> web.Response:
    headers = {"Location": f"{PATH}/{one.id}"}
    return answer(OutboundResource.of(one), status=HTTPStatus.ACCEPTED, headers=headers)


def _fingerprint(kind: OutboundKind, key: ConversationKey, comment_id: str | None, wanted: NewMessage) -> bytes:
    """What tells two requests apart. To whom and what count, not how the JSON is written."""
    told = msgspec.json.encode((kind, *key, comment_id, wanted), order="deterministic")
    return hashlib.blake2b(told, digest_size=16).digest()


def _unprocessable(detail: str) -> ProblemError:
    return ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, detail)
