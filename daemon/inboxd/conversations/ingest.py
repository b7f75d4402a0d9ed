"""Process: from stored deliveries to conversations and messages, in arrival order, exactly once."""

import asyncio
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from inboxd.conversations import early_changes_store as early_changes
from inboxd.conversations import store as conversations
from inboxd.conversations.batch_size import BatchSize
from inboxd.conversations.translate import Translated, changes_of, translate
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.retry import DELIVERY_HANDLING, FailureAction, decide
from inboxd.events.bus import EventBus
from inboxd.meta import webhook_events as events
from inboxd.meta.webhook_events import WebhookEvent
from inboxd.profiles import store as profiles
from inboxd.profiles.cache import ProfileCache
from inboxd.receiving import webhook_event_store as kept_events
from inboxd.receiving.store import Inbox, PendingDelivery, mark_done, mark_failed, mark_postponed
from inboxd.receiving.webhook_event_store import StoredWebhookEvent
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import StorageClosedError, StorageError
from inboxd.runtime.metrics import Metrics
from inboxd.storage.database import Database

BATCH: Final = 500
"""Deliveries read at once, at most; their bytes are bounded too."""
TRANSACTION_S: Final = 0.0001
"""How long a transaction may keep the writer while one sender waits for the disk on average…"""
LONGEST_S: Final = 0.016
"""…and at most, also when nobody waits. Every webhook that arrives meanwhile waits for its end; the more wait anyway,
the less that adds."""
MIN_EVENTS: Final = 3
MAX_EVENTS: Final = 500
"""Events of one transaction, whatever their cost was of late."""
LINGER_S: Final = 0.02
"""Pause before the next batch, so that a few deliveries make one transaction. A full batch is followed at once."""
RUSH: Final = 32.0
"""Senders that wait for the disk on average when it is a rush: receiving then comes first…"""
RUSH_REST_S: Final = 0.5
"""…but processing goes on at least this often…"""
MAX_LAG_MS: Final = 3000
"""…and when it is this far behind, it goes at full speed until it has caught up, whoever waits."""
SLICE_S: Final = 0.001
"""How long decoding holds the event loop before it lets requests in."""
LOOK_S: Final = 30.0
"""How long nobody looks when nothing arrives."""
STORAGE_REST_S: Final = 1.0
"""Pause before trying again when the disk refuses."""
_MAX_KINDS: Final = 100
_MAX_ERROR: Final = 1000


class _Meaning(NamedTuple):
    """What one event of a delivery means, ready to be stored."""

    handled: "_Handled"
    number: int
    """Which event of the delivery it is, from 0."""
    account_id: str
    """Whose it is; the entry's own id where nothing else tells."""
    kind: str
    translated: Translated
    kept: StoredWebhookEvent | None


@dataclass(slots=True, eq=False)
class _Handled:
    """A delivery that is being processed, and what was wrong with it."""

    delivery: PendingDelivery
    kinds: list[str] = field(default_factory=list)
    problem: str | None = None
    hopeless: bool = False
    """Trying again cannot help: the body is no webhook payload."""


@dataclass(slots=True, eq=False)
class _Batch:
    """Events of consecutive deliveries that are stored in one transaction."""

    meanings: list[_Meaning] = field(default_factory=list)
    finished: list[_Handled] = field(default_factory=list)
    """Deliveries whose last event is among them."""


