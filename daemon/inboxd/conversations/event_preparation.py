"""From the body of a delivery to webhook events that are ready to be stored."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from inboxd.conversations.translate import Translated, time_of, translate
from inboxd.domain.conversation import ConversationKey
from inboxd.meta import webhook_decoding
from inboxd.meta.webhook_events import BrokenDeliveryError, Other, WebhookEvent
from inboxd.receiving.store import PendingDelivery
from inboxd.receiving.webhook_event_store import StoredWebhookEvent
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock

SLICE_S: Final = 0.001
"""Decoding lets the event loop serve requests after so many seconds."""
_MAX_KINDS: Final = 100


@dataclass(slots=True, eq=False)
class DeliveryProgress:
    """A delivery that is being processed, and what is wrong with it."""

    delivery: PendingDelivery
    kinds: list[str] = field(default_factory=list)
    """The kinds of its events. Only kept for the debug log."""
    problem: str | None = None
    hopeless: bool = False
    """Whether trying again cannot help: the body is no webhook payload."""
    holds_erased: bool = False
    """Whether it tells of somebody who was erased since that happened: its bytes are not kept."""


class PreparedEvent(NamedTuple):
    """A webhook event with its meaning, ready to be stored."""

    progress: DeliveryProgress
    number: int
    """Its place in the delivery, from 0."""
    account_id: str
    """The account it belongs to. Where that is not known, the id in the webhook's entry."""
    kind: str
    at: int
    """When it happened (ms), by Meta's clock if that is believable."""
    translated: Translated
    kept: StoredWebhookEvent | None
    """The event itself, if it is stored as it came."""


class EventPreparation:
    """Decodes and translates the events of deliveries. `accounts` maps every id that names a served account to its own.

    Logs each kind of unknown event once.
    """

    def __init__(self, accounts: Mapping[str, str], clock: Clock) -> None:
        self._accounts = accounts
        self._clock = clock
        self._log = logs.get("ingest")
        self._unknown_seen: set[str] = set()

    async def events(self, body: bytes) -> AsyncIterator[WebhookEvent]:
        """The events of a body. Lets the event loop serve requests in between. Raises UnreadableDeliveryError."""
        began = self._clock.monotonic()
        try:
            for event in webhook_decoding.decode(body):
                yield event
                if self._clock.monotonic() - began > SLICE_S:
                    await asyncio.sleep(0)
                    began = self._clock.monotonic()
        except BrokenDeliveryError:
            for event in await asyncio.to_thread(webhook_decoding.decode_broken, body):
                yield event

    def prepare(self, number: int, event: WebhookEvent, progress: DeliveryProgress) -> PreparedEvent:
        """One event of a delivery, translated. May raise anything for an event that nobody foresaw."""
        delivery = progress.delivery
        translated = translate(event, self._accounts, delivery.received_at)
        kept = _kept(event, translated.key, delivery) if translated.kept else None
        if event.kind == "unknown":
            self._log_unknown(event, delivery)
        if logs.debugging():
            progress.kinds.append(event.kind)
        entry_of = self._accounts.get(event.entry_id, event.entry_id)
        account_id = entry_of if translated.key is None else translated.key.account_id
        at = time_of(event, delivery.received_at)
        return PreparedEvent(progress, number, account_id, event.kind, at, translated, kept)

    def _log_unknown(self, event: WebhookEvent, delivery: PendingDelivery) -> None:
        """Log each unknown kind once. The set is bounded, since kinds come from outside."""
        reason = event.body.reason or "" if isinstance(event.body, Other) else ""
        if reason in self._unknown_seen or len(self._unknown_seen) >= _MAX_KINDS:
            return
        self._unknown_seen.add(reason)
        self._log.warning("unknown_event", delivery_id=delivery.id, reason=reason)


def problem_of(number: int, error: Exception) -> str:
    """What is said of a delivery of which event `number` raised `error`."""
    return f"event {number}: {type(error).__name__}: {error}"


def _kept(event: WebhookEvent, key: ConversationKey | None, delivery: PendingDelivery) -> StoredWebhookEvent:
    reason = event.body.reason if isinstance(event.body, Other) else None
    return StoredWebhookEvent(
        kind=event.kind,
        account_id=key.account_id if key else event.entry_id,
        participant_id=key.participant_id if key else None,
        happened_at=event.timestamp,
        reason=reason,
        payload=bytes(event.raw),
        delivery_id=delivery.id,
    )
