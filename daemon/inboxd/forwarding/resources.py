"""Webhook endpoints as JSON of the API."""

from typing import Annotated, Any, Self

import msgspec
from msgspec import Meta

from inboxd.forwarding.endpoint import DEFAULT_TIMEOUT_S, MAX_RATE, Endpoint, EndpointKind, EndpointState
from inboxd.forwarding.progress_store import PushAttempt, RetryRow, RetryState, Standing
from inboxd.forwarding.target import MAX_URL, PushAnswer
from inboxd.http.resource import MetaId, Resource, iso
from inboxd.runtime.clock import iso_utc
from inboxd.runtime.secret import Secret

Url = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_URL,
        description="https:// or http://. Redirects are not followed. Link-local and metadata addresses are refused.",
    ),
]
Pattern = Annotated[str, Meta(min_length=1, max_length=64, description="A type of event, `message.*`, or `*`.")]
Patterns = Annotated[
    list[Pattern], Meta(min_length=1, max_length=64, description="Left out: all events. Not for the kind `meta`.")
]
Accounts = Annotated[list[MetaId], Meta(max_length=1000, description="Empty: all accounts.")]
Description = Annotated[str, Meta(max_length=500)]
Rate = Annotated[float, Meta(ge=0, le=MAX_RATE, description="Requests per second at most; 0: no limit.")]
TimeoutSeconds = Annotated[float, Meta(ge=1, le=60, description="How long the receiver may take to answer.")]
Cursor = Annotated[str, Meta(pattern=r"^[0-9]{1,18}$(?!\n)", description="`nextCursor` of `/api/events`.")]
Time = Annotated[str, Meta(max_length=40, description="ISO 8601 with a time zone, such as `2026-11-30T08:00:00Z`.")]


class NewEndpoint(Resource, frozen=True, forbid_unknown_fields=True):
    """A webhook endpoint to create."""

    url: Url
    kind: EndpointKind = EndpointKind.STANDARD
    event_types: Patterns | None = None
    account_ids: Accounts = msgspec.field(default_factory=list)
    description: Description = ""
    enabled: bool = True
    rate_limit: Rate = 0.0
    timeout_seconds: TimeoutSeconds = DEFAULT_TIMEOUT_S


class EndpointChange(Resource, frozen=True, forbid_unknown_fields=True):
    """What to change of a webhook endpoint. What is left out stays."""

    url: Url | None = None
    event_types: Patterns | None = None
    account_ids: Accounts | None = None
    description: Description | None = None
    enabled: bool | None = None
    rate_limit: Rate | None = None
    timeout_seconds: TimeoutSeconds | None = None


class Replay(Resource, frozen=True, forbid_unknown_fields=True):
    """From where to push again: exactly one of the two."""

    after: Cursor | None = None
    since: Time | None = None


class EndpointResource(Resource, frozen=True):
    """A webhook endpoint, and how it stands."""

    id: str
    kind: EndpointKind
    url: str
    event_types: list[str]
    account_ids: list[str]
    description: str
    enabled: bool
    state: EndpointState
    disabled_reason: str | None
    rate_limit: float
    timeout_seconds: float
    cursor: str
    behind_by: int
    """Events, or deliveries, that it does not have yet, about."""
    lag_seconds: float
    """The age of the oldest of them."""
    retries: int
    """Events that are tried again, or wait behind one that is."""
    failures: int
    """Events that are tried no more."""
    lost: int
    """Events, or deliveries, that were no longer kept when they were to be pushed, about."""
    failing_since: str | None
    last_success_at: str | None
    last_attempt_at: str | None
    last_error: str | None
    previous_secret_valid_until: str | None
    created_at: str
    updated_at: str

    @classmethod
    def of(cls, endpoint: Endpoint, standing: Standing) -> Self:
        """An endpoint with its standing."""
        return cls(**fields_of(endpoint, standing))


class EndpointWithSecret(EndpointResource, frozen=True):
    """A webhook endpoint that was just created, with its secret: it is shown only here."""

    secret: str | None
    """The key for the library of Standard Webhooks. Null for the kind `meta`, which has Meta's signature."""


