"""Finds out what became of a part when Meta's answer to its call was not seen. Its lane waits until then.

First among the stored messages, which its echo has joined; then by reading the conversation back, when what is new is
surely shown there. It is sent again only when it was proved twice, apart in time, that it is not there.
"""

import sqlite3
from collections.abc import Callable
from typing import Final

from inboxd.domain.outbound import OutboundState, PartState
from inboxd.meta.graph_errors import GraphError
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock
from inboxd.sending import delivery_store, matching_store
from inboxd.sending.channels import Channel
from inboxd.sending.delivery_store import LatestAttempt
from inboxd.sending.matching_store import Finding, Verdict
from inboxd.sending.metrics import SendingMetrics
from inboxd.sending.outbound import OutboundPart, StoredOutbound
from inboxd.sending.settlement import Settlement
from inboxd.storage.database import Database

FIRST_LOOK_MS: Final = 60_000
"""New messages are shown by the Conversations API after about 30 s."""
SECOND_LOOK_MS: Final = 180_000
FIRST_REST_MS: Final = 60_000
LONGEST_REST_MS: Final = 3_600_000
GIVE_UP_MS: Final = 86_400_000
"""After this a person has to look. An echo that comes later still resolves it."""
LOOKS: Final = 2
"""How often it must be proved that a part is absent."""


class Resolution:
    """Resolves the unknown parts of one account."""

    def __init__(
        self,
        database: Database,
        settlement: Settlement,
        clock: Clock,
        metrics: SendingMetrics,
        channel_of: Callable[[StoredOutbound], Channel],
    ) -> None:
        self._database = database
        self._settlement = settlement
        self._clock = clock
        self._metrics = metrics
        self._channel_of = channel_of
        self._began = clock.now_ms()
        self._absent: dict[int, int] = {}  # by part: how often it was proved to be absent since the last attempt
        self._unclear: dict[int, int] = {}
        self._not_before: dict[int, int] = {}
        """By part: when Meta may be asked next (ms). An echo brings it sooner to be looked at, but not at Meta."""
        self._log = logs.get("sending")

    async def resolve(self, one: StoredOutbound, part: OutboundPart) -> None:
        """Look once. Raises StorageError."""
        attempt = await self._database.reading(lambda connection: delivery_store.latest_attempt(connection, part.id))
        if attempt is None:
            return
        now = self._clock.now_ms()
        since = self._since(attempt)
        earliest = self._not_before.get(part.id, since + FIRST_LOOK_MS)
        if now < earliest:
            await self._look_later(one, part, earliest, one.reason or "")
            return
        try:
            found = await self._channel_of(one).look_for(one, part)
        except GraphError as error:
            found = Finding(Verdict.UNCLEAR, words=f"The conversation could not be read: {error}.")
        await self._conclude(one, part, since, found)

    async def postpone(self, one: StoredOutbound, part: OutboundPart, until: int) -> None:
        """Look at a part later, because Meta cannot be asked: at `until` (ms), or when its echo comes."""
        await self._look_later(one, part, until, "Whether it was sent is not known: the account cannot be used now.")
        self._not_before.pop(part.id, None)

    def _since(self, attempt: LatestAttempt) -> int:
        """When Meta had the request at the latest (ms). After a crash that is when this process began."""
        return self._began if attempt.ended_at is None else attempt.ended_at

    async def _conclude(self, one: StoredOutbound, part: OutboundPart, since: int, found: Finding) -> None:
        now = self._clock.now_ms()
        if found.verdict is Verdict.FOUND:
            await self._settle(one, part, found, lambda _connection: None)
        elif found.verdict is Verdict.UNCLEAR and now - (part.began_at or now) > GIVE_UP_MS:
            await self._leave_to_a_person(one, part, found.words)
        elif found.verdict is Verdict.UNCLEAR:
            rests = self._unclear[part.id] = self._unclear.get(part.id, 0) + 1
            rest_ms = min(FIRST_REST_MS * 2 ** min(rests - 1, 16), LONGEST_REST_MS)
            words = f"Whether it was sent is not known yet. {found.words}"
            await self._look_later(one, part, now + rest_ms, words)
        else:
            await self._is_absent(one, part, since)

    async def _is_absent(self, one: StoredOutbound, part: OutboundPart, since: int) -> None:
        now = self._clock.now_ms()
        looks = self._absent[part.id] = self._absent.get(part.id, 0) + 1
        if looks < LOOKS:
            words = "It is not there yet. It is looked for once more before it is sent again."
            await self._look_later(one, part, max(since + SECOND_LOOK_MS, now + FIRST_REST_MS), words)
            return
        states: list[OutboundState | None] = []

        def give_up(connection: sqlite3.Connection) -> None:
            states.append(self._settlement.absent(connection, one, part, now))

        if not await self._settle(one, part, None, give_up):
            self._forget(part.id)
            outcome = "failed" if states[-1] is OutboundState.FAILED else "again"
            self._metrics.resolved.labels(outcome).inc()
            self._log.warning("send_resolved", outbound_id=one.id, account_id=one.account_id, outcome=outcome)

    async def _look_later(self, one: StoredOutbound, part: OutboundPart, due_at: int, words: str) -> None:
        now = self._clock.now_ms()
        self._not_before[part.id] = due_at
        await self._settle(
            one, part, None, lambda connection: self._settlement.unclear(connection, one, part, due_at, words, now)
        )

    async def _leave_to_a_person(self, one: StoredOutbound, part: OutboundPart, why: str) -> None:
        now = self._clock.now_ms()
        words = (
            f"It could not be found out in a day whether it was sent. {why} Look into the conversation; then "
            "cancel it, or retry it with force."
        )
        if not await self._settle(
            one, part, None, lambda connection: self._settlement.unclear(connection, one, part, None, words, now)
        ):
            self._forget(part.id)
            self._metrics.resolved.labels("unresolved").inc()
            self._log.error("send_unresolved", outbound_id=one.id, account_id=one.account_id, reason=why)

    async def _settle(
        self,
        one: StoredOutbound,
        part: OutboundPart,
        found: Finding | None,
        otherwise: Callable[[sqlite3.Connection], None],
    ) -> bool:
        """Settle the part as sent if it was found, or is among the stored messages by now. Returns whether it is.

        `otherwise` runs in the same transaction when it is not: an echo that comes meanwhile is not overlooked.
        """
        now = self._clock.now_ms()

        def transaction(connection: sqlite3.Connection) -> Finding | None:
            seen = found or matching_store.find(connection, one, part)
            if seen.mid is not None and self._settlement.found(connection, one, part, seen, now):
                return seen
            otherwise(connection)
            return None

        settled = await self._database.write(transaction)
        if settled is None:
            return False
        self._forget(part.id)
        self._metrics.resolved.labels("sent").inc()
        self._log.info("send_resolved", outbound_id=one.id, account_id=one.account_id, outcome="sent")
        return True

    def _forget(self, part_id: int) -> None:
        self._absent.pop(part_id, None)
        self._unclear.pop(part_id, None)
        self._not_before.pop(part_id, None)


def unknown_part(one: StoredOutbound) -> OutboundPart | None:
    """The part of a message of which it is not known whether it was sent."""
    return next((part for part in one.parts if part.state is PartState.UNKNOWN), None)
