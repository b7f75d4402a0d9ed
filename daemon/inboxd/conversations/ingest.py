"""The worker that processes deliveries: stored deliveries become conversations and messages, in arrival order."""

import asyncio
from typing import Final

from inboxd.conversations.batch_writer import BatchWriter, EventBatch
from inboxd.conversations.delivery_retries import DeliveryRetries
from inboxd.conversations.event_preparation import DeliveryProgress, EventPreparation, problem_of
from inboxd.conversations.pacing import RUSH, Pacing
from inboxd.meta.webhook_events import UnreadableDeliveryError
from inboxd.receiving.store import Inbox
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import StorageError
from inboxd.runtime.worker import Schedule

BATCH: Final = 500
"""Deliveries read at once, at most; their bytes are bounded too."""
LINGER_S: Final = 0.02
"""Rest before the next batch, so that a few deliveries make one transaction. A full batch is followed at once."""
LOOK_S: Final = 30.0
"""The longest rest when nothing arrives."""
SCHEDULE: Final = Schedule(essential=True, storage_event="ingest_waits_for_storage", storage_rest_s=1)


class Ingest:
    """Processes each delivery of the inbox exactly once. The inbox notifies it of arrivals.

    While one batch is stored, the next one is decoded. On stop the batch in hand is stored. A delivery that cannot be
    processed is postponed and blocks no other.
    """

    name = "ingest"

    def __init__(
        self, inbox: Inbox, preparation: EventPreparation, writer: BatchWriter, retries: DeliveryRetries, clock: Clock
    ) -> None:
        self.wakeup = inbox.arrived
        self._inbox = inbox
        self._preparation = preparation
        self._writer = writer
        self._retries = retries
        self._clock = clock
        self._pacing = Pacing(inbox, self.wakeup, clock)
        self._log = logs.get("ingest")
        self._storing: asyncio.Task[None] | None = None

    async def poll(self) -> float:
        """Process some of what is due. Raises StorageError."""
        if not await self.process():
            return await self._idle_s()
        await self._pacing.let_receivers_go_first()
        return 0

    async def process(self) -> int:
        """Process some of what is due. Returns how many deliveries were due, as far as they were read.

        Raises StorageError when the disk refuses; nothing is counted as an attempt then.
        """
        pending = await self._inbox.pending(BATCH)
        self._pacing.found(len(pending))
        if not pending:
            return 0
        batch = EventBatch()
        try:
            for delivery in pending:
                if self.wakeup.stopping:
                    break
                self._pacing.taken(delivery.received_at)
                batch = await self._prepare(DeliveryProgress(delivery), batch)
        finally:
            await self._stored()
        await self._store(batch)
        if len(pending) < RUSH:
            await self._clock.sleep(LINGER_S)
        return len(pending)

    async def _prepare(self, progress: DeliveryProgress, batch: EventBatch) -> EventBatch:
        """Add the events of one delivery to `batch`. Full batches are stored; returns the one that is not full."""
        number = 0
        try:
            async for event in self._preparation.events(progress.delivery.body):
                try:
                    prepared = self._preparation.prepare(number, event, progress)
                except Exception as error:  # noqa: BLE001 - a poison event must not take its neighbours with it
                    progress.problem = problem_of(number, error)
                else:
                    batch.events.append(prepared)
                number += 1
                if len(batch.events) >= self._writer.batch_size.fitting(self._pacing.transaction_s()):
                    await self._stored()
                    await self._pacing.let_receivers_go_first()
                    self._storing = asyncio.create_task(self._store(batch), name="ingest:store")
                    batch = EventBatch()
        except UnreadableDeliveryError as error:
            progress.problem, progress.hopeless = str(error), True
        batch.finished.append(progress)
        return batch

    async def _stored(self) -> None:
        """Wait until the batch that is being stored is durable. Raises what storing it raises."""
        storing, self._storing = self._storing, None
        if storing is not None:
            await storing

    async def _store(self, batch: EventBatch) -> None:
        """Store a batch, and postpone those of its finished deliveries that have a problem."""
        try:
            await self._writer.store(batch.events, done=batch.done)
        except StorageError:
            raise
        except Exception:  # noqa: BLE001 - one of the events cannot be stored: find out which
            await self._writer.store_each(batch)
        for progress in batch.finished:
            if progress.problem is not None:
                with logs.about(delivery_id=progress.delivery.id):
                    await self._retries.postpone(progress)
            elif logs.debugging():
                self._log.debug("delivery_understood", delivery_id=progress.delivery.id, kinds=progress.kinds)

    async def _idle_s(self) -> float:
        """Seconds until the next attempt is due, and LOOK_S at most: nothing that came in unnoticed may lie there."""
        next_at = await self._inbox.next_attempt_at()
        if next_at is None:
            return LOOK_S
        return min(max(0.0, (next_at - self._clock.now_ms()) / 1000), LOOK_S)
