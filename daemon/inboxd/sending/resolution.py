"""Finds out what became of a part when Meta's answer to its call was not seen. Its lane waits until then.

First among the stored messages, which its echo has joined; then by reading the conversation back, when what is new is
surely shown there. It is sent again only when it was proved twice, apart in time, that it is not there.
"""

import math
import sqlite3
from collections.abc import Callable, Collection
from typing import Final

from inboxd.domain.outbound import OutboundState, PartState
from inboxd.meta.graph_errors import GraphError
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import StorageError
from inboxd.sending import delivery_store, matching_store
from inboxd.sending.channels import Channel
from inboxd.sending.delivery_store import LatestAttempt
from inboxd.sending.matching_store import Finding, Verdict
from inboxd.sending.metrics import SendingMetrics
from inboxd.sending.outbound import OutboundPart, StoredOutbound
from inboxd.sending.settlement import Settlement
from inboxd.sending.store import OutboundStore
from inboxd.storage.database import Database

FIRST_LOOK_S: Final = 60.0
"""New messages are shown by the Conversations API after about 30 s."""
SECOND_LOOK_S: Final = 180.0
FIRST_REST_S: Final = 60.0
LONGEST_REST_S: Final = 3600.0
GIVE_UP_MS: Final = 86_400_000
"""After this a person has to look. An echo that comes later still resolves it."""
LOOKS: Final = 2
"""How often it must be proved that a part is absent."""


class _Search:
    """What is known of one attempt whose answer was not seen. Times are monotonic seconds: clocks of days are set."""

    def __init__(self, attempt: LatestAttempt, since: float) -> None:
        self.attempt = (attempt.id, attempt.began_at)
        """Both: SQLite may give the id of what was erased again."""
        self.since = since
        """When Meta had the request at the latest."""
        self.not_before = since + FIRST_LOOK_S
        """When Meta may be asked next. An echo brings it sooner to be looked at, but not at Meta."""
        self.absent = 0
        """How often it was proved to be absent."""
        self.unclear = 0


