"""Builds this feature: the event log, published to NATS JetStream where that is configured."""

from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import Final

from inboxd.events.feature import Events
from inboxd.feature import Core, Feature, Job
from inboxd.forwarding.nats import personal_data_store
from inboxd.forwarding.nats.api import ConsumersApi
from inboxd.forwarding.nats.metrics import NatsMetrics
from inboxd.forwarding.nats.overview import NatsOverview
from inboxd.forwarding.nats.server import Server
from inboxd.forwarding.nats.state import NAME
from inboxd.forwarding.nats.status import NatsStatus
from inboxd.forwarding.nats.store import ConsumerStore
from inboxd.forwarding.nats.subject import SubjectTemplate
from inboxd.runtime.errors import ConfigError

_LIBRARY: Final = "nats"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is configured of this feature."""

    server: Server
    """Without an address nothing is published."""
    subject: str
    stream: str


def build(core: Core, stack: AsyncExitStack, options: Options, *, events: Events) -> Feature:
    """Build the feature; `stack` ends the connection. Raises ConfigError."""
    personal_data = personal_data_store.personal_data()
    metrics = NatsMetrics(core.metrics.registry)
    if not options.server.urls:
        return Feature(name=NAME, operations=ConsumersApi(None).operations(), personal_data=personal_data)
    try:
        from inboxd.forwarding.nats import connection, publisher  # noqa: PLC0415 - their library is an extra
    except ModuleNotFoundError as error:
        raise _explained(error) from error
    options.server.check()
    subjects = SubjectTemplate(options.subject)
    worker = publisher.NatsPublisher(
        events.reader,
        ConsumerStore(core.database, NAME),
        partial(connection.JetStream.open, options.server, options.stream, subjects),
        subjects,
        core.clock,
        core.random,
        metrics,
    )
    stack.push_async_callback(worker.close)
    events.log.on_append.append(worker.wakeup.notify)
    status = NatsStatus(lambda: worker.state, events.reader, core.clock, metrics)
    overview = NatsOverview(status, core.clock)
    return Feature(
        name=NAME,
        workers=(Job(worker, publisher.SCHEDULE),),
        operations=ConsumersApi(status).operations(),
        templates="inboxd.forwarding.nats",
        collect=status.collect,
        personal_data=personal_data,
        overview=overview.read,
    )


def _explained(error: ModuleNotFoundError) -> Exception:
    """What to install, if it is the library for NATS that is missing."""
    if (error.name or "").partition(".")[0] != _LIBRARY:
        return error
    return ConfigError("forward.nats.url is set, and the library for NATS is not installed: pip install 'inboxd[nats]'")
