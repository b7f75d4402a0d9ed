"""The client for the Conversations API of one account.

Every call waits for the account's budget, at the priority that the caller gives, and for the pace of this API. A page
that is too large for Meta is requested again with fewer items. Every other failure is a classified GraphError, and the
caller decides whether and when to try again.
"""

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, TypeVar

from inboxd.domain.account import LoginType
from inboxd.domain.budget import Priority
from inboxd.domain.mailbox import Detail, ListedConversation, ListedMessage, Page
from inboxd.domain.retry import FailureAction
from inboxd.meta import answers
from inboxd.meta.account_graph import AccountGraph
from inboxd.meta.graph_errors import GraphError, unusable
from inboxd.meta.mailbox_decoding import conversations_page, listed_message, messages_page, node_id

T = TypeVar("T")
CONVERSATION_FIELDS: Final = "id,updated_time,participants"
MESSAGE_FIELDS: Final = (
    "id,created_time,from,to,message,attachments,shares{link},story,reactions,is_unsupported",
    "id,created_time,from,to,message",
)
"""All fields that a message may have, and those that are documented. The first are tried first."""
ID_FIELDS: Final = "id,created_time"
"""The fields that Meta shows of every message, however old."""
CONVERSATIONS: Final = 50
"""Conversations of one page, unless the caller wants another number."""
MESSAGES: Final = 20
"""Messages of one page. Meta shows the details of so many of the newest."""
MOST_LISTED: Final = 200
SMALLEST: Final = 5
"""A page over which Meta breaks down without saying why does not become smaller than this."""
GROWS_AFTER: Final = 10
"""After so many pages without trouble a page that was made smaller doubles again."""
_UNKNOWN_PATH: Final = 2500
_BAD_PARAMETER: Final = 100
_DELETED: Final = 9000001
_BREAKDOWNS: Final = frozenset({1, 2})


