"""A webhook endpoint: where events, or Meta's deliveries, are pushed to, and how that goes."""

import secrets
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from inboxd.domain.event import EVERY_TYPE
from inboxd.runtime.secret import Secret

MAX_ENDPOINTS: Final = 100
DEFAULT_TIMEOUT_S: Final = 15.0
MAX_RATE: Final = 1000.0


class EndpointKind(StrEnum):
    """What an endpoint gets."""

    STANDARD = "standard"
    """Events, signed as Standard Webhooks says."""
    META = "meta"
    """Meta's deliveries, byte for byte, with Meta's signature."""


class EndpointState(StrEnum):
    """How an endpoint stands."""

    OK = "ok"
    FAILING = "failing"
    """The last attempts failed. It is tried again."""
    DISABLED = "disabled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A webhook endpoint. Times in ms, UTC."""

    id: str
    kind: EndpointKind
    url: str
    event_types: tuple[str, ...] = (EVERY_TYPE,)
    """Patterns of event types. Empty for the kind `meta`."""
    account_ids: tuple[str, ...] = ()
    """Empty: all accounts."""
    description: str = ""
    secret: Secret | None = None
    """None for the kind `meta`, and when no storage key fits that it was encrypted with."""
    previous_secret: Secret | None = None
    previous_secret_until: int | None = None
    enabled: bool = True
    disabled_reason: str | None = None
    """Why inboxd disabled it. None when somebody did."""
    rate_limit: float = 0.0
    """Requests per second; 0: no limit."""
    timeout_s: float = DEFAULT_TIMEOUT_S
    cursor: int = 0
    """The number of an event or a delivery. Up to it everything is delivered, or kept for a retry."""
    generation: int = 0
    """Rises when others than the worker move the cursor."""
    failing_since: int | None = None
    last_success_at: int | None = None
    last_attempt_at: int | None = None
    last_error: str | None = None
    lost: int = 0
    """What it never got, because it was no longer kept when it was to be pushed; about."""
    lost_untold: int = 0
    """How many of these were not logged yet."""
    created_at: int
    updated_at: int

    @property
    def state(self) -> EndpointState:
        """How it stands."""
        if not self.enabled:
            return EndpointState.DISABLED
        return EndpointState.OK if self.failing_since is None else EndpointState.FAILING

    def secrets_at(self, now: int) -> list[Secret]:
        """The secrets that sign at `now` (ms), the current one first."""
        found = [] if self.secret is None else [self.secret]
        if self.previous_secret is not None and now < (self.previous_secret_until or 0):
            found.append(self.previous_secret)
        return found


def new_endpoint_id() -> str:
    """A new id."""
    return f"we_{secrets.token_hex(12)}"
