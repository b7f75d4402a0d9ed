"""What several tests need."""

import asyncio
import heapq
import io
import itertools
import json
import re
import resource
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from inboxd.accounts.call_log_store import SqliteCallLog
from inboxd.accounts.metrics import AccountMetrics
from inboxd.domain.account import LoginType
from inboxd.events.log import EventLog
from inboxd.meta import webhook_decoding
from inboxd.meta import webhook_events as events
from inboxd.meta.account_graph import AccountGraph
from inboxd.meta.budget import AppBudget, Budget
from inboxd.meta.graph import GraphClient
from inboxd.meta.graph_errors import GraphError
from inboxd.meta.signature import HEADER, sign
from inboxd.runtime.clock import Clock
from inboxd.runtime.secret import Secret
from inboxd.simulator.payloads import Item, delivery
from inboxd.storage.database import Database
from prometheus_client import CollectorRegistry

ACCOUNT = "17841400000000001"
ANA = "7000000000000001"
BRUNO = "7000000000000002"
APP_SECRET = "the-app-secret"
OTHER_APP_SECRET = "another-app-secret"
VERIFY_TOKEN = "the-verify-token"
ADMIN_TOKEN = "the-admin-token"
TOKEN = "the-account-token"
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}
"""What a browser says of a form on one of our own pages."""
T0 = 1_790_000_000_000

Json = dict[str, Any]