class Resolution:
    """Resolves the unknown parts of one account."""

    def __init__(
        self,
        account_id: str,
        database: Database,
        settlement: Settlement,
        clock: Clock,
        metrics: SendingMetrics,
        channel_of: Callable[[StoredOutbound], Channel],
    ) -> None:
        self._database = database
        self._store = OutboundStore(database.read)
        self._settlement = settlement
        self._clock = clock
        self._metrics = metrics
        self._channel_of = channel_of
        self._began = clock.monotonic()
        self._searches: dict[int, _Search] = {}  # by part
        self.unexplained: set[int] = set()
        """Unknown messages that became messages that may be stored by now: they are looked for at the next `recall`."""
        self._log = logs.get("sending").bind(account_id=account_id)

    async def resolve(self, one: StoredOutbound, part: OutboundPart) -> None:
        """Look once. Raises StorageError."""
        attempt = await self._database.reading(lambda connection: delivery_store.latest_attempt(connection, part.id))
        if attempt is None:
            return
        search = self._search(part, attempt)
        wait_s = search.not_before - self._clock.monotonic()
        if wait_s > 0:
            await self._look_later(one, part, wait_s, one.reason or "")
            return
        try:
            found = await self._channel_of(one).look_for(one, part)
        except GraphError as error:
            found = Finding(Verdict.UNCLEAR, words=f"The conversation could not be read: {error}.")
        await self._conclude(one, part, search, found)

    async def recall(self, busy: Collection[int]) -> None:
        """Settle those of `unexplained` whose messages are stored, but for those in `busy`. Raises StorageError.

        Meta is not asked: this does not wait for those that wait to ask it.
        """
        for outbound_id in self.unexplained.difference(busy):
            self.unexplained.discard(outbound_id)
            try:
                await self._recall_one(outbound_id)
            except StorageError:
                self.unexplained.add(outbound_id)
                raise
            except Exception:  # noqa: BLE001 - it is set aside when it is due
                self._log.exception("sending_crashed", outbound_id=outbound_id)

    async def _recall_one(self, outbound_id: int) -> None:
        one = await self._store.get(outbound_id)
        part = None if one is None else unknown_part(one)
        if one is None or part is None:
            return
        found = await self._database.reading(lambda connection: matching_store.find(connection, one, part))
        if found.mid is not None:
            await self._settle(one, part, None, lambda _connection: None)

    async def postpone(self, one: StoredOutbound, part: OutboundPart, until: int) -> None:
        """Look at a part later, because Meta cannot be asked: at `until` (ms), or when its echo comes."""
        words = "Whether it was sent is not known: the account cannot be used now."
        await self._look_later(one, part, (until - self._clock.now_ms()) / 1000, words)

    def _search(self, part: OutboundPart, attempt: LatestAttempt) -> _Search:
        """The search for the latest attempt. A person may have made another one since."""
        search = self._searches.get(part.id)
        if search is None or search.attempt != (attempt.id, attempt.began_at):
            search = self._searches[part.id] = _Search(attempt, self._since(attempt))
        return search

    def _since(self, attempt: LatestAttempt) -> float:
        """When Meta had the request at the latest. Of what an earlier process sent, that is when this one began."""
        if attempt.ended_at is None:
            return self._began
        ago_s = max(0.0, (self._clock.now_ms() - attempt.ended_at) / 1000)
        return max(self._began, self._clock.monotonic() - ago_s)  # whatever became of the time of day

    async def _conclude(self, one: StoredOutbound, part: OutboundPart, search: _Search, found: Finding) -> None:
        now = self._clock.now_ms()
        if found.verdict is Verdict.FOUND:
            await self._settle(one, part, found, lambda _connection: None)
        elif found.verdict is Verdict.UNCLEAR and now - (part.began_at or now) > GIVE_UP_MS:
            await self._leave_to_a_person(one, part, found.words)
        elif found.verdict is Verdict.UNCLEAR:
            search.unclear += 1
            rest_s = min(FIRST_REST_S * 2 ** min(search.unclear - 1, 16), LONGEST_REST_S)
            await self._rest(one, part, search, rest_s, f"Whether it was sent is not known yet. {found.words}")
        else:
            await self._is_absent(one, part, search)

    async def _is_absent(self, one: StoredOutbound, part: OutboundPart, search: _Search) -> None:
        now = self._clock.now_ms()
        search.absent += 1
        if search.absent < LOOKS:
            words = "It is not there yet. It is looked for once more before it is sent again."
            rest_s = max(search.since + SECOND_LOOK_S - self._clock.monotonic(), FIRST_REST_S)
            await self._rest(one, part, search, rest_s, words)
            return
        states: list[OutboundState | None] = []

        def give_up(connection: sqlite3.Connection) -> None:
            states.append(self._settlement.absent(connection, one, part, now))

        if not await self._settle(one, part, None, give_up) and states[-1] is not None:
            self._forget(part.id)
            outcome = "failed" if states[-1] is OutboundState.FAILED else "again"
            self._metrics.resolved.labels(outcome).inc()
            self._log.warning("send_resolved", outbound_id=one.id, outcome=outcome)

    async def _rest(self, one: StoredOutbound, part: OutboundPart, search: _Search, rest_s: float, words: str) -> None:
        search.not_before = self._clock.monotonic() + rest_s
        await self._look_later(one, part, rest_s, words)

    async def _look_later(self, one: StoredOutbound, part: OutboundPart, wait_s: float, words: str) -> None:
        now = self._clock.now_ms()
        due_at = now + math.ceil(wait_s * 1000)
        await self._settle(
            one, part, None, lambda connection: self._settlement.unclear(connection, one, part, due_at, words, now)
        )

    async def _leave_to_a_person(self, one: StoredOutbound, part: OutboundPart, why: str) -> None:
        now = self._clock.now_ms()
        words = (
            f"It could not be found out in a day whether it was sent. {why} Look into the conversation; then "
            "cancel it, or retry it with '?force=true'."
        )
        if not await self._settle(
            one, part, None, lambda connection: self._settlement.unclear(connection, one, part, None, words, now)
        ):
            self._forget(part.id)
            self._metrics.resolved.labels("unresolved").inc()
            self._log.error("send_unresolved", outbound_id=one.id, reason=why)

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
        self._log.info("send_resolved", outbound_id=one.id, outcome="sent")
        return True

    def _forget(self, part_id: int) -> None:
        self._searches.pop(part_id, None)


def unknown_part(one: StoredOutbound) -> OutboundPart | None:
    """The part of a message of which it is not known whether it was sent."""
    return next((part for part in one.parts if part.state is PartState.UNKNOWN), None)
