"""Builds this feature: events, and Meta's own deliveries, are pushed to the systems of the user."""

import ipaddress
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from inboxd.accounts.manager import AccountManager
from inboxd.domain.addresses import IpNetwork
from inboxd.events.feature import Events
from inboxd.feature import Core, Feature, Link, ReloadRule
from inboxd.forwarding import personal_data_store
from inboxd.forwarding.api import EndpointsApi
from inboxd.forwarding.delivery_store import DeliveryStore
from inboxd.forwarding.endpoint import Endpoint, EndpointKind
from inboxd.forwarding.items import DeliverySource, EventSource, ItemSource
from inboxd.forwarding.metrics import ForwardingMetrics
from inboxd.forwarding.overview import PATH, ForwardingOverview
from inboxd.forwarding.pacing import PushPacing
from inboxd.forwarding.pages import ForwardingPages
from inboxd.forwarding.progress_store import ProgressStore
from inboxd.forwarding.service import EndpointService
from inboxd.forwarding.store import EndpointStore
from inboxd.forwarding.target import TargetClient
from inboxd.forwarding.worker import Tools
from inboxd.forwarding.workers import EndpointWorkers
from inboxd.receiving.store import Inbox


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is configured of this feature."""

    allow_networks: Sequence[IpNetwork]
    """When there are any, receivers may only be in these."""


@dataclass(frozen=True, kw_only=True)
class Forwarding(Feature):
    """This feature, and what the features above it use."""

    service: EndpointService


async def build(
    core: Core,
    stack: AsyncExitStack,
    options: Options,
    *,
    inbox: Inbox,
    accounts: AccountManager,
    events: Events,
    consumers: Sequence[Feature] = (),
    via: str = "",
) -> Forwarding:
    """Build the feature. `stack` closes the connections to receivers. The workers start when everything is built.

    The cards of `consumers`, which also get the event log, are shown on the page of this feature. `via` is this
    daemon's name in the header Via of deliveries that are handed on.
    """
    networks = _Networks(options.allow_networks)
    target = await stack.enter_async_context(TargetClient(core.clock, networks))
    store, progress = EndpointStore(core.database, accounts.vault), ProgressStore(core.database)
    deliveries = DeliveryStore(core.database)
    metrics = ForwardingMetrics(core.metrics.registry)

    def main_id(account_id: str) -> str:
        return accounts.aliases.get(account_id, account_id)

    def source_of(endpoint: Endpoint) -> ItemSource:
        if endpoint.kind is EndpointKind.META:
            return DeliverySource(deliveries, endpoint, main_id, via)
        return EventSource(events.reader, endpoint)

    tools = Tools(
        endpoints=store,
        progress=progress,
        target=target,
        pacing=PushPacing(inbox, core.clock),
        source_of=source_of,
        metrics=metrics,
        clock=core.clock,
        random=core.random,
    )
    workers = EndpointWorkers(core.supervisor, tools)
    service = EndpointService(store, progress, events.reader, target, core.clock, workers)
    events.log.on_append.append(workers.events_appended)
    core.commit_observers.append(workers.committed)

    async def start(_features: Sequence[Feature]) -> None:
        await service.load()

    async def collect() -> None:
        metrics.show({one: await service.standing(one) for one in await service.all()})

    pages = ForwardingPages(
        service,
        progress,
        accounts,
        core.clock,
        types=lambda: sorted(events.reader.types),
        consumers=[one.overview for one in consumers if one.overview is not None],
    )
    return Forwarding(
        name="forwarding",
        service=service,
        start=start,
        operations=EndpointsApi(service, progress).operations(),
        collect=collect,
        reload=(networks.rule,),
        expiries=personal_data_store.expiries(core.database),
        personal_data=personal_data_store.personal_data(forget=workers.forget),
        pages=(pages,),
        templates="inboxd.forwarding",
        links=(Link(PATH, "Forwarding", 35),),
        overview=ForwardingOverview(service, core.clock).read,
    )


class _Networks:
    """The networks that receivers may be in; they can change while the daemon runs."""

    def __init__(self, networks: Sequence[IpNetwork]) -> None:
        self._networks = networks

    def __call__(self) -> Sequence[IpNetwork]:
        return self._networks

    @property
    def rule(self) -> ReloadRule:
        return ReloadRule(("forward.allow_networks",), self._take)

    def _take(self, new: Mapping[str, Any]) -> None:
        self._networks = [ipaddress.ip_network(text) for text in new["forward.allow_networks"]]
