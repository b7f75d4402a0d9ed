"""`/outbox`: everything that was asked to be sent and what became of it, the latest first."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from http import HTTPStatus
from typing import Final, NamedTuple
from urllib.parse import urlencode

from aiohttp import web

from inboxd.accounts.manager import AccountManager
from inboxd.conversations.display import displayed
from inboxd.conversations.store import ConversationStore
from inboxd.domain.conversation import Conversation
from inboxd.domain.outbound import OutboundState
from inboxd.domain.paging import Place
from inboxd.http import cursors
from inboxd.http.auth import SCOPES
from inboxd.http.operations import not_found, path_id
from inboxd.http.rendering import choice_of, page, see_other
from inboxd.sending.comment_source import CommentLinks
from inboxd.sending.outbound import NotNowError, StoredOutbound, WindowClosedError
from inboxd.sending.pages import is_forced
from inboxd.sending.resources import OutboundResource
from inboxd.sending.service import OutboxService
from inboxd.sending.store import OutboundFilter, OutboundStore
from inboxd.storage.database import Database

PATH: Final = "/outbox"
LIMIT: Final = 50
_MAX_ID: Final = 100
_WORDS: Final[Mapping[OutboundState, str]] = {
    OutboundState.QUEUED: "waiting",
    OutboundState.SENDING: "sending",
    OutboundState.UNKNOWN: "not known whether sent",
    OutboundState.FAILED: "not sent",
    OutboundState.SENT: "sent",
    OutboundState.DELIVERED: "delivered",
    OutboundState.READ: "read",
    OutboundState.CANCELED: "canceled",
}
_STATES: Final = {one.value: one for one in _WORDS}


class OutboxRow(NamedTuple):
    """An outbound message, its conversation if there is one, and the page of the comment that it answers."""

    one: OutboundResource
    conversation: Conversation | None
    comment_path: str | None

    @property
    def words(self) -> str:
        """Its state in words."""
        return _WORDS[self.one.state]

    @property
    def tone(self) -> str:
        """How much its state needs a person."""
        tones = {OutboundState.FAILED: "bad", OutboundState.UNKNOWN: "mild", OutboundState.QUEUED: "mild"}
        if self.one.state in {OutboundState.SENT, OutboundState.DELIVERED, OutboundState.READ}:
            return "good"
        return tones.get(self.one.state, "faint")

    @property
    def code(self) -> str:
        """Meta's code, with its subcode where there is one. Empty when Meta gave none, or the reason has it already."""
        found = (self.one.meta_code, self.one.meta_subcode)
        text = "/".join(str(code) for code in found if code is not None)
        return "" if text in (self.one.reason or "") else text

    @property
    def attempts(self) -> int:
        """Calls to Meta, of all parts together."""
        return sum(part.attempts for part in self.one.parts)


class Choice(NamedTuple):
    """What of the outbox is shown. `before` is a cursor as it came."""

    state: OutboundState | None
    account_id: str
    before: str | None

    @classmethod
    def of(cls, request: web.Request) -> "Choice":
        """What the query of a request asks for. Raises ProblemError for a cursor or a state that is none."""
        before = request.query.get("before")
        cursors.parsed(before)
        return cls(choice_of(request, "state", _STATES), request.query.get("account", "")[:_MAX_ID], before)

    @property
    def query(self) -> str:
        """The same as a query, with its question mark; empty when everything is shown from the first page."""
        wanted = {"state": self.state and self.state.value, "account": self.account_id, "before": self.before}
        text = urlencode({name: value for name, value in wanted.items() if value})
        return f"?{text}" if text else ""


def path_of(account_id: str, state: OutboundState) -> str:
    """The page with what is in a state of one account."""
    return PATH + Choice(state, account_id, None).query


