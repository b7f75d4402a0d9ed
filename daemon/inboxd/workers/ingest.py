"""Understand: from stored deliveries to conversations and messages, in arrival order, exactly once."""

import asyncio
import sqlite3
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from inboxd import logs
from inboxd.clock import Clock
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.message import MessageChange
from inboxd.domain.retry import DELIVERY_HANDLING, Remedy, decide
from inboxd.errors import StorageError
from inboxd.meta import events
from inboxd.meta.events import Event
from inboxd.metrics import Metrics
from inboxd.store import conversations, profiles
from inboxd.store import events as kept_events
from inboxd.store.database import Database
from inboxd.store.events import KeptEvent
from inboxd.store.inbox import Inbox, PendingDelivery, mark_done, mark_failed, mark_postponed
from inboxd.store.profile_cache import ProfileCache
from inboxd.store.profiles import FetchedProfile
from inboxd.workers.feed import Feed
from inboxd.workers.translate import translate

BATCH: Final = 200
"""Deliveries read at once; they become one transaction."""
RUSH_BATCH: Final = 60
"""The same during a rush: senders wait for this transaction."""
LINGER_S: Final = 0.02
"""Pause before the next batch, so that a few deliveries make one transaction. A full batch is followed at once."""
RUSH: Final = 32.0
"""Senders that wait for the disk on average when it is a rush: receiving then comes first…"""
RUSH_REST_S: Final = 0.5
"""…but understanding goes on at least this often…"""
MAX_LAG_MS: Final = 3000
"""…and when it is this far behind, it goes at full speed until it has caught up, whoever waits…"""
LATE_BATCH: Final = 500
"""…in large transactions, which cost the least for each delivery."""
SLICE_S: Final = 0.003
"""How long decoding holds the event loop before it lets requests in."""
STORAGE_REST_S: Final = 1.0
"""Pause before trying again when the disk refuses."""
_MAX_KINDS: Final = 100
_MAX_ERROR: Final = 1000


class _Meaning(NamedTuple):
    """What one event of a delivery means, ready to be stored."""

    delivery_id: int
    kind: str
    key: ConversationKey | None
    change: MessageChange | None
    kept: KeptEvent | None
    participant_wrote: bool


@dataclass(slots=True)
class _Handled:
    """A delivery that was decoded: what it means, and what was wrong with it."""

    delivery: PendingDelivery
    meanings: list[_Meaning] = field(default_factory=list)
    problem: str | None = None
    hopeless: bool = False
    """Trying again cannot help: the body is no webhook payload."""