class Ingest:
    """Processes deliveries. `on_due` is told who wrote, once the fetches that this makes due are committed.

    `observe` is told how many events were stored, by account and kind.
    """

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
        bus: EventBus,
        observe: Callable[[Counter[tuple[str, str]]], None] = lambda _counts: None,
    ) -> None:
        self._database = database
        self._inbox = inbox
        self._cache = cache
        self._accounts = accounts
        self._clock = clock
        self._metrics = metrics
        self._random = random
        self._on_due = on_due
        self._bus = bus
        self._observe = observe
        self._log = logs.get("ingest")
        self._unknown_seen: set[str] = set()
        self._late = False
        self._oldest_at = clock.now_ms()
        """When the delivery that is being processed came (ms)."""
        self._stopping = False
        self._storing: asyncio.Task[None] | None = None
        self._batch_size = BatchSize(smallest=MIN_EVENTS, largest=MAX_EVENTS)

    async def run(self) -> None:
        """Process deliveries as they arrive, until `stop`."""
        while not self._stopping:
            self._inbox.arrived.clear()
            try:
                if await self.process():
                    await self._let_receivers_go_first()
                else:
                    await self._clock.wait(self._inbox.arrived, await self._idle_s())
            except StorageClosedError:
                raise
            except StorageError as error:
                self._log.warning("ingest_waits_for_storage", error=str(error))
                await self._clock.sleep(STORAGE_REST_S)

    def stop(self) -> None:
        """End `run` after the batch in hand."""
        self._stopping = True
        self._inbox.arrived.set()

    async def process(self) -> int:
        """Process some of what is due; returns how many deliveries were looked at.

        Raises StorageError when the disk refuses; nothing is counted as an attempt then.
        """
        pending = await self._inbox.pending(BATCH)
        if not pending:
            self._late = False
            return 0
        if len(pending) < RUSH:
            self._late = False
        batch = _Batch()
        try:
            for delivery in pending:
                if self._stopping:
                    break
                self._oldest_at = delivery.received_at
                batch = await self._handle(_Handled(delivery), batch)
        finally:
            await self._stored()
        await self._finish(batch)
        if len(pending) < RUSH:
            await self._clock.sleep(LINGER_S)
        return len(pending)

    async def _handle(self, handled: _Handled, batch: _Batch) -> _Batch:
        """Decode one delivery into `batch`; what fills up is stored, and the rest is returned."""
        number = 0
        try:
            async for event in self._events(handled.delivery.body):
                try:
                    meaning = self._meaning(number, event, handled)
                except Exception as error:  # noqa: BLE001 - a poison event must not take its neighbours with it
                    handled.problem = _problem(number, error)
                else:
                    batch.meanings.append(meaning)
                number += 1
                if len(batch.meanings) >= self._batch_size.fitting(self._transaction_s()):
                    await self._stored()
                    await self._let_receivers_go_first()
                    self._storing = asyncio.create_task(self._finish(batch), name="ingest:store")
                    batch = _Batch()
        except events.UnreadableDeliveryError as error:
            handled.problem, handled.hopeless = str(error), True
        batch.finished.append(handled)
        return batch

    async def _events(self, body: bytes) -> AsyncIterator[WebhookEvent]:
        """The events of a body, letting requests in between. Raises UnreadableDeliveryError."""
        began = self._clock.monotonic()
        try:
            for event in events.decode(body):
                yield event
                if self._clock.monotonic() - began > SLICE_S:
                    await asyncio.sleep(0)
                    began = self._clock.monotonic()
        except events.BrokenDeliveryError:
            for event in await asyncio.to_thread(events.decode_broken, body):
                yield event

    async def _stored(self) -> None:
        """Wait until the batch that is being stored, while the next one is decoded, is durable. Raises as it does."""
        storing, self._storing = self._storing, None
        if storing is not None:
            await storing

    async def _finish(self, batch: _Batch) -> None:
        """Store a batch, and say what became of the deliveries that end with it."""
        done = [handled for handled in batch.finished if handled.problem is None]
        try:
            await self._store(batch.meanings, done=done)
        except StorageError:
            raise
        except Exception:  # noqa: BLE001 - one of them cannot be stored: find out which
            await self._store_alone(batch)
        for handled in batch.finished:
            if handled.problem is not None:
                with _lines_of(handled.delivery):
                    await self._postpone(handled)
            elif logs.debugging():
                self._log.debug("delivery_understood", delivery_id=handled.delivery.id, kinds=handled.kinds)

    async def _let_receivers_go_first(self) -> None:
        """Processing uses what receiving leaves: Meta waits for its answer, nobody waits for ours."""
        rested = 0.0
        while not self._is_late() and rested < RUSH_REST_S and self._inbox.pressure > RUSH and not self._stopping:
            await self._clock.sleep(0.01)
            rested += 0.01

    def _is_late(self) -> bool:
        """Whether processing is behind. Looked at within a batch too: with rests one lasts long."""
        if self._clock.now_ms() - self._oldest_at > MAX_LAG_MS:
            self._late = True
        return self._late

    def _transaction_s(self) -> float:
        """How long the next transaction may take."""
        waiting = self._inbox.pressure
        if self._is_late() or waiting == 0:
            return LONGEST_S
        return min(TRANSACTION_S * max(1.0, waiting), LONGEST_S)

    async def _idle_s(self) -> float:
        """Until the next attempt, and not for ever: whatever came in unnoticed must not lie there."""
        next_at = await self._inbox.next_attempt_at()
        if next_at is None:
            return LOOK_S
        return min(max(0.0, (next_at - self._clock.now_ms()) / 1000), LOOK_S)

    def _meaning(self, number: int, event: WebhookEvent, handled: _Handled) -> _Meaning:
        delivery = handled.delivery
        translated = translate(event, self._accounts, delivery.received_at)
        kept = _kept(event, translated.key, delivery) if translated.kept else None
        if event.kind == "unknown":
            self._note_unknown(event, delivery)
        if logs.debugging():
            handled.kinds.append(event.kind)
        entry_of = self._accounts.get(event.entry_id, event.entry_id)
        account_id = entry_of if translated.key is None else translated.key.account_id
        return _Meaning(handled, number, account_id, event.kind, translated, kept)

    async def _store(self, meanings: Sequence[_Meaning], *, done: Sequence[_Handled]) -> None:
        """Store everything that `meanings` say and that these deliveries are done, in one transaction."""
        keys = {one.translated.key for one in meanings if one.translated.key is not None}
        writers = {one.translated.key for one in meanings if one.translated.key and one.translated.participant_wrote}
        uncached = [key for key in writers if self._cache.get(key) is None]
        happened = changes_of((one.handled.delivery.id, one.translated) for one in meanings)
        kept = [one.kept for one in meanings if one.kept is not None]
        done_ids = [handled.delivery.id for handled in done]
        now = self._clock.now_ms()

        def transaction(connection: sqlite3.Connection) -> tuple[dict[ConversationKey, int], float]:
            began = time.perf_counter()
            new = conversations.apply_changes(connection, keys, happened.changes, now)
            profiles.ensure(connection, new, now)
            profiles.name(connection, happened.usernames, now)
            early_changes.settle(connection, happened.partyless, happened.arrived, now)
            kept_events.keep(connection, kept, now)
            fresh = profiles.wrote(connection, uncached, now, self._cache.ttl_ms) if uncached else {}
            if done_ids:
                mark_done(connection, done_ids, now)
            return fresh, time.perf_counter() - began

        fresh, took_s = await self._database.write(transaction)
        self._batch_size.took(len(meanings), took_s)
        for key, fetched_at in fresh.items():
            self._cache.put(key, fetched_at)
        self._on_due(writers)
        self._tell(meanings)
        self._metrics.settled.labels("done").inc(len(done))
        counts = Counter((one.account_id, one.kind) for one in meanings)
        for (_, kind), count in counts.items():
            self._metrics.events.labels(kind).inc(count)
        self._observe(counts)

    def _tell(self, meanings: Sequence[_Meaning]) -> None:
        if not self._bus.wanted:
            return
        for one in meanings:
            key, change = one.translated.key, one.translated.change
            if one.translated.participant_wrote and key is not None and change is not None:
                told = {"accountId": key.account_id, "participantId": key.participant_id}
                self._bus.publish("message.received", {**told, "platformMessageId": change.mid})

    async def _store_alone(self, batch: _Batch) -> None:
        """Store a batch event by event, so that a poison event stands alone."""
        for one in batch.meanings:
            try:
                await self._store([one], done=[])
            except StorageError:
                raise
            except Exception as error:  # noqa: BLE001 - kept beside the delivery, for whoever looks at it
                one.handled.problem = _problem(one.number, error)
        await self._store([], done=[handled for handled in batch.finished if handled.problem is None])

    async def _postpone(self, handled: _Handled) -> None:
        """Try the delivery again later, or set it aside when its attempts are used up."""
        delivery, error = handled.delivery, (handled.problem or "")[:_MAX_ERROR]
        attempts = delivery.attempts + 1
        decision = decide(FailureAction.UNKNOWN, attempts, DELIVERY_HANDLING, self._random)
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
            self._bus.publish("delivery.failed", {"deliveryId": str(delivery.id), "error": error})
            self._log.error("delivery_failed", attempts=attempts, error=error)
        else:
            self._log.warning("delivery_postponed", attempts=attempts, error=error)

    def _note_unknown(self, event: WebhookEvent, delivery: PendingDelivery) -> None:
        """Log each unknown kind once; the set is bounded, since kinds come from outside."""
        reason = event.body.reason or "" if isinstance(event.body, events.Other) else ""
        if reason in self._unknown_seen or len(self._unknown_seen) >= _MAX_KINDS:
            return
        self._unknown_seen.add(reason)
        self._log.warning("unknown_event", delivery_id=delivery.id, reason=reason)


def _lines_of(delivery: PendingDelivery) -> AbstractContextManager[None]:
    """What is logged meanwhile is about this delivery."""
    return logs.about(delivery_id=delivery.id)


def _problem(number: int, error: Exception) -> str:
    return f"event {number}: {type(error).__name__}: {error}"


def _kept(event: WebhookEvent, key: ConversationKey | None, delivery: PendingDelivery) -> StoredWebhookEvent:
    reason = event.body.reason if isinstance(event.body, events.Other) else None
    return StoredWebhookEvent(
        kind=event.kind,
        account_id=key.account_id if key else event.entry_id,
        participant_id=key.participant_id if key else None,
        happened_at=event.timestamp,
        reason=reason,
        payload=bytes(event.raw),
        delivery_id=delivery.id,
    )
