"""A publisher as the feature builds it, on a log that the test appends to."""

import sqlite3
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import msgspec
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from inboxd.domain.event import EventType, NewEvent
from inboxd.events.feature import Events
from inboxd.events.log import EventLog, EventReader
from inboxd.feature import Core, Feature, Need
from inboxd.forwarding.nats import feature
from inboxd.forwarding.nats.resources import ConsumerList, ConsumerResource
from inboxd.forwarding.nats.server import Server
from inboxd.http.resource import Resource
from inboxd.runtime.clock import Clock
from inboxd.runtime.metrics import Metrics
from inboxd.runtime.supervisor import Supervisor
from inboxd.storage.database import Database

from tests.support import ACCOUNT, T0, eventually


class Noted(Resource, frozen=True):
    number: int


NOTED = EventType(name="test.noted", summary="A test noted something.", data=Noted, example=Noted(number=1))


class Publishing:
    """One publisher after another, as a daemon that is started again."""

    def __init__(self, database: Database, url: str, **server: Any) -> None:
        self.database = database
        self.clock: Clock = Clock()
        self.log = EventLog(self.clock, ids_only=lambda: False)
        self.reader = EventReader(database, [NOTED])
        subject = "inboxd.events.{type}.{account}"
        self._options = feature.Options(server=Server(urls=url.split(","), **server), subject=subject, stream="INBOXD")
        self._stack = AsyncExitStack()
        self._feature: Feature | None = None
        self.metrics = Metrics()
        database._on_commit = lambda _transactions, _took_s: self.log.committed(database.changes)

    async def start(self) -> None:
        self.metrics = Metrics()
        core = Core(
            clock=self.clock,
            random=lambda: 0.0,
            database=self.database,
            metrics=self.metrics,
            supervisor=Supervisor(self.clock, self.metrics, lambda: 0.0, on_give_up=lambda: None),
            commit_observers=[],
        )
        told = Events(name="events", log=self.log, reader=self.reader, streams=None)  # type: ignore[arg-type]
        self._feature = feature.build(core, self._stack, self._options, events=told)
        await self._stack.enter_async_context(core.supervisor)
        for job in self._feature.workers:
            core.supervisor.start(*job)

    async def stop(self) -> None:
        await self._stack.aclose()
        self._stack = AsyncExitStack()

    async def append(self, count: int, *, account_id: str = ACCOUNT, size: int = 20) -> None:
        """Append events in one transaction."""
        data = b'{"number":1,"text":"%s"}' % (b"x" * size)

        def transaction(connection: sqlite3.Connection) -> None:
            self.log.append(connection, [NewEvent("test.noted", account_id, T0, data)] * count)

        await self.database.write(transaction)

    async def logged(self) -> list[tuple[str, bytes]]:
        """The log: the id and body of each event."""
        found: list[tuple[str, bytes]] = []
        cursor, more = (await self.reader.ends()).pruned_to, True
        while more:
            page = await self.reader.page(cursor, limit=500)
            found += [(one.id, one.body) for one in page.events]
            cursor, more = page.next_cursor, page.more
        return found

    async def status(self) -> ConsumerResource:
        """What `GET /api/consumers` says."""
        assert self._feature is not None
        (operation,) = self._feature.operations
        response = await operation.handler(make_mocked_request("GET", operation.path))
        assert isinstance(response, web.Response)
        assert isinstance(response.body, bytes)
        return msgspec.json.decode(response.body, type=ConsumerList).consumers[0]

    async def needs(self) -> Sequence[Need]:
        """What the overview asks somebody to look at."""
        assert self._feature is not None
        assert self._feature.overview is not None
        return (await self._feature.overview()).needs

    async def done(self) -> None:
        """Wait until everything is published, and the cursor stored."""

        async def idle() -> bool:
            cursor = await self.database.read("SELECT cursor FROM event_consumers")
            return bool(cursor) and cursor[0][0] == (await self.reader.ends()).last

        await eventually(idle, within_s=60)

    async def waits(self, words: str) -> ConsumerResource:
        """Wait until it waits for something with these words."""

        async def waiting() -> bool:
            return words in ((await self.status()).waits_for or "")

        await eventually(waiting)
        return await self.status()

    def counted(self, result: str) -> float:
        value = self.metrics.registry.get_sample_value("inboxd_nats_events_total", {"result": result})
        assert value is not None
        return value