class PageSize:
    """How many items to request. It halves when Meta wants less, and grows again slowly."""

    def __init__(self) -> None:
        self._most = MOST_LISTED
        self._well = 0
        self._troubles = 0

    def of(self, wanted: int) -> int:
        """The number to request when the caller wants `wanted` items."""
        return max(1, min(wanted, self._most))

    def shrink(self, requested: int) -> bool:
        """Note that `requested` items were too many. Returns False when there is no smaller page."""
        self._well = 0
        self._most = max(1, min(self._most, requested // 2))
        return requested > 1

    def failed(self, requested: int) -> None:
        """Note that Meta broke down over a page. When it does so again and again, the page may be too much for it."""
        self._troubles += 1
        if self._troubles > 1 and requested > SMALLEST:
            self._well = 0
            self._most = max(SMALLEST, min(self._most, requested // 2))

    def succeeded(self) -> None:
        """Note that a page came without trouble."""
        self._troubles = 0
        self._well += 1
        if self._well >= GROWS_AFTER:
            self._well = 0
            self._most = min(MOST_LISTED, self._most * 2)


class _Form(NamedTuple):
    """A way to request messages. Meta does not document which ways work for which product."""

    edge: bool
    """By `/{conversation}/messages`; otherwise by the field `messages` of the conversation."""
    fields: str


class _MessagesRead(NamedTuple):
    """Which page of messages to request."""

    conversation_id: str
    after: str | None
    size: int
    priority: Priority


class ConversationsClient:
    """Reads the conversations and messages of one account.

    `page_id` is the Facebook Page of an account with Facebook Login. Without it, the token's own Page is read.
    """

    def __init__(self, graph: AccountGraph, login_type: LoginType, *, page_id: str | None = None) -> None:
        self._graph = graph
        page = answers.identifier(page_id) if login_type is LoginType.FACEBOOK else None
        self._list_path = f"{page or 'me'}/conversations"
        self._forms = [_Form(edge, fields) for edge in (True, False) for fields in MESSAGE_FIELDS]
        self._settled = False
        self._conversation_size, self._message_size = PageSize(), PageSize()

    async def conversations(
        self,
        *,
        after: str | None = None,
        limit: int = CONVERSATIONS,
        user_id: str | None = None,
        priority: Priority = Priority.RECONCILIATION,
    ) -> Page[ListedConversation]:
        """A page of the account's conversations, in no promised order; with `user_id`, only those with that person.

        `after` is the cursor of an earlier page. The page may have fewer items than `limit`. Raises GraphError.
        """
        fixed = {"platform": "instagram", "fields": CONVERSATION_FIELDS}
        fixed |= {} if after is None else {"after": after}
        if user_id is not None:
            if answers.identifier(user_id) is None:
                return Page(())
            fixed["user_id"] = user_id

        async def page(size: int) -> Page[ListedConversation]:
            fields = {**fixed, "limit": str(size)}
            return conversations_page(await self._graph.read_conversations(self._list_path, fields, priority), after)

        return await _sized(page, self._conversation_size, limit)

    async def messages(
        self,
        conversation_id: str,
        *,
        after: str | None = None,
        limit: int = MESSAGES,
        priority: Priority = Priority.RECONCILIATION,
    ) -> Page[ListedMessage]:
        """A page of a conversation's messages, usually the newest first. Only the newest have their details.

        `after` is the cursor of an earlier page. The page may have fewer items than `limit`. When Meta refuses a page
        because some of its messages are old, only ids and times are requested. Raises GraphError.
        """
        found = _node(conversation_id)

        async def page(size: int) -> Page[ListedMessage]:
            read = _MessagesRead(found, after, size, priority)
            try:
                return await self._in_a_form_that_works(lambda form: self._messages(read, form), fields_only=False)
            except GraphError as error:
                if not is_said_to_be_deleted(error):
                    raise
            if after is None and size > MESSAGES:
                return await page(MESSAGES)
            return await self._messages(read, self._forms[0]._replace(fields=ID_FIELDS))

        return await _sized(page, self._message_size, limit)

    async def message(self, mid: str, *, priority: Priority = Priority.RECONCILIATION) -> ListedMessage:
        """One message by its id, which is the `mid` of webhooks.

        Meta says of old messages that they were deleted. The result has then no details, which says nothing about
        whether the message exists. Raises GraphError for all other failures.
        """
        found = _node(mid)
        try:
            fields = await self._in_a_form_that_works(
                lambda form: self._graph.read_conversations(found, {"fields": form.fields}, priority), fields_only=True
            )
        except GraphError as error:
            if is_said_to_be_deleted(error):
                return ListedMessage(found, None, Detail.UNAVAILABLE)
            raise
        message = listed_message({"id": found, **fields})
        if message is None or message.id != found:
            msg = "another message than the requested one"
            raise unusable(msg)
        return message

    async def _messages(self, read: _MessagesRead, form: _Form) -> Page[ListedMessage]:
        path, after = read.conversation_id, read.after
        if form.edge:
            path, fields = f"{path}/messages", {"fields": form.fields, "limit": str(read.size)}
            fields |= {} if after is None else {"after": after}
        else:
            cursor = "" if after is None else f".after({after})"
            fields = {"fields": f"messages.limit({read.size}){cursor}{{{form.fields}}}"}
        return messages_page(await self._graph.read_conversations(path, fields, read.priority), after)

    async def _in_a_form_that_works(self, read: Callable[[_Form], Awaitable[T]], *, fields_only: bool) -> T:
        """The answer to the first form that Meta accepts. Once pages of messages come, their form is kept.

        `fields_only` tries only other fields, not another path. Raises the first GraphError when no form is accepted.
        """
        refusal: GraphError | None = None
        for form in list(self._forms):
            if fields_only and form.edge is not self._forms[0].edge:
                continue
            try:
                found = await read(form)
            except GraphError as error:
                if self._settled or not _may_be_the_form(error):
                    raise  # this form was understood
                refusal = refusal or error
                continue
            if not fields_only:
                self._settled, self._forms = True, [form]
            return found
        if refusal is None:  # pragma: no cover - there is always a form
            msg = "no form of request is left"
            raise AssertionError(msg)
        raise refusal


def is_said_to_be_deleted(error: GraphError) -> bool:
    """Whether Meta says of a message that it was deleted, which it also says of every old one."""
    return _DELETED in {error.code, error.subcode} or (
        error.action is FailureAction.GONE and error.code is not None and not error.row.ambiguous
    )


def _may_be_the_form(error: GraphError) -> bool:
    """Whether Meta may have refused a field or a path, and not the object or the account."""
    return error.code in {_BAD_PARAMETER, _UNKNOWN_PATH}


def _node(value: str) -> str:
    """The id, which becomes part of a URL. Raises GraphError when it is none that Meta could know."""
    found = node_id(value)
    if found is None:
        msg = "not an id that Meta could know"
        raise GraphError(msg, FailureAction.GONE)
    return found


async def _sized(page: Callable[[int], Awaitable[Page[T]]], size: PageSize, wanted: int) -> Page[T]:
    """A page of `wanted` items, or of fewer when Meta says that these are too many. Raises GraphError."""
    while True:
        requested = size.of(wanted)
        try:
            found = await page(requested)
        except GraphError as error:
            if not error.too_large or not size.shrink(requested):
                if error.of_host or error.code in _BREAKDOWNS:
                    size.failed(requested)
                raise
            continue
        size.succeeded()
        return found
