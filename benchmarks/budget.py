"""The budget against a simulated Instagram that counts: what is achieved, what is exceeded, how long live work waits.

Time runs faster than on the wall, so that hours take minutes: everything below is in budget time. The pace, the window
and the limit keep their real proportions; what does not scale (a commit, a request) weighs more than in real life.
"""

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
import uvloop
from inboxd import app
from inboxd.accounts.call_log_store import SqliteCallLog
from inboxd.config.schema import AccountSettings, Admin, AvatarSettings, BudgetSettings, Instagram, Public, Settings
from inboxd.config.secrets import Secrets
from inboxd.domain.account import LoginType
from inboxd.domain.budget import Priority
from inboxd.meta.account_graph import AccountGraph
from inboxd.meta.budget import AppBudget
from inboxd.meta.budget import Budget as AccountBudget
from inboxd.meta.graph import GraphClient
from inboxd.meta.graph_errors import GraphError
from inboxd.meta.signature import HEADER, sign
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock
from inboxd.runtime.secret import Secret
from inboxd.simulator.graph_server import Behaviour, GraphServer
from inboxd.simulator.payloads import Conversationalist, delivery
from inboxd.simulator.people import igsid
from inboxd.simulator.serving import serving
from inboxd.storage.database import Database

ACCOUNT: Final = "17841400000000001"
TOKEN: Final = "benchmark-token"
HOUR_S: Final = 3600.0
LIMIT: Final = 200
LONGEST_CALL_S: Final = 15.0


class FastClock(Clock):
    """The machine's clock, `speed` times as fast."""

    def __init__(self, speed: float) -> None:
        self.speed = speed
        self._began = time.monotonic()

    def now_ms(self) -> int:
        return 1_790_000_000_000 + int(self.monotonic() * 1000)

    def monotonic(self) -> float:
        return (time.monotonic() - self._began) * self.speed

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.speed)

    async def wait(self, event: asyncio.Event, timeout_s: float | None) -> bool:
        return await super().wait(event, None if timeout_s is None else timeout_s / self.speed)


@asynccontextmanager
async def process(folder: Path, url: str, clock: FastClock) -> AsyncIterator[AccountGraph]:
    """What one run of the daemon has of an account; the next one takes up what this one left in the file."""
    async with (
        Database(folder / "inboxd.sqlite3") as database,
        GraphClient(url, "v25.0", timeout_s=10, clock=clock) as client,
    ):
        ledger, traffic = SqliteCallLog(database, clock), AppBudget(clock)
        await traffic.load(ledger)
        budget = AccountBudget(
            ACCOUNT, ledger, traffic, client.circuit, clock, calls_per_hour=LIMIT, calls_per_second=clock.speed
        )
        await budget.load(longest_call_s=LONGEST_CALL_S)
        graph = AccountGraph(
            client, budget, ledger, traffic,
            login_type=LoginType.INSTAGRAM, app_secrets=(), app_id=None, on_verdict=ignore,
        )  # fmt: skip
        graph.token = Secret(TOKEN)
        yield graph


async def ignore(_error: GraphError | None) -> None:
    """No verdict matters here."""


async def fetch_for_ever(graph: AccountGraph, priority: Priority, rng: random.Random) -> None:
    """Work of one kind that never ends."""
    while True:
        try:
            await graph.user_profile(igsid(rng.randrange(5000)), priority)
        except GraphError:
            continue


async def during(clock: FastClock, until: float, *work: Awaitable[None]) -> None:
    """Let `work` go on until that moment; then it is cut off wherever it is, as by a kill."""
    tasks = [asyncio.ensure_future(one) for one in work]
    await clock.sleep(until - clock.monotonic())
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def simulated(clock: FastClock, *, headers: bool) -> GraphServer:
    server = GraphServer({TOKEN: ACCOUNT}, now=clock.monotonic)
    server.behaviour = Behaviour(latency_ms=0, calls_per_window=LIMIT, window_s=HOUR_S, usage_headers=headers)
    return server


async def saturated(folder: Path, speed: float, hours: int, *, headers: bool) -> None:
    """Live and backfill work always waiting, two restarts in between. With `headers` Meta tells of its limit too."""
    clock = FastClock(speed)
    server = simulated(clock, headers=headers)
    rng = random.Random(1)
    async with serving(server.application()) as url:
        restarts = [hours * HOUR_S / 3 + 50, hours * HOUR_S * 2 / 3 + 50, hours * HOUR_S]
        for until in restarts:
            async with process(folder, url, clock) as graph:
                work = [fetch_for_ever(graph, priority, rng) for priority in (Priority.LIVE, Priority.BACKFILL) * 2]
                await during(clock, until, *work)
    limit = server.limits[ACCOUNT]
    allowed = LIMIT * hours
    told = "stopping at 95 % of use, as the headers demand" if headers else "target 98 %"
    print(f"achieved calls          {len(server.calls):6} of {allowed} allowed in {hours} windows, "
          f"{100 * len(server.calls) / allowed:.1f} % ({told})")  # fmt: skip
    print(f"beyond the limit        {limit.violations:6} (target 0); the busiest window had {limit.busiest} of {LIMIT}")


