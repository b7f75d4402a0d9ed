"""Reads one account's mailbox for an import: retries, waits, and what a conversation's messages are."""

from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, TypeVar

from inboxd.accounts.managed_account import ManagedAccount
from inboxd.domain.budget import Priority
from inboxd.domain.mailbox import ListedConversation, ListedMessage, Page, SeenPages
from inboxd.domain.retry import FailureAction, RetryPolicy, decide
from inboxd.meta.conversations_client import MESSAGES, MOST_LISTED, ConversationsClient
from inboxd.meta.graph_errors import GraphError
from inboxd.runtime.backoff import Backoff
from inboxd.runtime.clock import Clock

T = TypeVar("T")
CONVERSATIONS: Final = 100
"""Conversations of one page of the list."""
MOST_MESSAGES: Final = 1000
"""Messages of one conversation that are imported, the newest. Of all but the first few Meta shows only the ids."""
MOST_PAGES: Final = 100
"""Pages of one conversation's messages that are read."""
LIST: Final = RetryPolicy(attempts=8, backoff=Backoff(), rest_s=0, longest_rest_s=0)
"""Without a page of the list nothing can go on, so it is tried longer than a conversation is."""
CONVERSATION: Final = RetryPolicy(attempts=4, backoff=Backoff(base_s=0.5), rest_s=0, longest_rest_s=0)
REFUSED_REST_S: Final = 60.0
LONGEST_REFUSED_S: Final = 3600.0
"""Rest after Meta refused the account's messages, twice as long each time."""
HOST_BACKOFF: Final = Backoff(cap_s=60)
MOST_SILENCES: Final = 8
"""After so many calls in a row without an answer, it is found out whether Meta answers other calls."""


class FailedReadError(Exception):
    """What was wanted could not be read: the last error, after so many attempts."""

    def __init__(self, error: GraphError, attempts: int) -> None:
        super().__init__(str(error))
        self.error = error
        self.attempts = attempts


class ReadMessages(NamedTuple):
    """The newest messages of a conversation, the first of them read at `read_at` (ms)."""

    messages: list[ListedMessage]
    read_at: int


class MailboxReader:
    """Reads the mailbox of one account at the priority of history.

    A failure of the account or of Meta's host counts as no attempt: `until_callable` and the rests wait until it has
    passed. Other failures are tried again a few times, with back-off.
    """

    def __init__(
        self,
        managed: ManagedAccount,
        clock: Clock,
        random: Callable[[], float],
        until_callable: Callable[[], Awaitable[None]],
    ) -> None:
        account = managed.account
        self._managed = managed
        self._client = ConversationsClient(managed.graph, account.login_type, page_id=account.page_id)
        self._clock = clock
        self._random = random
        self._until_callable = until_callable

    async def conversations(self, after: str | None) -> Page[ListedConversation]:
        """A page of the list. Raises FailedReadError."""
        return await self._read(
            lambda: self._client.conversations(after=after, limit=CONVERSATIONS, priority=Priority.HISTORY), LIST
        )

    async def messages(self, api_id: str, since: int) -> ReadMessages:
        """The newest messages of a conversation, those from before `since` (ms) left out. Raises FailedReadError."""
        found: dict[str, ListedMessage] = {}
        after: str | None = None
        read_at, seen = 0, SeenPages()
        for number in range(MOST_PAGES):
            limit = MOST_LISTED if number else MESSAGES
            page = await self._read_messages(api_id, after, limit)
            read_at = read_at or self._clock.now_ms()
            found |= {one.id: one for one in page if one.id not in found and (one.created_time or since) >= since}
            is_old = bool(page.items) and all((one.created_time or since) < since for one in page)
            after = page.after
            if not seen.goes_on(page) or is_old or len(found) >= MOST_MESSAGES:
                break
        return ReadMessages(list(found.values())[:MOST_MESSAGES], read_at)

    async def _read_messages(self, api_id: str, after: str | None, limit: int) -> Page[ListedMessage]:
        return await self._read(
            lambda: self._client.messages(api_id, after=after, limit=limit, priority=Priority.HISTORY), CONVERSATION
        )

    async def _read(self, call: Callable[[], Awaitable[T]], policy: RetryPolicy) -> T:
        attempt, silences = 1, 0
        throttle = self._managed.graph.conversations_throttle
        while True:
            await self._until_callable()
            try:
                found = await call()
            except GraphError as error:
                if error.of_host:
                    silences += 1
                    if silences >= MOST_SILENCES and await self._host_answers():
                        raise FailedReadError(error, silences) from error
                    await self._rest(silences)
                    continue
                if error.action is FailureAction.LACKS_PERMISSION:
                    throttle.trip_longer(str(error), first_s=REFUSED_REST_S, longest_s=LONGEST_REFUSED_S)
                if error.action in {
                    FailureAction.LACKS_PERMISSION, FailureAction.NEEDS_LOGIN, FailureAction.WAIT_FOR_BUDGET
                }:  # fmt: skip
                    continue  # the next call waits, for a login or for the throttle
                decision = decide(error.action, attempt, policy, self._random)
                if decision.exhausted:
                    raise FailedReadError(error, attempt) from error
                await self._clock.sleep(decision.delay_s or 0.0)
                attempt, silences = attempt + 1, 0
                continue
            if throttle.strikes:
                throttle.reset()
            return found

    async def _host_answers(self) -> bool:
        """Whether Meta answers the smallest call of this API: then it is this one that it cannot answer."""
        try:
            await self._client.conversations(limit=1, priority=Priority.HISTORY)
        except GraphError as error:
            return not error.of_host
        return True

    async def _rest(self, silences: int) -> None:
        """Wait after so many calls in a row without an answer, unless the open circuit makes all calls wait anyway."""
        if not self._managed.graph.circuit.strikes:
            await self._clock.sleep(HOST_BACKOFF.delay_s(silences, self._random))
