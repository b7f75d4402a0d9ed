"""What the overview says of webhook endpoints: how each stands, and which somebody should look at."""

from typing import Final, NamedTuple

from inboxd.feature import Card, Need, OverviewPart
from inboxd.forwarding.endpoint import Endpoint, EndpointState
from inboxd.forwarding.progress_store import Standing
from inboxd.forwarding.service import EndpointService
from inboxd.forwarding.target import host_of
from inboxd.runtime.clock import Clock, iso_utc

PATH: Final = "/forwarding"
SHOWN: Final = 6
"""Endpoints on the overview. Those that do not work come first; the page `/forwarding` has all."""
PATIENCE_MS: Final = 600_000
"""How long an endpoint may fail before somebody is asked to look: receivers are restarted now and then."""
_ORDER: Final = {EndpointState.FAILING: 0, EndpointState.DISABLED: 1, EndpointState.OK: 2}


class EndpointView(NamedTuple):
    """An endpoint, and how far it is."""

    endpoint: Endpoint
    standing: Standing

    @property
    def name(self) -> str:
        """What people call it."""
        return name_of(self.endpoint)


class ForwardingOverview:
    """This feature's part of the overview."""

    def __init__(self, service: EndpointService, clock: Clock) -> None:
        self._service = service
        self._clock = clock

    async def read(self) -> OverviewPart:
        """How far the endpoints are, their last success and error, and what is wrong. Raises StorageError."""
        endpoints, now = await self._service.all(), self._clock.now_ms()
        needs = [need for endpoint in endpoints for need in endpoint_needs(endpoint, now)]
        endpoints.sort(key=lambda one: _ORDER[one.state])
        views = [EndpointView(one, await self._service.standing(one)) for one in endpoints[:SHOWN]]
        context = {"views": views, "more": max(0, len(endpoints) - SHOWN)}
        return OverviewPart(Card("forwarding_card.html", context, position=25), needs)


def name_of(endpoint: Endpoint) -> str:
    """What people call an endpoint: its description, or its host."""
    return endpoint.description or host_of(endpoint.url)


def endpoint_needs(endpoint: Endpoint, now: int) -> list[Need]:
    """What is wrong with the endpoint at `now` (ms)."""
    name, path, since = name_of(endpoint), f"{PATH}/{endpoint.id}", endpoint.failing_since
    if endpoint.state is EndpointState.DISABLED and endpoint.disabled_reason is not None:
        return [Need(f"The webhook endpoint {name} is disabled: {endpoint.disabled_reason}.", path, position=30)]
    if endpoint.state is EndpointState.FAILING and since is not None and now - since >= PATIENCE_MS:
        text = f"The webhook endpoint {name} has failed since {iso_utc(since)}: {endpoint.last_error or 'no answer'}."
        return [Need(text, path, urgent=False, position=30)]
    return []
