"""Looks up single messages of which only a reaction, a read, an edit or a reply is known."""

import sqlite3
from collections import deque
from collections.abc import Sequence
from typing import Final

from inboxd.conversations.read_back import read_conversation
from inboxd.conversations.read_back_store import Joined
from inboxd.domain.mailbox import Detail, ListedConversation, ListedMessage
from inboxd.domain.message import Source
from inboxd.domain.reconciliation import HOUR_MS, MINUTE_MS, Gap, retry_pause
from inboxd.meta.graph_errors import GraphError
from inboxd.reconciliation import lookups_store, store
from inboxd.reconciliation.check import OF_ACCOUNT, PRIORITY, MailboxCheck, Services
from inboxd.reconciliation.healing_store import Missed
from inboxd.reconciliation.lookups_store import Lookup, LookupStore
from inboxd.reconciliation.signals import Hint
from inboxd.reconciliation.store import AccountState, OpenCheck
from inboxd.runtime import logs

PER_HOUR: Final = 10
"""Lookups of one account in an hour. Most are of messages that are too old to be shown."""
REACH_MS: Final = 24 * HOUR_MS
"""Changes that came earlier are not followed."""
MOST_ATTEMPTS: Final = 3


class MessageLookups:
    """The lookups of one account."""

    def __init__(self, account_id: str, services: Services, lookups: LookupStore, check: MailboxCheck) -> None:
        self._account_id = account_id
        self._services = services
        self._store = lookups
        self._check = check
        self._made: deque[float] = deque()
        """When lookups of the last hour were made, by the monotonic clock (s)."""
        self._log = logs.get("reconciliation").bind(account_id=account_id)

    async def unknown(self, hints: Sequence[Hint]) -> bool:
        """Whether a message that its companion hints at is not here. Notes what replies hint at, to be looked up.

        Raises StorageError.
        """
        missing = await self._store.missing(self._account_id, [one.mid for one in hints])
        replied = [one.mid for one in hints if not one.companion and one.mid in missing]
        if replied:
            await self._store.add(self._account_id, replied, self._services.clock.now_ms())
        accompanied = [one.mid for one in hints if one.companion and one.mid in missing]
        for mid in accompanied:
            self._services.signals.accompany(self._account_id, mid)
        return bool(accompanied)

    async def run(self, state: AccountState, check: OpenCheck) -> None:
        """Look up what is due, within the hour's number. Raises GraphError and StorageError."""
        now = self._services.clock.now_ms()
        await self._store.collect(self._account_id, now - REACH_MS, now - MINUTE_MS)
        moment = self._services.clock.monotonic()
        while self._made and self._made[0] <= moment - HOUR_MS / 1000:
            self._made.popleft()
        due = await self._store.due(self._account_id, now, PER_HOUR - len(self._made))
        if not due:
            return
        missing = await self._store.missing(self._account_id, [one.mid for one in due])
        gaps = await self._services.store.gaps(self._account_id, state.since)
        for one in due:
            if one.mid not in missing:
                await self._store.tried(self._account_id, one.mid, None)
            elif self._check.free_calls > 0:
                self._made.append(moment)
                await self._look_up(one, state, check, gaps)

    async def _look_up(self, wanted: Lookup, state: AccountState, check: OpenCheck, gaps: list[Gap]) -> None:
        now = self._services.clock.now_ms()
        try:
            message = await self._check.client.message(wanted.mid, priority=PRIORITY)
        except GraphError as error:
            if error.action in OF_ACCOUNT:
                raise
            if error.of_host and not wanted.attempts:  # if it fails again, it is about this one
                await self._store.tried(self._account_id, wanted.mid, now + retry_pause(1))
                raise
            self._log.info("message_not_found", attempt=wanted.attempts + 1, error=str(error))
            message = None
        await self._services.store.count_calls(check, 1)
        if message is None or message.detail is Detail.UNAVAILABLE or not await self._keep(message, state, check, gaps):
            last = wanted.attempts + 1 >= MOST_ATTEMPTS
            next_at = None if last else now + retry_pause(wanted.attempts + 1)
            await self._store.tried(self._account_id, wanted.mid, next_at)

    async def _keep(self, message: ListedMessage, state: AccountState, check: OpenCheck, gaps: list[Gap]) -> bool:
        """Store the message. Returns False when it cannot be told whose conversation it is of."""
        parties = message.recipients if message.sender is None else (message.sender, *message.recipients)
        sides = self._check.sides(ListedConversation(message.id, message.created_time, parties))
        if sides is None:
            return False
        now = self._services.clock.now_ms()
        is_recent = message.created_time is None or message.created_time >= state.since
        source = Source.RECONCILED if is_recent else Source.HISTORY
        read = read_conversation(sides, [message], self._services.aliases, source=source, read_at=now)
        missed: list[Missed] = []

        def also(connection: sqlite3.Connection, joined: Joined) -> None:
            if is_recent:
                missed.extend(self._check.record(connection, joined, check, gaps))
            store.count(connection, check.id, calls=0, read=0, healed=len(missed))
            lookups_store.done(connection, self._account_id, message.id)

        await self._services.read_back.store(read, emit=is_recent, also=also)
        self._check.tell(missed)
        return True
