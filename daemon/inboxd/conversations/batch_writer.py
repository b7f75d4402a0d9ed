"""Storing a batch of webhook events in one transaction, and telling others once it is committed."""

import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

from inboxd.conversations import early_changes_store as early_changes
from inboxd.conversations import message_store, reply_window_store
from inboxd.conversations.batch_size import BatchSize
from inboxd.conversations.erasures import Erasures
from inboxd.conversations.event_preparation import DeliveryProgress, PreparedEvent, problem_of
from inboxd.conversations.event_recording import record_changes
from inboxd.conversations.metrics import ConversationMetrics
from inboxd.conversations.projection import Projection
from inboxd.conversations.translate import BatchChanges, changes_of
from inboxd.conversations.webhook_event_recording import record_webhook_events
from inboxd.domain.conversation import ConversationKey
from inboxd.events.log import EventLog
from inboxd.profiles import store as profiles
from inboxd.profiles.cache import ProfileCache
from inboxd.receiving import webhook_event_store
from inboxd.receiving.store import drop, mark_done
from inboxd.receiving.webhook_event_store import StoredWebhookEvent
from inboxd.runtime.clock import Clock
from inboxd.runtime.worker import each
from inboxd.storage.database import Database

MIN_EVENTS: Final = 3
MAX_EVENTS: Final = 500
"""The fewest and the most events of one transaction, whatever one has cost of late."""


@dataclass(slots=True, eq=False)
class EventBatch:
    """Events of consecutive deliveries that are stored in one transaction."""

    events: list[PreparedEvent] = field(default_factory=list)
    finished: list[DeliveryProgress] = field(default_factory=list)
    """Deliveries whose last event is among `events`."""

    @property
    def done(self) -> list[DeliveryProgress]:
        """The finished deliveries with which nothing is wrong."""
        return [progress for progress in self.finished if progress.problem is None]


class _Contents(NamedTuple):
    """What the events of a batch say, grouped by how it is stored."""

    events: Sequence[PreparedEvent]
    keys: set[ConversationKey]
    writers: set[ConversationKey]
    """Participants who wrote."""
    changes: BatchChanges
    kept: list[tuple[PreparedEvent, StoredWebhookEvent]]

    @classmethod
    def of(cls, events: Sequence[PreparedEvent]) -> Self:
        """What these events say."""
        return cls(
            events,
            keys={one.translated.key for one in events if one.translated.key is not None},
            writers={one.translated.key for one in events if one.translated.key and one.translated.participant_wrote},
            changes=changes_of((one.progress.delivery.id, one.translated) for one in events),
            kept=[(one, one.kept) for one in events if one.kept is not None],
        )

    def without(self, late: Collection[PreparedEvent]) -> Self:
        """What the others say."""
        left_out = {id(one) for one in late}
        return self.of([one for one in self.events if id(one) not in left_out])


class _Stored(NamedTuple):
    """What a transaction leaves to be done after its commit."""

    profiles: dict[ConversationKey, int]
    """When fresh profiles that the cache did not have were fetched (ms)."""
    created: list[ConversationKey]
    writers: set[ConversationKey]
    after_commit: list[Callable[[], None]]
    took_s: float


class BatchWriter:
    """Stores batches. After each commit it tells `on_due` and `observe`, which must not raise.

    `on_due` is told which participants are new or wrote: their profiles may be due. `observe` is told how many events
    were stored, by account and kind. `projections` run in the transaction.
    """

    def __init__(
        self,
        database: Database,
        cache: ProfileCache,
        event_log: EventLog,
        clock: Clock,
        metrics: ConversationMetrics,
        *,
        projections: Sequence[Projection],
        on_due: Callable[[Collection[ConversationKey]], None],
        observe: Callable[[Counter[tuple[str, str]]], None],
    ) -> None:
        self._database = database
        self._cache = cache
        self._event_log = event_log
        self._clock = clock
        self._metrics = metrics
        self.erasures = Erasures(clock)
        """What is older than these is not stored."""
        self._projections = projections
        self._on_due = on_due
        self._observe = observe
        self.batch_size = BatchSize(smallest=MIN_EVENTS, largest=MAX_EVENTS)
        """How many events fit into a transaction, from what the latest ones took."""

    async def store(self, events: Sequence[PreparedEvent], *, done: Sequence[DeliveryProgress]) -> None:
        """Store `events` and that the deliveries `done` are processed, in one transaction.

        Raises StorageError when the disk refuses, and anything else when an event cannot be stored. Nothing is stored
        then.
        """
        now = self._clock.now_ms()
        contents = _Contents.of(events)

        def transaction(connection: sqlite3.Connection) -> _Stored:
            began = time.perf_counter()
            late = self.erasures.late(connection, contents.events)
            for one in late:
                one.progress.holds_erased = True
            left, keys, writers, changes, kept = contents.without(late) if late else contents
            applied = message_store.apply_changes(connection, keys, changes.changes, now)
            created = [key for key, _ in applied.created]
            profiles.ensure(connection, created, now)
            profiles.name(connection, changes.usernames, now)
            joined = early_changes.join(connection, changes.partyless, changes.arrived, now)
            reply_window_store.opened(connection, changes.openings, now)
            record_changes(connection, self._event_log, applied.created, [*applied.changed, *joined], now)
            new = webhook_event_store.keep(connection, [stored for _, stored in kept], now)
            record_webhook_events(connection, self._event_log, [kept[place][0] for place in new])
            uncached = [key for key in writers if self._cache.get(key) is None]
            fresh = profiles.wrote(connection, uncached, now, self._cache.ttl_ms) if uncached else {}
            after_commit = self._project(connection, left)
            _mark_done(connection, done, now)
            return _Stored(fresh, created, writers, after_commit, time.perf_counter() - began)

        stored = await self._database.write(transaction)
        self.batch_size.took(len(events), stored.took_s)
        for key, fetched_at in stored.profiles.items():
            self._cache.put(key, fetched_at)
        for tell in stored.after_commit:
            tell()
        self._on_due(stored.writers.union(stored.created))
        self._count(events, done=len(done))

    async def store_each(self, batch: EventBatch) -> None:
        """Store a batch that could not be stored as a whole, event by event.

        An event that cannot be stored is noted as the problem of its delivery. Raises StorageError.
        """

        async def store_one(event: PreparedEvent) -> None:
            await self.store([event], done=[])

        async def note(event: PreparedEvent, error: Exception) -> None:
            event.progress.problem = problem_of(event.number, error)

        await each(batch.events, store_one, note)
        await self.store([], done=batch.done)

    def _project(self, connection: sqlite3.Connection, events: Sequence[PreparedEvent]) -> list[Callable[[], None]]:
        if not events:
            return []
        results = [project(connection, events) for project in self._projections]
        return [tell for tell in results if tell is not None]

    def _count(self, events: Sequence[PreparedEvent], *, done: int) -> None:
        self._metrics.deliveries.labels("done").inc(done)
        counts = Counter((one.account_id, one.kind) for one in events)
        for (_, kind), count in counts.items():
            self._metrics.events.labels(kind).inc(count)
        self._observe(counts)


def _mark_done(connection: sqlite3.Connection, done: Sequence[DeliveryProgress], now: int) -> None:
    if done:
        mark_done(connection, [progress.delivery.id for progress in done], now)
        drop(connection, [progress.delivery.id for progress in done if progress.holds_erased])
