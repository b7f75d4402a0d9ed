"""What the overview says of forwarding: endpoints that inboxd disabled, or that fail."""

from collections.abc import Sequence
from typing import Final

from inboxd.feature import Need
from inboxd.forwarding.endpoint import Endpoint, EndpointState
from inboxd.forwarding.service import EndpointService
from inboxd.forwarding.target import host_of
from inboxd.runtime.clock import Clock, iso_utc

PATH: Final = "/endpoints"
FAILING_S: Final = 600.0
"""A shorter failure is nobody's business: receivers are restarted."""


class ForwardingOverview:
    """This feature's part of the overview."""

    def __init__(self, service: EndpointService, clock: Clock) -> None:
        self._service = service
        self._clock = clock

    async def needs(self) -> Sequence[Need]:
        """The endpoints that somebody should look at. Raises StorageError."""
        now = self._clock.now_ms()
        return [need for endpoint in await self._service.all() for need in endpoint_needs(endpoint, now)]


def endpoint_needs(endpoint: Endpoint, now: int) -> list[Need]:
    """What is wrong with the endpoint at `now` (ms)."""
    name = endpoint.description or host_of(endpoint.url)
    if endpoint.state is EndpointState.DISABLED and endpoint.disabled_reason is not None:
        return [Need(f"The webhook endpoint {name} is disabled: {endpoint.disabled_reason}.", PATH, position=30)]
    since = endpoint.failing_since
    if endpoint.state is EndpointState.FAILING and since is not None and now - since >= FAILING_S * 1000:
        text = f"The webhook endpoint {name} has failed since {iso_utc(since)}: {endpoint.last_error or 'no answer'}."
        return [Need(text, PATH, urgent=False, position=30)]
    return []