async def live_waits(folder: Path, speed: float, hours: int) -> None:
    """How long somebody who writes waits for the call while 5,000 wait in a backfill."""
    clock = FastClock(speed)
    server = simulated(clock, headers=False)
    rng = random.Random(2)
    waits: list[float] = []

    async def one(graph: AccountGraph) -> None:
        arrived = clock.monotonic()
        async with graph.budget.call(Priority.LIVE):
            waits.append(clock.monotonic() - arrived)

    async def live(graph: AccountGraph) -> None:
        async with asyncio.TaskGroup() as arrivals:
            while True:
                await clock.sleep(rng.expovariate(30 / HOUR_S))
                arrivals.create_task(one(graph))

    async def backfill(graph: AccountGraph) -> None:
        for number in range(5000):
            await graph.user_profile(igsid(number), Priority.BACKFILL)

    async with serving(server.application()) as url, process(folder, url, clock) as graph:
        await during(clock, hours * HOUR_S, live(graph), backfill(graph))
    cuts = statistics.quantiles(waits, n=100)
    print(f"live wait               p50 {cuts[49]:.2f} s, p95 {cuts[94]:.2f} s (target 2 s), max {max(waits):.2f} s; "
          f"{len(waits)} people wrote, {len(server.calls)} backfilled")  # fmt: skip


async def storm(folder: Path) -> None:
    """10,000 messages from 500 people through a whole daemon: how often each is asked about."""
    server = GraphServer({TOKEN: ACCOUNT})
    server.behaviour = Behaviour(latency_ms=20)
    talks = [Conversationalist(ACCOUNT, igsid(number), 1_790_000_000_000) for number in range(500)]
    rng = random.Random(3)
    items = [rng.choice(talks).says(f"message {number}") for number in range(10_000)]
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(serving(server.application()))
        settings = Settings(
            public=Public(port=0),
            admin=Admin(port=0),
            instagram=Instagram(graph_url=url, facebook_graph_url=url),
            avatars=AvatarSettings(hosts=("127.0.0.1",), allow_http=True, allow_networks=("127.0.0.1/32",)),
            budget=BudgetSettings(calls_per_hour=100_000, calls_per_second=1000),
            accounts=(AccountSettings(id=ACCOUNT),),
        )
        secrets = Secrets(
            app_secrets=(Secret("s"),), verify_token=Secret("v"), account_tokens={ACCOUNT: Secret(TOKEN)}
        )  # fmt: skip
        daemon = await stack.enter_async_context(
            app.run_daemon(settings, secrets, folder / "inboxd.sqlite3", on_give_up=lambda: None)
        )
        session = await stack.enter_async_context(aiohttp.ClientSession())

        async def post(batch: list[dict[str, object]]) -> None:
            body = json.dumps(delivery(ACCOUNT, 1_790_000_000_000, batch)).encode()
            headers = {HEADER: sign(body, "s")}
            async with session.post(f"{daemon.public_url}/webhooks/instagram", data=body, headers=headers) as answer:
                assert answer.status == 200

        for start in range(0, len(items), 200):
            await asyncio.gather(*(post(items[at : at + 20]) for at in range(start, start + 200, 20)))
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and len(profile_calls(server)) < 500:  # noqa: ASYNC110 - a look from outside
            await asyncio.sleep(0.2)
        await asyncio.sleep(2)
    calls = profile_calls(server)
    print(f"a storm                 {len(items)} messages from {len(talks)} people: {len(calls)} were asked about, "
          f"at most {max(calls.values())} time(s) each (target 1)")  # fmt: skip


def profile_calls(server: GraphServer) -> Counter[str]:
    return Counter(call for call in server.calls if "/me" not in call)


def main() -> None:
    """Run all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=["saturated", "headers", "live", "storm"], help="one of them")
    parser.add_argument("--hours", type=int, default=4, help="windows for each of the first three")
    parser.add_argument("--speed", type=float, default=200, help="how many times as fast as on the wall")
    options = parser.parse_args()
    logs.set_up(level="critical", log_format="console")
    runs: dict[str, Callable[[Path], Awaitable[None]]] = {
        "saturated": lambda folder: saturated(folder, options.speed, options.hours, headers=False),
        "headers": lambda folder: saturated(folder, options.speed, options.hours, headers=True),
        "live": lambda folder: live_waits(folder, options.speed, options.hours),
        "storm": storm,
    }
    for name, run in runs.items():
        if options.only not in {None, name}:
            continue
        with tempfile.TemporaryDirectory() as folder, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(run(Path(folder)))  # type: ignore[arg-type]


if __name__ == "__main__":
    main()
