"""Deliveries, webhook events and workers, as the API says them."""

from typing import Any, Self

import msgspec

from inboxd.domain.payload import OMITTED, PayloadForm, shown
from inboxd.http.resource import EXAMPLE_ACCOUNT, EXAMPLE_PARTICIPANT, Resource, iso
from inboxd.receiving.store import DeliverySummary
from inboxd.receiving.webhook_event_store import WebhookEventRow
from inboxd.runtime.clock import iso_utc


class DeliveryResource(Resource, frozen=True):
    """A delivery as received, and what became of it."""

    id: str
    state: str
    received_at: str
    settled_at: str | None
    attempts: int
    error: str | None
    size_bytes: int

    @classmethod
    def of(cls, delivery: DeliverySummary) -> Self:
        """The resource of a delivery."""
        return cls(
            id=str(delivery.id),
            state=delivery.state,
            received_at=iso_utc(delivery.received_at),
            settled_at=iso(delivery.settled_at),
            attempts=delivery.attempts,
            error=delivery.error,
            size_bytes=delivery.size,
        )

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            id="4711",
            state="failed",
            received_at="2026-09-21T14:13:27.102Z",
            settled_at="2026-09-21T14:15:40.000Z",
            attempts=4,
            error="event 1: the text is larger than SQLite takes",
            size_bytes=512,
        )


class DeliveryList(Resource, frozen=True):
    """A page of deliveries, newest first."""

    deliveries: list[DeliveryResource]
    total: int
    limit: int
    offset: int

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            deliveries=[DeliveryResource.example()],
            total=1,
            limit=50,
            offset=0,
        )


class RetriedDeliveries(Resource, frozen=True):
    """How many deliveries are back in the queue."""

    retried: int

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            retried=3,
        )


class WebhookEventResource(Resource, frozen=True):
    """A webhook event that is no message and changes none.

    `payload` is as it came (`payloadForm` is `json`), with U+FFFD and null for what JSON cannot say (`mended`), or a
    string when it is no JSON (`text`); it is null when it is larger than 16 KiB (`omitted`).
    """

    id: str
    kind: str
    account_id: str
    participant_id: str | None
    happened_at: str | None
    reason: str | None
    delivery_id: str | None
    created_at: str
    payload: Any
    payload_form: PayloadForm
    size_bytes: int

    @classmethod
    def of(cls, event: WebhookEventRow) -> Self:
        """The resource of a stored webhook event."""
        payload = OMITTED if event.payload is None else shown(event.payload)
        return cls(
            id=str(event.id),
            kind=event.kind,
            account_id=event.account_id,
            participant_id=event.participant_id,
            happened_at=iso(event.happened_at),
            reason=event.reason,
            delivery_id=None if event.delivery_id is None else str(event.delivery_id),
            created_at=iso_utc(event.created_at),
            payload=msgspec.Raw(payload.json),
            payload_form=payload.form,
            size_bytes=event.size,
        )

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            id="12",
            kind="referral",
            account_id=EXAMPLE_ACCOUNT,
            participant_id=EXAMPLE_PARTICIPANT,
            happened_at="2026-09-21T14:13:26.000Z",
            reason=None,
            delivery_id="4711",
            created_at="2026-09-21T14:13:27.120Z",
            payload={"referral": {"ref": "qr7", "source": "SHORTLINKS", "type": "OPEN_THREAD"}},
            payload_form=PayloadForm.JSON,
            size_bytes=71,
        )


class WebhookEventList(Resource, frozen=True):
    """Webhook events, the latest first; `kinds` counts all that are kept."""

    webhook_events: list[WebhookEventResource]
    kinds: dict[str, int]
    limit: int
    next_cursor: str | None

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            webhook_events=[WebhookEventResource.example()],
            kinds={"referral": 1},
            limit=50,
            next_cursor=None,
        )


class ParkedWorkerResource(Resource, frozen=True):
    """A worker that crashes again and again, and is started again after ever longer rests."""

    name: str
    since: str
    crashes: int
    reason: str


class WorkerList(Resource, frozen=True):
    """What works in the background. `profilesDue` counts fetches that are due, of accounts that are served."""

    running: list[str]
    """Those that are parked are among them: they are started again."""
    parked: list[ParkedWorkerResource]
    gave_up: bool
    problems: list[str]
    """Why webhooks cannot be stored or are not processed, as at `/readyz`."""
    deliveries_waiting: int
    oldest_waiting_seconds: float
    deliveries_failed: int
    profiles_due: int

    @classmethod
    def example(cls) -> Self:
        """For the documentation."""
        return cls(
            running=["avatars", "processing", "search"],
            parked=[],
            gave_up=False,
            problems=[],
            deliveries_waiting=2,
            oldest_waiting_seconds=0.012,
            deliveries_failed=0,
            profiles_due=5,
        )
