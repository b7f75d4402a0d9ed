"""A daemon and a simulated Instagram in one process, on a clock that stands still until it is moved."""

import asyncio
import heapq
import json
import math
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from inboxd import app
from inboxd.config.schema import AccountSettings, Admin, BudgetSettings, Instagram, Public, Settings
from inboxd.config.secrets import Secrets
from inboxd.feature import Core, Feature
from inboxd.runtime.secret import Secret
from inboxd.simulator.behaviour import Behaviour
from inboxd.simulator.graph_server import GraphServer
from inboxd.simulator.mailbox import NewMessage
from inboxd.simulator.payloads import Item, delivery
from inboxd.simulator.sender import WebhookSender
from inboxd.simulator.serving import serving
from inboxd.storage.database import Database

from tests.support import ACCOUNT, ADMIN_TOKEN, APP_SECRET, TOKEN, VERIFY_TOKEN, Client, Json, TravelClock, eventually

LISTS = "/v25.0/me/conversations"

TURNS = 8
"""Turns of the event loop after which whoever was woken is awake."""
BUSY_AT_MOST = 20
"""Leaps after which one who does not sleep is taken for one who has ended."""
MINUTE = 60


class LeapClock(TravelClock):
    """Time that moves in leaps: whoever sleeps wakes a little late, as on a busy machine.

    After each leap it stands still until as many sleep again as usually do, or for as long as a machine may need.
    """

    def __init__(self) -> None:
        super().__init__()
        self._asleep = 0
        self._usual = math.inf
        """How many sleep when nothing is to do."""
        self._busy_in_a_row = 0

    async def wait(self, event: asyncio.Event, timeout_s: float | None) -> bool:
        if not self._asleep:  # a daemon starts
            self._usual, self._busy_in_a_row = math.inf, 0
        self._asleep += 1
        try:
            return await super().wait(event, timeout_s)
        finally:
            self._asleep -= 1

    ahead_ms = 0
    """How far our wall clock is ahead of Meta's."""

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms

    def meta_ms(self) -> int:
        """The time by Meta's clock."""
        return self.now_ms() - self.ahead_ms

    async def leap(self, seconds: float, *, step_s: float = 5.0) -> None:
        """Let `seconds` pass, `step_s` at a time. A long step has more real time for what it wakes, if that is busy."""
        end = self.seconds + seconds
        settle_s = 0.004 * min(max(step_s / 20, 1), 10)
        while self.seconds < end:
            self._move_to(min(end, self.seconds + step_s))
            while self._timers and self._timers[0][0] <= self.seconds:
                heapq.heappop(self._timers)[2].set()
            await self._settle(settle_s)

    async def _settle(self, settle_s: float) -> None:
        for _ in range(TURNS):
            await asyncio.sleep(0)
        ends = time.monotonic() + settle_s
        while self._asleep < self._usual and time.monotonic() < ends:  # noqa: ASYNC110 - nobody tells that all sleep
            await asyncio.sleep(0.001)
        if self._asleep >= self._usual:
            self._usual = self._asleep
            self._busy_in_a_row = 0
            return
        await super()._settle(0)
        self._busy_in_a_row += 1
        if self._busy_in_a_row == BUSY_AT_MOST:  # somebody of those who slept is no longer there
            self._usual, self._busy_in_a_row = self._asleep, 0


