"""What the overview says of webhook endpoints: how each stands, and which somebody should look at."""

from typing import Final

from inboxd.feature import Card, Need, OverviewPart
from inboxd.forwarding.endpoint import Endpoint, EndpointState
from inboxd.forwarding.service import EndpointService
from inboxd.forwarding.target import host_of
from inboxd.runtime.clock import Clock, iso_utc

PATIENCE_MS: Final = 600_000
"""How long an endpoint may fail before somebody is asked to look: receivers are restarted now and then."""
_LINK: Final = "/#endpoints"


class ForwardingOverview:
    """This feature's part of the overview."""

    def __init__(self, service: EndpointService, clock: Clock) -> None:
        self._service = service
        self._clock = clock

    async def read(self) -> OverviewPart:
        """Each endpoint with its state and how far behind it is, and the problems of all. Raises StorageError."""
        endpoints, now = await self._service.all(), self._clock.now_ms()
        shown = [(one, name_of(one), await self._service.standing(one)) for one in endpoints]
        needs = [need for endpoint in endpoints for need in endpoint_needs(endpoint, now)]
        return OverviewPart(Card("forwarding_card.html", {"endpoints": shown}, position=35), needs)


def name_of(endpoint: Endpoint) -> str:
    """What people call an endpoint: its description, or its host."""
    return endpoint.description or host_of(endpoint.url)


def endpoint_needs(endpoint: Endpoint, now: int) -> list[Need]:
    """What is wrong with the endpoint at `now` (ms)."""
    name, since = name_of(endpoint), endpoint.failing_since
    if endpoint.state is EndpointState.DISABLED and endpoint.disabled_reason is not None:
        return [Need(f"The webhook endpoint {name} is disabled: {endpoint.disabled_reason}.", _LINK, position=30)]
    if endpoint.state is EndpointState.FAILING and since is not None and now - since >= PATIENCE_MS:
        text = f"The webhook endpoint {name} has failed since {iso_utc(since)}: {endpoint.last_error or 'no answer'}."
        return [Need(text, _LINK, urgent=False, position=30)]
    return []
