"""One check of an account: lists what changed at Meta, reads it, and stores what webhooks did not bring."""

import sqlite3
from collections.abc import Mapping
from functools import partial
from typing import Final, NamedTuple

import msgspec

from inboxd.accounts.managed_account import ManagedAccount
from inboxd.conversations.read_back import ReadBackService, Sides, identity_of, read_conversation, sides_of
from inboxd.conversations.read_back_store import Joined
from inboxd.domain.budget import Priority
from inboxd.domain.mailbox import ListedConversation, ListedMessage, SeenPages
from inboxd.domain.message import Source
from inboxd.domain.own_identity import OwnIdentity
from inboxd.domain.reconciliation import (
    OVERLAP_MS,
    Cause,
    Gap,
    Walk,
    floor_of,
    is_known_by,
    likely_cause,
    read_to,
    retry_pause,
    walk_pause,
)
from inboxd.domain.retry import FailureAction
from inboxd.meta.conversations_client import CONVERSATIONS, MESSAGES, ConversationsClient
from inboxd.meta.graph_errors import GraphError
from inboxd.reconciliation import healing_store, store
from inboxd.reconciliation.healing_store import Missed
from inboxd.reconciliation.metrics import ReconciliationMetrics
from inboxd.reconciliation.signals import DeliverySignals
from inboxd.reconciliation.store import AccountState, DueConversation, OpenCheck, ReconciliationStore
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import StorageError

PRIORITY: Final = Priority.RECONCILIATION
LARGE_PAGE: Final = 200
"""Items of each page after the first, where most of a list is wanted."""
MOST_PAGES: Final = 1000
"""Pages of the list. A longer one is not walked to its end in one check."""
MOST_MESSAGE_PAGES: Final = 20
"""Pages of one conversation's messages."""
AT_ONCE: Final = 20
"""Conversations that are taken from the database at once."""
MOST_LOGGED: Final = 100
"""Healed messages of one check that are logged each by itself."""
OF_ACCOUNT: Final = frozenset(
    {FailureAction.NEEDS_LOGIN, FailureAction.LACKS_PERMISSION, FailureAction.WAIT_FOR_BUDGET}
)
"""What says nothing about the conversation that was read."""


class Services(NamedTuple):
    """What the checks of all accounts share."""

    store: ReconciliationStore
    read_back: ReadBackService
    clock: Clock
    aliases: Mapping[str, str]
    signals: DeliverySignals
    metrics: ReconciliationMetrics


class _Messages(NamedTuple):
    """What was read of a conversation."""

    messages: list[ListedMessage]
    complete: bool
    """Whether Meta showed all that was wanted."""
    calls: int


def _undated(listed: ListedConversation) -> ListedConversation:
    return msgspec.structs.replace(listed, updated_time=None)


class CannotReadError(Exception):
    """A conversation cannot be read, for a reason that Meta did not give."""