class World:
    """Both sides, and what is known of them."""

    def __init__(self, server: GraphServer, url: str, clock: LeapClock, path: Path) -> None:
        self.server, self.url, self.clock, self.path = server, url, clock, path
        self.database: Database
        self.client: Client
        self.sender: WebhookSender

    @asynccontextmanager
    async def daemon(self, **changes: Any) -> AsyncIterator["World"]:
        """A daemon runs. `changes` are sections of its settings."""
        sections: dict[str, Any] = {
            "public": Public(port=0),
            "admin": Admin(port=0),
            "instagram": Instagram(graph_url=self.url, facebook_graph_url=self.url),
            "budget": BudgetSettings(calls_per_second=1000),
            "accounts": (AccountSettings(id=ACCOUNT, name="shop"),),
        }
        settings = Settings(**{**sections, **changes})
        secrets = Secrets(
            app_secrets=(Secret(APP_SECRET),),
            verify_token=Secret(VERIFY_TOKEN),
            admin_token=Secret(ADMIN_TOKEN),
            account_tokens={ACCOUNT: Secret(TOKEN)},
        )
        gave_up: list[bool] = []

        def look_in(core: Core) -> Feature:
            self.database = self.clock.database = core.database
            return Feature(name="looks in")

        async with AsyncExitStack() as stack:
            daemon = await stack.enter_async_context(
                app.run_daemon(
                    settings,
                    secrets,
                    self.path,
                    on_give_up=lambda: gave_up.append(True),
                    clock=self.clock,
                    more=[look_in],
                )
            )
            session = await stack.enter_async_context(aiohttp.ClientSession())
            self.client = Client(session, daemon.public_url, daemon.admin_url, self.path)
            hook = f"{daemon.public_url}/webhooks/instagram"
            self.sender = WebhookSender(session, hook, APP_SECRET, instagram=self.server)
            yield self
        self.clock.database = None
        assert not gave_up, "a worker crashed again and again"

    def behave(self, **changes: Any) -> None:
        """The simulated Instagram behaves differently from now on."""
        self.server.behaviour = msgspec.structs.replace(self.server.behaviour, **changes)

    async def sent(self, *items: Item) -> None:
        """These happen at Meta, which sends its webhooks unless it behaves otherwise. All that comes is processed."""
        for item in items:
            await self.sender.send(delivery(ACCOUNT, self.clock.now_ms(), [item]))
        await self.sender.flush()

        async def idle() -> bool:
            await self.clock.leap(0.1)
            rows = await self.database.read("SELECT count(*) FROM deliveries WHERE state = 'pending'")
            return bool(rows[0][0] == 0)

        await eventually(idle)

    def happens(self, participant_id: str, text: str | None, **more: Any) -> str:
        """A message that no webhook tells of. Returns its mid."""
        return self.server.mailbox.add(NewMessage(ACCOUNT, participant_id, text, **more))

    async def erased(self, participant_id: str) -> None:
        """Somebody is erased."""
        forgetting = asyncio.ensure_future(self.client.send("DELETE", f"/api/participants/{ACCOUNT}/{participant_id}"))
        while not forgetting.done():
            await self.clock.leap(0.1)
        await forgetting

    async def checked(self, minutes: float = 11) -> None:
        """Time passes, so that the schedule has its turn."""
        await self.clock.leap(minutes * MINUTE)

    def calls(self, part: str = "") -> int:
        """How many Graph calls have `part` in their path."""
        return sum(part in path for path in self.server.calls)

    async def texts(self) -> dict[str, str | None]:
        """The text of each message that is shown, by mid."""
        rows = await self.database.read("SELECT platform_message_id, content FROM v1_messages")
        found: dict[str, str | None] = dict(rows)
        assert len(found) == len(rows), "a message is there twice"
        return found

    async def sources(self) -> dict[str, str]:
        """Where each message is from, by mid."""
        rows = await self.database.read("SELECT platform_message_id, source FROM v1_messages")
        return dict(rows)

    async def events(self, kind: str) -> list[Json]:
        """The data of the events of one type, as readers get it."""
        page = await self.client.get(f"/api/events?types={kind}&limit=200")
        return [one["data"] for one in page["events"]]

    def truth(self) -> dict[str, str | None]:
        """What Meta has."""
        return {one.id: one.text for one in self.server.mailbox.truth() if not one.unsent}

    async def due(self) -> Sequence[Any]:
        """Conversations that changed and are not read yet."""
        return await self.database.read("SELECT * FROM listed_conversations WHERE updated_time > read_to")


def logged(text: str, event: str) -> list[Json]:
    """The lines of a log with this event."""
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    return [line for line in lines if line["event"] == event]


@asynccontextmanager
async def world_of(path: Path, clock: LeapClock) -> AsyncIterator[World]:
    """A simulated Instagram, without a daemon yet."""
    server = GraphServer({TOKEN: ACCOUNT}, now=lambda: clock.meta_ms() / 1000)
    server.behaviour = Behaviour(latency_ms=0)
    async with serving(server.application()) as url:
        yield World(server, url, clock, path)
