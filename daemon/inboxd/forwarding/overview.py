"""What the overview says of forwarding: how far each endpoint is, and which need somebody."""

from collections.abc import Sequence
from typing import Final, NamedTuple

from inboxd.feature import Card, Need
from inboxd.forwarding.endpoint import Endpoint, EndpointState
from inboxd.forwarding.progress_store import Standing
from inboxd.forwarding.service import EndpointService
from inboxd.forwarding.target import host_of
from inboxd.runtime.clock import Clock, iso_utc

PATH: Final = "/forwarding"
FAILING_S: Final = 600.0
"""A shorter failure is nobody's business: receivers are restarted."""


SHOWN: Final = 6
"""Endpoints on the overview. Those that do not work come first; the page has all."""
_ORDER: Final = {EndpointState.FAILING: 0, EndpointState.DISABLED: 1, EndpointState.OK: 2}


class EndpointView(NamedTuple):
    """An endpoint, and how far it is."""

    endpoint: Endpoint
    standing: Standing

    @property
    def name(self) -> str:
        """What people call it, or its host."""
        return name_of(self.endpoint)


class ForwardingOverview:
    """This feature's part of the overview."""

    def __init__(self, service: EndpointService, clock: Clock) -> None:
        self._service = service
        self._clock = clock

    async def needs(self) -> Sequence[Need]:
        """The endpoints that somebody should look at. Raises StorageError."""
        now = self._clock.now_ms()
        return [need for endpoint in await self._service.all() for need in endpoint_needs(endpoint, now)]

    async def card(self) -> Card:
        """How far each endpoint is, with its last success and its last error. Raises StorageError."""
        endpoints = sorted(await self._service.all(), key=lambda one: _ORDER[one.state])
        views = [EndpointView(one, await self._service.standing(one)) for one in endpoints[:SHOWN]]
        context = {"views": views, "more": max(0, len(endpoints) - SHOWN)}
        return Card("forwarding_card.html", context, position=25)


def name_of(endpoint: Endpoint) -> str:
    """What people call an endpoint, or its host."""
    return endpoint.description or host_of(endpoint.url)


def endpoint_needs(endpoint: Endpoint, now: int) -> list[Need]:
    """What is wrong with the endpoint at `now` (ms)."""
    name, path = name_of(endpoint), f"{PATH}/{endpoint.id}"
    if endpoint.state is EndpointState.DISABLED and endpoint.disabled_reason is not None:
        return [Need(f"The webhook endpoint {name} is disabled: {endpoint.disabled_reason}.", path, position=30)]
    since = endpoint.failing_since
    if endpoint.state is EndpointState.FAILING and since is not None and now - since >= FAILING_S * 1000:
        text = f"The webhook endpoint {name} has failed since {iso_utc(since)}: {endpoint.last_error or 'no answer'}."
        return [Need(text, path, urgent=False, position=30)]
    return []
