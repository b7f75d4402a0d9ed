"""Events, as every reader gets them."""

from typing import NamedTuple

import msgspec

from inboxd.domain.event import StoredEvent
from inboxd.http.resource import Resource
from inboxd.runtime.clock import iso_utc


class Envelope(Resource, frozen=True):
    """An event, as every reader gets it: over the API, the stream, webhooks and NATS."""

    id: str
    """Stable and unique. Readers use it to recognise an event that they already have."""
    type: str
    account_id: str | None
    occurred_at: str
    """When it happened: Meta's time where Meta tells one."""
    recorded_at: str
    """When inboxd recorded it."""
    data: msgspec.Raw

    @classmethod
    def of(cls, event: StoredEvent, data: msgspec.Raw) -> "Envelope":
        """The envelope of a stored event with its rendered data."""
        return cls(
            id=event.id,
            type=event.type,
            account_id=event.account_id or None,
            occurred_at=iso_utc(event.occurred_at),
            recorded_at=iso_utc(event.recorded_at),
            data=data,
        )


class RenderedEvent(NamedTuple):
    """An event that is ready to be sent."""

    seq: int
    id: str
    type: str
    account_id: str
    conversation_id: int | None
    recorded_at: int
    body: bytes
    """The envelope as JSON."""