class ManualClock(Clock):
    """Time that moves only when told to; sleeping moves it."""

    def __init__(self, now_ms: int = T0) -> None:
        self.now = now_ms
        self.slept: list[float] = []

    def now_ms(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.now / 1000

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += int(seconds * 1000)
        await asyncio.sleep(0)


class TravelClock(Clock):
    """Time that stands still until `travel` moves it; whoever sleeps wakes at the right moment on the way."""

    def __init__(self, *, boot: str = "first boot", monotonic: float = 1000.0) -> None:
        self.wall_ms = float(T0)
        self.seconds = monotonic
        self.boot_id = boot
        self.database: Database | None = None
        """What is written there is waited for at each stop, however slow the disk is."""
        self._timers: list[tuple[float, int, asyncio.Event]] = []
        self._numbers = itertools.count()

    def now_ms(self) -> int:
        return int(self.wall_ms)

    def monotonic(self) -> float:
        return self.seconds

    def boot(self) -> str:
        return self.boot_id

    async def sleep(self, seconds: float) -> None:
        await self.wait(asyncio.Event(), seconds)

    async def wait(self, event: asyncio.Event, timeout_s: float | None) -> bool:
        if timeout_s is None:
            return await event.wait()
        alarm = asyncio.Event()
        heapq.heappush(self._timers, (self.seconds + timeout_s, next(self._numbers), alarm))
        if timeout_s <= 0:
            alarm.set()
        waiters = [asyncio.ensure_future(one.wait()) for one in (event, alarm)]
        try:
            await asyncio.wait(waiters, return_when=asyncio.FIRST_COMPLETED)
            return waiters[0].done()
        finally:
            alarm.set()
            for waiter in waiters:
                waiter.cancel()

    async def travel(self, seconds: float, *, settle_s: float = 0.004) -> None:
        """Let `seconds` pass. `settle_s` of real time is given to files and sockets at each stop."""
        end = self.seconds + seconds
        while True:
            await self._settle(settle_s)
            while self._timers and self._timers[0][2].is_set():
                heapq.heappop(self._timers)
            if not self._timers or self._timers[0][0] > end:
                break
            at, _, alarm = heapq.heappop(self._timers)
            self._move_to(max(at, self.seconds))
            alarm.set()
        self._move_to(end)
        await self._settle(settle_s)

    async def _settle(self, settle_s: float) -> None:
        await asyncio.sleep(settle_s)
        if self.database is None:
            return
        for _ in range(3):
            await self.database.write(lambda _connection: None)
            await asyncio.sleep(settle_s / 4)

    def _move_to(self, seconds: float) -> None:
        self.wall_ms += (seconds - self.seconds) * 1000
        self.seconds = seconds


class Meta:
    """What a daemon has of Meta: both kinds of account, each through its budget, as one process has it."""

    def __init__(
        self, client: GraphClient, database: Database, clock: Clock, *, calls_per_hour: int, calls_per_second: float
    ) -> None:
        self.client = client
        self.clock = clock
        self.ledger = SqliteCallLog(database, clock)
        self.traffic = AppBudget(clock)
        self.verdicts: list[GraphError | None] = []
        self._limits = {"calls_per_hour": calls_per_hour, "calls_per_second": calls_per_second}

    async def account(
        self,
        token: str = TOKEN,
        account_id: str = ACCOUNT,
        login_type: LoginType = LoginType.INSTAGRAM,
        app_secrets: Sequence[str] = (),
    ) -> AccountGraph:
        """One account's Graph API, with what is remembered of its budget."""
        await self.traffic.load(self.ledger)
        budget = Budget(account_id, self.ledger, self.traffic, self.client.circuit, self.clock, **self._limits)  # type: ignore[arg-type]
        await budget.load(longest_call_s=15)
        graph = AccountGraph(
            self.client,
            budget,
            self.ledger,
            self.traffic,
            login_type=login_type,
            app_secrets=[Secret(text) for text in app_secrets],
            app_id=None,
            on_verdict=self._judge,
        )
        graph.token = Secret(token)
        return graph

    async def _judge(self, error: GraphError | None) -> None:
        self.verdicts.append(error)


@asynccontextmanager
async def meta(
    url: str,
    database: Database,
    clock: Clock | None = None,
    *,
    timeout_s: float = 5.0,
    calls_per_hour: int = 10_000,
    calls_per_second: float = 1_000_000,
) -> AsyncIterator[Meta]:
    """Meta at `url`."""
    clock = clock or Clock()
    async with GraphClient(url, "v25.0", timeout_s=timeout_s, clock=clock) as client:
        yield Meta(client, database, clock, calls_per_hour=calls_per_hour, calls_per_second=calls_per_second)


def decoded(body: bytes) -> list[events.WebhookEvent]:
    """The events of a delivery, as they are processed."""
    try:
        return list(webhook_decoding.decode(body))
    except events.BrokenDeliveryError:
        return webhook_decoding.decode_broken(body)


class Client:
    """Meta on one side, an administrator on the other."""

    def __init__(self, session: aiohttp.ClientSession, public_url: str, admin_url: str, database: Path) -> None:
        self.session = session
        self.public_url = public_url
        self.admin_url = admin_url
        self.database = database

    async def post(self, body: bytes, *, secret: str = APP_SECRET, **headers: str) -> tuple[int, bytes, str]:
        """POST a signed body; status, body and content type of the answer."""
        url = f"{self.public_url}/webhooks/instagram"
        async with self.session.post(
            url, data=io.BytesIO(body), headers={HEADER: sign(body, secret), **headers}
        ) as response:
            return response.status, await response.read(), response.content_type

    async def deliver(self, *items: Item, account_id: str = ACCOUNT, field: str = "messaging") -> None:
        """POST items in one delivery, which must be acknowledged."""
        body = json.dumps(delivery(account_id, T0, list(items), field=field)).encode()
        status, answer, _ = await self.post(body)
        assert status == 200, answer

    async def get(self, path: str, *, token: str | None = ADMIN_TOKEN, status: int = 200) -> Json:
        """GET from the admin listener."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with self.session.get(self.admin_url + path, headers=headers) as response:
            body: Json = await response.json(content_type=None)
            assert response.status == status, body
            return body

    async def send(
        self, method: str, path: str, body: object = None, *, token: str | None = ADMIN_TOKEN, status: int = 200
    ) -> Any:
        """A request to the admin listener; its JSON."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        data = None if body is None else json.dumps(body)
        async with self.session.request(method, self.admin_url + path, data=data, headers=headers) as response:
            text = await response.text()
            assert response.status == status, text
            return json.loads(text) if text else None

    async def conversations(self, query: str = "") -> list[Json]:
        """All conversations, as the API tells them."""
        found: list[Json] = (await self.get(f"/api/messaging/conversations{query}"))["conversations"]
        return found

    async def messages(self, conversation: Json) -> list[Json]:
        """A conversation's messages, oldest first."""
        answer = await self.get(f"/api/messaging/conversations/{conversation['id']}/messages?limit=200")
        return list(reversed(answer["messages"]))

    async def settled(self) -> None:
        """Wait until every delivery was handled."""

        async def idle() -> bool:
            return bool((await self.get("/api/deliveries?state=pending"))["total"] == 0)

        await eventually(idle)


@contextmanager
def full_disk(path: Path) -> Iterator[None]:
    """No file of this process may become larger than the journal of the database at `path` is now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.with_name(path.name + "-wal").stat().st_size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@asynccontextmanager
async def slow_disk(database: Database) -> AsyncIterator[None]:
    """Whatever is written meanwhile becomes durable afterwards, and nobody goes on before that."""
    reached, go = threading.Event(), threading.Event()

    def busy(_connection: object) -> None:
        reached.set()
        go.wait(20)

    writing = asyncio.ensure_future(database.write(busy))
    await asyncio.to_thread(reached.wait, 20)
    try:
        yield
    finally:
        go.set()
        await writing


async def eventually(condition: Callable[[], Awaitable[bool]], *, within_s: float = 20) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + within_s
    while not await condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)


def strict(text: str) -> Any:
    """What every decoder agrees on: UTF-8, no NaN, no half characters, nested no deeper than most allow."""
    msgspec.json.decode(text)

    def refuse(name: str) -> None:
        raise AssertionError(name)

    def depth(value: object) -> int:
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        return 1 + max(map(depth, inner), default=0)

    found = json.loads(text, parse_constant=refuse)
    assert depth(found) < 64
    return found


def documented_events() -> dict[str, set[str]]:
    """The events of docs/log-events.md, each with its levels."""
    text = (Path(__file__).parent.parent / "docs" / "log-events.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([a-z_]+)` \| ([a-z, ]+) \|", text, re.MULTILINE)
    return {event: set(levels.split(", ")) for event, levels in rows}


def instruments() -> AccountMetrics:
    """The instruments of accounts, in a registry of their own."""
    return AccountMetrics(CollectorRegistry())


def event_log(clock: Clock | None = None, *, ids_only: bool = False) -> EventLog:
    """An event log, for parts that append to one."""
    return EventLog(clock or Clock(), ids_only=lambda: ids_only)


async def told(database: Database, *, after: int = 0) -> list[tuple[str, Json]]:
    """The events that the log in `database` has after a cursor: the type of each, and its data as it is kept."""
    rows = await database.read("SELECT type, data FROM events WHERE seq > ? ORDER BY seq", (after,))
    return [(kind, json.loads(data)) for kind, data in rows]


async def no_message(_account_id: str) -> None:
    """No message of any account has arrived."""