class MailboxCheck:
    """The checks of one account. What it reads is durable conversation by conversation."""

    def __init__(self, managed: ManagedAccount, services: Services) -> None:
        self._managed = managed
        self._services = services
        self._account_id = managed.account.id
        self._client: ConversationsClient | None = None
        self._page_id: str | None = None
        self._own: OwnIdentity | None = None
        self._logged = 0
        self._log = logs.get("reconciliation").bind(account_id=self._account_id)

    @property
    def client(self) -> ConversationsClient:
        """The client for the account's Conversations API."""
        account = self._managed.account
        if self._client is None or self._page_id != account.page_id:
            self._client = ConversationsClient(self._managed.graph, account.login_type, page_id=account.page_id)
            self._page_id = account.page_id
        return self._client

    @property
    def free_calls(self) -> int:
        """How many calls may be made now."""
        return self._managed.graph.budget.free_for(PRIORITY)

    async def list_changes(self, state: AccountState, check: OpenCheck) -> bool:
        """List the conversations that changed since the last check. They are due from now on.

        Returns whether anything changed. Raises GraphError and StorageError; what was listed before stays due.
        """
        now, floor = self._services.clock.now_ms(), floor_of(state.checked_to)
        allowance = self._managed.graph.budget.allowance_for(PRIORITY)
        pause_ms, walked_at = walk_pause(state.walked_pages, allowance), state.walked_at
        rested = walked_at is None or not walked_at <= now < walked_at + pause_ms  # it may be from a wrong clock
        walk, after, complete, seen = Walk(floor), None, False, SeenPages()
        while walk.pages < MOST_PAGES:
            size = CONVERSATIONS if walk.ordered else LARGE_PAGE
            page = await self.client.conversations(after=after, limit=size, priority=PRIORITY)
            await self._services.store.count_calls(check, 1)
            found = [one if is_known_by(one.updated_time, now) else _undated(one) for one in page]
            walk = walk.with_page([one.updated_time for one in found])
            await self._note(found, floor, undated_at=now if rested else None)
            after, complete = page.after, page.after is None and not page.cut_off
            if complete or walk.reached or not seen.goes_on(page) or not (walk.ordered or rested):
                break
        if complete or walk.reached:
            newest = state.checked_to if walk.newest is None else min(walk.newest, now)
            whole = None if walk.ordered else (now, walk.pages)
            await self._services.store.walked(self._account_id, newest, whole=whole)
        elif rested:
            await self._services.store.walked(self._account_id, state.checked_to, whole=(now, walk.pages))
            self._log.warning("reconciliation_list_incomplete", pages=walk.pages)
        return walk.newest is not None and walk.newest > state.checked_to

    async def _note(self, found: list[ListedConversation], floor: int, *, undated_at: int | None) -> None:
        """Keep the listed conversations that changed. Those without a time count as changed at `undated_at`."""
        own = self._learn([one for one in found if one.participants])
        rows = []
        for one in found:
            updated = undated_at if one.updated_time is None else one.updated_time
            listed = ListedConversation(one.id, updated, one.participants)
            sides = sides_of(listed, self._account_id, own, self._services.aliases)
            rows.append((listed, None if sides is None else sides.key.participant_id))
        await self._services.store.listed(self._account_id, rows, read_to=floor)

    async def read_due(self, state: AccountState, check: OpenCheck) -> int:
        """Read the conversations that are due, while there are calls. Returns how many were read.

        Raises GraphError when the account cannot be asked just now, and StorageError. One that cannot be read is set
        aside for a while, and stays due.
        """
        read = 0
        gaps = await self._services.store.gaps(self._account_id, state.since)
        if self._own is None:
            self._learn([ListedConversation("", None, one) for one in await self._services.store.participants(
                self._account_id)])  # fmt: skip
        while due := await self._services.store.due(self._account_id, self._services.clock.now_ms(), AT_ONCE):
            for one in due:
                if self.free_calls <= 0:
                    return read
                read += await self._read_or_set_aside(one, state, check, gaps)
        return read

    async def _read_or_set_aside(
        self, due: DueConversation, state: AccountState, check: OpenCheck, gaps: list[Gap]
    ) -> bool:
        try:
            await self._read(due, state, check, gaps)
        except StorageError:
            raise
        except GraphError as error:
            if error.action in OF_ACCOUNT:
                raise
            await self._set_aside(due, str(error))
            if error.of_host and not due.attempts:  # the host has just listed; if it fails again, it is about this one
                raise
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one conversation, the others go on
            await self._set_aside(due, f"{type(error).__name__}: {error}")
        else:
            return True
        return False

    async def _set_aside(self, due: DueConversation, error: str) -> None:
        pause_ms = retry_pause(due.attempts + 1)
        self._services.metrics.failed.inc()
        self._log.warning(
            "conversation_not_read", attempt=due.attempts + 1, error=error, retry_in_s=round(pause_ms / 1000)
        )
        not_before = self._services.clock.now_ms() + pause_ms
        await self._services.store.failed(self._account_id, due, error, not_before)

    async def _read(self, due: DueConversation, state: AccountState, check: OpenCheck, gaps: list[Gap]) -> None:
        """Read one conversation and store it. Raises GraphError, StorageError and CannotReadError."""
        sides = sides_of(due.listed, self._account_id, self._own or self._learn([]), self._services.aliases)
        if sides is None:
            msg = "it cannot be told who the participant is"
            raise CannotReadError(msg)
        read_at = self._services.clock.now_ms()  # before it is read: what comes later is not part of it
        floor = state.since if due.erased_at is None else max(state.since, due.erased_at + 1)
        found = await self._messages(due.listed.id, max(floor, due.read_to - OVERLAP_MS))
        undated = due.erased_at is None  # of somebody who was erased, only what is certainly later
        wanted = [one for one in found.messages if (undated if one.created_time is None else one.created_time >= floor)]
        read = read_conversation(
            sides,
            wanted,
            self._services.aliases,
            source=Source.RECONCILED,
            read_at=read_at,
            undated_at=due.updated_time,
        )
        known_to = read_to(due.updated_time, read_at)
        not_before = 0 if known_to >= due.updated_time else due.updated_time + (read_at - known_to)
        missed: list[Missed] = []

        def also(connection: sqlite3.Connection, joined: Joined) -> None:
            missed.extend(self.record(connection, joined, check, gaps))
            if joined.erased_at is not None:
                store.mark_erased(connection, self._account_id, due.api_key, joined.erased_at)
            elif found.complete:
                store.mark_read(connection, self._account_id, due.api_key, known_to, not_before)
            store.count(connection, check.id, calls=found.calls, read=1, healed=len(missed))

        await self._services.read_back.store(read, emit=True, also=also)
        self.tell(missed)
        if not found.complete:
            msg = f"Meta shows only {len(found.messages)} of its messages"
            raise CannotReadError(msg)

    async def _messages(self, conversation_id: str, floor: int) -> _Messages:
        """The messages of a conversation that are newer than `floor` (ms). Raises GraphError."""
        found: list[ListedMessage] = []
        walk, after, complete, seen = Walk(floor), None, False, SeenPages()
        while walk.pages < MOST_MESSAGE_PAGES and not complete:
            size = MESSAGES if after is None else LARGE_PAGE
            page = await self.client.messages(conversation_id, after=after, limit=size, priority=PRIORITY)
            found += page.items
            walk, after = walk.with_page([one.created_time for one in page]), page.after
            complete = walk.reached or (after is None and not page.cut_off)
            if not seen.goes_on(page):
                break
        return _Messages(found, complete, walk.pages)

    def record(self, connection: sqlite3.Connection, joined: Joined, check: OpenCheck, gaps: list[Gap]) -> list[Missed]:
        """Record what webhooks had not brought, in the transaction that stores it."""
        return healing_store.record(
            connection,
            self._account_id,
            joined,
            check_id=check.id,
            now=self._services.clock.now_ms(),
            cause_of=partial(self._cause, gaps),
        )

    def _cause(self, gaps: list[Gap], mid: str, sent_at: int) -> Cause:
        return likely_cause(sent_at, gaps, accompanied=self._services.signals.accompanied(self._account_id, mid))

    def begin_log(self) -> None:
        """A check begins: its healed messages are logged each by itself."""
        self._logged = 0

    def tell(self, missed: list[Missed]) -> None:
        """Log and count what was stored."""
        for one in missed:
            delay_s = max(0, one.found_at - one.sent_at) // 1000
            self._services.metrics.missed.labels(one.cause.value).inc()
            if one.healed:
                self._services.metrics.healed.inc()
            self._logged += 1
            if self._logged > MOST_LOGGED:
                continue
            about = {"message_id": one.message_id, "conversation_id": one.conversation_id}
            if one.healed:
                self._log.info("message_healed", **about, delay_s=delay_s, cause=one.cause.value)
            else:
                self._log.info("message_unreadable", **about, delay_s=delay_s, cause=one.cause.value)

    def sides(self, parties: ListedConversation) -> Sides | None:
        """Who takes part, as far as it can be told."""
        return sides_of(parties, self._account_id, self._own or self._learn([]), self._services.aliases)

    def _learn(self, found: list[ListedConversation]) -> OwnIdentity:
        """How the API names the account, from what was known and what was listed."""
        fresh = identity_of(self._managed.account)
        ids = fresh.ids if self._own is None else self._own.ids | fresh.ids
        self._own = OwnIdentity(ids, fresh.username).learn([one.participants for one in found])
        return self._own