class OutboxPages:
    """The list of all outbound messages. What is not sent is canceled and tried again there."""

    def __init__(self, database: Database, outbox: OutboxService, accounts: AccountManager) -> None:
        self._store = OutboundStore(database.read)
        self._conversations = ConversationStore(database.read)
        self._outbox = outbox
        self._accounts = accounts
        self.comment_links: CommentLinks | None = None
        """Given by the feature that keeps comments."""

    def add_routes(self, app: web.Application) -> None:
        """Put the page and its forms on the admin application."""
        app.router.add_get(PATH, self.all, allow_head=False)
        for how, handler in (("retry", self.retry), ("cancel", self.cancel)):
            path = f"{PATH}/{{outbound}}/{how}"
            app.router.add_post(path, handler)
            app[SCOPES]["POST", path] = "send"

    async def all(self, request: web.Request) -> web.Response:
        """A page of outbound messages. `state` and `account` narrow it down."""
        return await self._list(request)

    async def retry(self, request: web.Request) -> web.Response:
        """Send a message once more."""
        force = is_forced(request)
        return await self._changed(request, lambda outbound_id: self._outbox.retry(outbound_id, force=force))

    async def cancel(self, request: web.Request) -> web.Response:
        """Do not send a message."""
        return await self._changed(request, self._outbox.cancel)

    async def _changed(
        self, request: web.Request, change: Callable[[int], Awaitable[StoredOutbound | None]]
    ) -> web.Response:
        choice = Choice.of(request)  # an address that is wrong changes nothing
        try:
            changed = await change(path_id(request, "outbound message", "outbound"))
        except (NotNowError, WindowClosedError) as error:
            return await self._list(request, str(error), status=HTTPStatus.CONFLICT)
        if changed is None:
            raise not_found("outbound message")
        return see_other(PATH + choice.query)

    async def _list(
        self, request: web.Request, problem: str | None = None, *, status: HTTPStatus = HTTPStatus.OK
    ) -> web.Response:
        choice = Choice.of(request)
        before = cursors.parsed(choice.before)
        condition = OutboundFilter(
            state=choice.state,
            account_id=choice.account_id or None,
            before_id=None if before is None else before.id,
        )
        found = await self._store.page(condition, limit=LIMIT)
        last = found[-1] if len(found) == LIMIT else None
        following = None if last is None else cursors.of(Place(last.created_at, last.id))
        accounts = self._choice(choice.account_id, found)
        context = {
            "displayed": displayed,
            "rows": await self._rows(found),
            "choice": choice,
            "states": {state.value: words for state, words in _WORDS.items()},
            "accounts": accounts,
            "names": {one.account_id: self._name(one.account_id) for one in found} if accounts else {},
            "following": None if following is None else PATH + choice._replace(before=following).query,
            "problem": problem,
        }
        return page(request, "outbox.html", context, status=status)

    async def _rows(self, found: Sequence[StoredOutbound]) -> list[OutboxRow]:
        ids = {one.conversation_id for one in found if one.conversation_id is not None}
        conversations = {one.id: one for one in await self._conversations.of_ids(sorted(ids))}
        keys = sorted({(one.account_id, one.comment_id) for one in found if one.comment_id is not None})
        paths = {} if self.comment_links is None or not keys else await self.comment_links(keys)
        return [
            OutboxRow(
                OutboundResource.of(one),
                conversations.get(one.conversation_id or 0),
                paths.get((one.account_id, one.comment_id or "")),
            )
            for one in found
        ]

    def _name(self, account_id: str) -> str:
        managed = self._accounts.served.get(account_id)
        return f"{account_id}, not served" if managed is None else managed.account.display_name

    def _choice(self, chosen: str, found: Sequence[StoredOutbound]) -> list[tuple[str, str]]:
        """The accounts to choose from, each with its name. Empty when there is only one."""
        ids = {*self._accounts.served, *([chosen] if chosen else []), *(one.account_id for one in found)}
        if len(ids) < 2:
            return []
        return sorted(((one, self._name(one)) for one in ids), key=lambda pair: pair[1].lower())
