"""Builds this feature: the event log, which other features append to, and the ways to read it."""

from collections.abc import Sequence
from dataclasses import dataclass

from inboxd.domain.event import EventType
from inboxd.events import personal_data_store, pruner
from inboxd.events.api import EventsApi
from inboxd.events.log import EventLog, EventReader
from inboxd.events.pruner import EventPruner
from inboxd.events.streams import EventStreams
from inboxd.feature import Core, Feature, Job, Setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is configured of this feature. 0 means no limit."""

    keep_days: int
    max_size_mb: int
    ids_only: bool


@dataclass(frozen=True, kw_only=True)
class Events(Feature):
    """This feature, and what the features above it use."""

    log: EventLog
    reader: EventReader
    streams: EventStreams


def build(core: Core, options: Options, *, types: Sequence[EventType]) -> Events:
    """Build the feature. `types` are those of all features, which are built later: they are looked at when reading."""
    keep_days = Setting("events.keep_days", options.keep_days)
    max_size_mb = Setting("events.max_size_mb", options.max_size_mb)
    ids_only = Setting("events.ids_only", options.ids_only)
    log = EventLog(core.clock, ids_only=ids_only)
    core.commit_observers.append(lambda _transactions, _took_s: log.committed(core.database.changes))
    reader = EventReader(core.database, types)
    streams = EventStreams(reader, log, core.clock)
    return Events(
        name="events",
        log=log,
        reader=reader,
        streams=streams,
        workers=(Job(EventPruner(core.database, max_size_mb=max_size_mb), pruner.SCHEDULE),),
        operations=(*EventsApi(reader, log, core.clock).operations(), *streams.operations()),
        reload=(keep_days.rule, max_size_mb.rule, ids_only.rule),
        close=streams.close,
        personal_data=personal_data_store.personal_data(core.database),
        expiries=personal_data_store.expiries(core.database, days=keep_days),
    )
