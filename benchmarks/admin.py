"""The admin API with a full file: how long lists and searches take while webhooks arrive, and what they cost webhooks.

Run it as `python -m benchmarks.admin`. Filling the file takes minutes; --database keeps it for the next time.
"""

import argparse
import asyncio
import random
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Final

import aiohttp
import uvloop

from benchmarks.ingest import SECRET, Counter, Server, daemon, get, load
from benchmarks.load import ACCOUNT

PEOPLE: Final = 50_000
MESSAGES: Final = 1_000_000
RATE: Final = 500
LIST: Final = "/api/messaging/conversations"


def questions(rng: random.Random, ids: list[str]) -> dict[str, str]:
    """One of each kind of list and search."""
    number = rng.randrange(MESSAGES)
    return {
        "conversations": LIST,
        "conversations, filtered": f"{LIST}?clientAccountId={ACCOUNT}&status=open&hasUnread=true&limit=200",
        "conversations, page 200": f"{LIST}?offset=10000",
        "conversations, words of a message": f"{LIST}?q={number}",
        "conversations, a word of all messages": f"{LIST}?q=available",
        "messages of a conversation": f"{LIST}/{rng.choice(ids)}/messages",
        "messages, a rare word": f"/api/messaging/messages?q={number}",
        "messages, a word of all": "/api/messaging/messages?q=hello+available",
        "participants": "/api/participants",
        "deliveries": "/api/deliveries",
    }


async def ask(base: str, seconds: float, clients: int) -> dict[str, list[float]]:
    """Ask one question after the other, with a short pause, on so many connections; latencies in ms by kind."""
    took: dict[str, list[float]] = defaultdict(list)
    rng = random.Random(1)
    end = time.monotonic() + seconds
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {SECRET}"}) as session:
        async with session.get(f"{base}{LIST}?limit=200") as answer:
            ids = [one["id"] for one in (await answer.json())["conversations"]]

        async def client() -> None:
            while time.monotonic() < end:
                for kind, path in questions(rng, ids).items():
                    began = time.perf_counter()
                    async with session.get(base + path) as answer:
                        await answer.read()
                        assert answer.status == 200, (path, await answer.text())
                    took[kind].append((time.perf_counter() - began) * 1000)
                    await asyncio.sleep(0.02)

        await asyncio.gather(*(client() for _ in range(clients)))
    return took


async def webhooks(server: Server, numbers: Counter, seconds: float) -> float:
    """The p99 (ms) of webhooks at RATE."""
    count = int(RATE * seconds)
    result = await asyncio.to_thread(
        load, server, numbers.take(count), requests=count, connections=16, people=PEOPLE, rate=RATE
    )
    assert result["failures"] == 0
    return float(result["p99_ms"])


def fill(server: Server, numbers: Counter) -> None:
    """MESSAGES messages in PEOPLE conversations, understood and indexed."""
    for _ in range(10):
        load(server, numbers.take(MESSAGES // 10), requests=MESSAGES // 1000, batch=100, people=PEOPLE, connections=4)
        server.drained()
    while not _indexed(server, MESSAGES - 1):
        time.sleep(1)


def _indexed(server: Server, number: int) -> bool:
    return f"({number})" in get(f"{server.admin}/api/messaging/messages?q={number}")


async def measure(server: Server, numbers: Counter, seconds: float, rounds: int) -> None:
    """Webhooks alone and with admin traffic, in turns."""
    alone, beside = [], []
    took: dict[str, list[float]] = defaultdict(list)
    for _ in range(rounds):
        alone.append(await webhooks(server, numbers, seconds))
        p99, asked = await asyncio.gather(webhooks(server, numbers, seconds), ask(server.admin, seconds - 1, clients=2))
        beside.append(p99)
        for kind, values in asked.items():
            took[kind] += values
    print(f"{'':40} {'p50':>8} {'p95':>8} {'max':>8}  ms, {RATE} webhooks/s beside")
    for kind, values in took.items():
        cuts = statistics.quantiles(values, n=20)
        print(f"{kind:40} {statistics.median(values):8.1f} {cuts[18]:8.1f} {max(values):8.1f}")
    ratio = statistics.median(beside) / statistics.median(alone)
    print(f"webhook p99: alone {statistics.median(alone):.1f} ms, beside {statistics.median(beside):.1f} ms, "
          f"{ratio:.2f}x (target 1.5x)")  # fmt: skip
    print("  each round:", [f"{one:.1f}/{other:.1f}" for one, other in zip(alone, beside, strict=True)])


def main() -> None:
    """Fill, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--database", type=Path, help="a file to fill, or one that was filled before")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.database or Path(folder, "inboxd.sqlite3")
        filled = path.exists()
        with daemon(path) as server:
            numbers = Counter()
            if filled:
                numbers.take(MESSAGES + int(time.time()) % 10**9)
            else:
                fill(server, numbers)
            uvloop.run(measure(server, numbers, options.seconds, options.rounds))


if __name__ == "__main__":
    main()
