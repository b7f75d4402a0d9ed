"""Deliveries that could not be processed: trying them again later, or setting them aside."""

import sqlite3
from collections.abc import Callable
from typing import Final

import msgspec

from inboxd.conversations.event_preparation import DeliveryProgress
from inboxd.conversations.metrics import ConversationMetrics
from inboxd.domain.event import EventType, NewEvent
from inboxd.domain.retry import DELIVERY_HANDLING, FailureAction, decide
from inboxd.events.log import EventLog
from inboxd.http.resource import Resource
from inboxd.receiving.store import mark_failed, mark_postponed
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock
from inboxd.storage.database import Database

_MAX_ERROR: Final = 1000


class DeliveryFailedData(Resource, frozen=True):
    """A delivery that was set aside. In a log of ids only, `error` is null."""

    delivery_id: str
    error: str | None


DELIVERY_FAILED: Final = EventType(
    name="delivery.failed",
    summary="A delivery from Meta could not be processed and was set aside. It can be retried.",
    data=DeliveryFailedData,
    example=DeliveryFailedData(delivery_id="77", error="event 0: ValueError: a value that nobody foresaw"),
)


class DeliveryRetries:
    """Postpones deliveries, each time for longer, and sets those aside whose attempts are used up."""

    def __init__(
        self,
        database: Database,
        event_log: EventLog,
        clock: Clock,
        metrics: ConversationMetrics,
        random: Callable[[], float],
    ) -> None:
        self._database = database
        self._event_log = event_log
        self._clock = clock
        self._metrics = metrics
        self._random = random
        self._log = logs.get("ingest")

    async def postpone(self, progress: DeliveryProgress) -> None:
        """Try a delivery again later, or set it aside: it blocks no other. Raises StorageError."""
        delivery, error = progress.delivery, (progress.problem or "")[:_MAX_ERROR]
        attempts = delivery.attempts + 1
        decision = decide(FailureAction.UNKNOWN, attempts, DELIVERY_HANDLING, self._random)
        now = self._clock.now_ms()
        failed = progress.hopeless or decision.exhausted
        next_attempt_at = now + int((decision.delay_s or 0) * 1000)

        def transaction(connection: sqlite3.Connection) -> None:
            if failed:
                mark_failed(connection, delivery.id, attempts=attempts, now=now, error=error)
                self._record(connection, delivery.id, error, now)
            else:
                mark_postponed(connection, delivery.id, attempts=attempts, next_attempt_at=next_attempt_at, error=error)

        await self._database.write(transaction)
        self._metrics.deliveries.labels("failed" if failed else "postponed").inc()
        if failed:
            self._log.error("delivery_failed", attempts=attempts, error=error)
        else:
            self._log.warning("delivery_postponed", attempts=attempts, error=error)

    def _record(self, connection: sqlite3.Connection, delivery_id: int, error: str, now: int) -> None:
        data = DeliveryFailedData(delivery_id=str(delivery_id), error=None if self._event_log.ids_only else error)
        event = NewEvent(DELIVERY_FAILED.name, "", now, msgspec.json.encode(data), subject=str(delivery_id))
        self._event_log.append(connection, [event])