class Ingest:
    """Processes deliveries. `on_due` is told who wrote, once the fetches that this makes due are committed."""

    name = "ingest"

    def __init__(
        self,
        database: Database,
        inbox: Inbox,
        cache: ProfileCache,
        *,
        accounts: Mapping[str, str],
        clock: Clock,
        metrics: Metrics,
        random: Callable[[], float],
        on_due: Callable[[Collection[ConversationKey]], None],
        feed: Feed,
    ) -> None:
        self._database = database
        self._inbox = inbox
        self._cache = cache
        self._accounts = accounts
        self._clock = clock
        self._metrics = metrics
        self._random = random
        self._on_due = on_due
        self._feed = feed
        self._log = logs.get("ingest")
        self._unknown_seen: set[str] = set()
        self._late = False
        self._stopping = False

    async def run(self) -> None:
        """Process deliveries as they arrive, until `stop`."""
        while not self._stopping:
            self._inbox.arrived.clear()
            try:
                if await self.process():
                    await self._let_receivers_go_first()
                else:
                    await self._clock.wait(self._inbox.arrived, await self._idle_s())
            except StorageError as error:
                self._log.warning("ingest_waits_for_storage", error=str(error))
                await self._clock.sleep(STORAGE_REST_S)

    def stop(self) -> None:
        """End `run` after the batch in hand."""
        self._stopping = True
        self._inbox.arrived.set()

    async def process(self) -> int:
        """Process one batch of what is due; returns how many deliveries were looked at.

        Raises StorageError when the disk refuses; nothing is counted as an attempt then.
        """
        limit = self._batch()
        pending = await self._inbox.pending(limit)
        if len(pending) < limit:
            self._late = False
        elif self._clock.now_ms() - pending[0].received_at > MAX_LAG_MS:
            self._late = True
        if not pending:
            return 0
        batch = await self._decode(pending)
        try:
            meanings = [meaning for handled in batch for meaning in handled.meanings]
            await self._store(meanings, done=[handled.delivery.id for handled in batch if handled.problem is None])
        except StorageError:
            raise
        except Exception:  # noqa: BLE001 - one of them cannot be stored: find out which
            for handled in batch:
                with _lines_of(handled.delivery):
                    await self._store_alone(handled)
        for handled in (one for one in batch if one.problem is not None):
            with _lines_of(handled.delivery):
                await self._postpone(handled)
        if logs.debugging():
            self._tell_understood(batch)
        if len(pending) < RUSH_BATCH:
            await self._clock.sleep(LINGER_S)
        return len(pending)

    def _tell_understood(self, batch: Sequence[_Handled]) -> None:
        for handled in batch:
            if handled.problem is None:
                kinds = [meaning.kind for meaning in handled.meanings]
                self._log.debug("delivery_understood", delivery_id=handled.delivery.id, kinds=kinds)

    async def _let_receivers_go_first(self) -> None:
        """Understanding uses what receiving leaves: Meta waits for its answer, nobody waits for ours."""
        rested = 0.0
        while not self._late and rested < RUSH_REST_S and self._inbox.pressure > RUSH and not self._stopping:
            await self._clock.sleep(0.01)
            rested += 0.01

    async def _idle_s(self) -> float | None:
        next_at = await self._inbox.next_attempt_at()
        if next_at is None:
            return None
        return max(0.0, (next_at - self._clock.now_ms()) / 1000)

    def _batch(self) -> int:
        if self._late:
            return LATE_BATCH
        return RUSH_BATCH if self._inbox.pressure > RUSH else BATCH

    async def _decode(self, pending: Sequence[PendingDelivery]) -> list[_Handled]:
        batch: list[_Handled] = []
        began = self._clock.monotonic()
        for delivery in pending:
            batch.append(self._handle(delivery))
            if self._clock.monotonic() - began > SLICE_S:
                await asyncio.sleep(0)
                began = self._clock.monotonic()
        return batch

    def _handle(self, delivery: PendingDelivery) -> _Handled:
        handled = _Handled(delivery)
        try:
            decoded = events.decode(delivery.body)
        except events.UnreadableDeliveryError as error:
            handled.problem, handled.hopeless = str(error), True
            return handled
        for index, event in enumerate(decoded):
            try:
                handled.meanings.append(self._meaning(event, delivery))
            except Exception as error:  # noqa: BLE001 - a poison event must not take its neighbours with it
                handled.problem = _problem(index, error)
        return handled

    def _meaning(self, event: Event, delivery: PendingDelivery) -> _Meaning:
        meant = translate(event, self._accounts, delivery.received_at)
        kept = _kept(event, meant.key, delivery) if meant.kept else None
        if event.kind == "unknown":
            self._note_unknown(event, delivery)
        return _Meaning(delivery.id, event.kind, meant.key, meant.change, kept, meant.participant_wrote)

    async def _store(self, meanings: Sequence[_Meaning], *, done: Sequence[int]) -> None:
        """Store everything that `meanings` say and that these deliveries are done, in one transaction."""
        keys = {meaning.key for meaning in meanings if meaning.key is not None}
        writers = {meaning.key for meaning in meanings if meaning.key is not None and meaning.participant_wrote}
        uncached = [key for key in writers if self._cache.get(key) is None]
        changes = [(meaning.delivery_id, meaning.change) for meaning in meanings if meaning.change is not None]
        kept = [meaning.kept for meaning in meanings if meaning.kept is not None]
        now = self._clock.now_ms()

        def transaction(connection: sqlite3.Connection) -> dict[ConversationKey, FetchedProfile]:
            new = conversations.apply_changes(connection, keys, changes, now)
            profiles.ensure(connection, new, now)
            kept_events.keep(connection, kept, now)
            fresh = profiles.wrote(connection, uncached, now, self._cache.ttl_ms) if uncached else {}
            if done:
                mark_done(connection, done, now)
            return fresh

        for key, fetched in (await self._database.write(transaction)).items():
            self._cache.put(key, fetched)
        self._on_due(writers)
        for meaning in meanings if self._feed.wanted else ():
            if meaning.participant_wrote and meaning.key is not None and meaning.change is not None:
                account_id, participant_id = meaning.key
                told = {
                    "accountId": account_id,
                    "participantId": participant_id,
                    "platformMessageId": meaning.change.mid,
                }
                self._feed.publish("message.received", dict(told))
        self._metrics.settled.labels("done").inc(len(done))
        for kind, count in Counter(meaning.kind for meaning in meanings).items():
            self._metrics.events.labels(kind).inc(count)

    async def _store_alone(self, handled: _Handled) -> None:
        """Store one delivery event by event, so that a poison event stands alone."""
        for index, meaning in enumerate(handled.meanings):
            try:
                await self._store([meaning], done=[])
            except StorageError:
                raise
            except Exception as error:  # noqa: BLE001 - kept beside the delivery, for whoever looks at it
                handled.problem = _problem(index, error)
        if handled.problem is None:
            await self._store([], done=[handled.delivery.id])

    async def _postpone(self, handled: _Handled) -> None:
        """Try the delivery again later, or set it aside when its attempts are used up."""
        delivery, error = handled.delivery, (handled.problem or "")[:_MAX_ERROR]
        attempts = delivery.attempts + 1
        decision = decide(Remedy.UNKNOWN, attempts, DELIVERY_HANDLING, self._random)
        now = self._clock.now_ms()
        failed = handled.hopeless or decision.exhausted
        next_attempt_at = now + int((decision.delay_s or 0) * 1000)

        def transaction(connection: sqlite3.Connection) -> None:
            if failed:
                mark_failed(connection, delivery.id, attempts=attempts, now=now, error=error)
            else:
                mark_postponed(connection, delivery.id, attempts=attempts, next_attempt_at=next_attempt_at, error=error)

        await self._database.write(transaction)
        self._metrics.settled.labels("failed" if failed else "postponed").inc()
        if failed:
            self._feed.publish("delivery.failed", {"deliveryId": str(delivery.id), "error": error})
            self._log.error("delivery_failed", attempts=attempts, error=error)
        else:
            self._log.warning("delivery_postponed", attempts=attempts, error=error)

    def _note_unknown(self, event: Event, delivery: PendingDelivery) -> None:
        """Log each unknown kind once; the set is bounded, since kinds come from outside."""
        reason = event.body.reason or "" if isinstance(event.body, events.Other) else ""
        if reason in self._unknown_seen or len(self._unknown_seen) >= _MAX_KINDS:
            return
        self._unknown_seen.add(reason)
        self._log.warning("unknown_event", delivery_id=delivery.id, reason=reason)


def _lines_of(delivery: PendingDelivery) -> AbstractContextManager[None]:
    """What is logged meanwhile is about this delivery."""
    return logs.about(delivery_id=delivery.id)


def _problem(index: int, error: Exception) -> str:
    return f"event {index}: {type(error).__name__}: {error}"


def _kept(event: Event, key: ConversationKey | None, delivery: PendingDelivery) -> KeptEvent:
    reason = event.body.reason if isinstance(event.body, events.Other) else None
    return KeptEvent(
        kind=event.kind,
        account_id=key.account_id if key else event.entry_id,
        participant_id=key.participant_id if key else None,
        happened_at=event.timestamp,
        reason=reason,
        payload=bytes(event.raw),
        delivery_id=delivery.id,
    )