class NewSecret(Resource, frozen=True):
    """The new secret of an endpoint: it is shown only here."""

    id: str
    secret: str
    previous_secret_valid_until: str
    """Until then every request has two signatures: with the new secret, and with the one before."""


class EndpointList(Resource, frozen=True):
    """All webhook endpoints, the oldest first."""

    endpoints: list[EndpointResource]
    total: int


class TestOutcome(Resource, frozen=True):
    """What came of a sample."""

    delivered: bool
    event_id: str
    type: str
    status: int | None
    """The HTTP status; null without an answer."""
    latency_ms: int
    error: str | None
    response: str | None
    """The first KiB of the answer."""

    @classmethod
    def of(cls, event_id: str, kind: str, answer: PushAnswer) -> Self:
        """The answer to the sample `event_id`."""
        return cls(
            delivered=answer.error is None,
            event_id=event_id,
            type=kind,
            status=answer.status,
            latency_ms=answer.latency_ms,
            error=answer.error,
            response=answer.text,
        )


class AttemptResource(Resource, frozen=True):
    """One attempt to push something."""

    event_id: str
    type: str
    account_id: str | None
    attempt: int
    at: str
    latency_ms: int
    delivered: bool
    status: int | None
    error: str | None
    response: str | None

    @classmethod
    def of(cls, attempt: PushAttempt) -> Self:
        """A kept attempt."""
        return cls(
            event_id=attempt.item_id,
            type=attempt.type,
            account_id=attempt.account_id or None,
            attempt=attempt.attempt,
            at=iso_utc(attempt.at),
            latency_ms=attempt.latency_ms,
            delivered=attempt.error is None,
            status=attempt.status,
            error=attempt.error,
            response=attempt.response,
        )


class AttemptList(Resource, frozen=True):
    """The latest attempts of an endpoint, the latest first."""

    attempts: list[AttemptResource]
    total: int
    limit: int
    offset: int


class FailureResource(Resource, frozen=True):
    """Something that could not be delivered at first, or waits behind it."""

    event_id: str
    type: str
    state: RetryState
    attempts: int
    next_attempt_at: str | None
    recorded_at: str
    first_failed_at: str | None
    error: str | None

    @classmethod
    def of(cls, row: RetryRow) -> Self:
        """What is kept of it."""
        return cls(
            event_id=row.item_id,
            type=row.type,
            state=row.state,
            attempts=row.attempts,
            next_attempt_at=iso(row.next_attempt_at) if row.state is RetryState.RETRYING else None,
            recorded_at=iso_utc(row.recorded_at),
            first_failed_at=iso(row.first_failed_at),
            error=row.error,
        )


class FailureList(Resource, frozen=True):
    """What could not be delivered at first, the oldest first."""

    failures: list[FailureResource]
    total: int
    limit: int
    offset: int


def fields_of(endpoint: Endpoint, standing: Standing) -> dict[str, Any]:
    """The members of an endpoint's resource."""
    return {
        "id": endpoint.id,
        "kind": endpoint.kind,
        "url": endpoint.url,
        "event_types": list(endpoint.event_types),
        "account_ids": list(endpoint.account_ids),
        "description": endpoint.description,
        "enabled": endpoint.enabled,
        "state": endpoint.state,
        "disabled_reason": endpoint.disabled_reason,
        "rate_limit": endpoint.rate_limit,
        "timeout_seconds": endpoint.timeout_s,
        "cursor": str(endpoint.cursor),
        "behind_by": standing.behind_by,
        "lag_seconds": standing.lag_s,
        "retries": standing.retries,
        "failures": standing.failures,
        "lost": endpoint.lost,
        "failing_since": iso(endpoint.failing_since),
        "last_success_at": iso(endpoint.last_success_at),
        "last_attempt_at": iso(endpoint.last_attempt_at),
        "last_error": endpoint.last_error,
        "previous_secret_valid_until": iso(endpoint.previous_secret_until),
        "created_at": iso_utc(endpoint.created_at),
        "updated_at": iso_utc(endpoint.updated_at),
    }


def revealed(secret: Secret | None) -> str | None:
    """A secret that is shown this once."""
    return None if secret is None else secret.reveal()
