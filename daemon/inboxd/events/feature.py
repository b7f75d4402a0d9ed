"""Builds this feature: what happens is told to whoever listens, as it happens."""

from dataclasses import dataclass

from inboxd.events.api import EventStreams
from inboxd.events.bus import EventBus
from inboxd.feature import Core, Feature


@dataclass(frozen=True, kw_only=True)
class Events(Feature):
    """This feature, and what the features above it use."""

    bus: EventBus
    streams: EventStreams


def build(core: Core) -> Events:
    """Build the feature."""
    bus = EventBus(core.clock)
    streams = EventStreams(bus)
    return Events(name="events", bus=bus, streams=streams, operations=streams.operations(), close=streams.close)
