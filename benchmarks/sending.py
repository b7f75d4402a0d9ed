"""Answers: how many are accepted a second, how soon Meta has them, and that none is sent twice or lost.

    python -m benchmarks.sending [--only accepted|latency|once] [--messages 10000] [--conversations 500]

`accepted` compares durable 202s with a bare aiohttp handler, in turns. `latency` is the time from the 202 until the
simulated Send API has answered, while the budget of all other calls is idle and while it is used up. `once` queues
messages, loses the answers of some calls, kills the daemon with `kill -9` three times, and counts what was sent.
"""

import argparse
import asyncio
import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp
import uvloop
from inboxd.runtime import logs
from inboxd.simulator.behaviour import Behaviour
from inboxd.simulator.graph_server import GraphServer
from inboxd.simulator.payloads import Conversationalist, delivery
from inboxd.simulator.people import igsid
from inboxd.simulator.sender import WebhookSender
from inboxd.simulator.serving import serving

from benchmarks import ingest
from benchmarks.healing import EPOCH_MS, FastClock, run_daemon
from benchmarks.ingest import SECRET, free_port
from benchmarks.load import Client, Run

ACCOUNT: Final = "17841400000000001"
HEADERS: Final = {"Authorization": f"Bearer {SECRET}"}
ROUNDS: Final = 3
CALLS_PER_HOUR: Final = 20
"""Of all calls but sends: few, so that they are soon used up."""


class Stage:
    """The simulated Instagram, and the daemon as a process. Their time runs `speed` times as fast as the wall's."""

    def __init__(self, folder: Path, conversations: int, speed: float) -> None:
        self.speed, self.began = speed, time.monotonic()
        self.clock = FastClock(speed, self.began)
        self.server = GraphServer({"token": ACCOUNT}, now=lambda: self.clock.now_ms() / 1000)
        self.database = folder / "inboxd.sqlite3"
        self.people = [Conversationalist(ACCOUNT, igsid(number), EPOCH_MS) for number in range(conversations)]
        self.public, self.admin = free_port(), free_port()
        self.graph_url = ""
        self.calls_per_hour = CALLS_PER_HOUR
        self.process: subprocess.Popen[bytes] | None = None
        self.ids: list[str] = []

    def start(self) -> None:
        """Start the daemon."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("INBOXD_")}
        environment |= {
            "INBOXD_APP_SECRETS": SECRET,
            "INBOXD_VERIFY_TOKEN": SECRET,
            "INBOXD_ADMIN_TOKEN": SECRET,
            "INBOXD_PUBLIC__PORT": str(self.public),
            "INBOXD_ADMIN__PORT": str(self.admin),
            "INBOXD_ACCOUNTS": json.dumps([{"id": ACCOUNT}]),
            f"INBOXD_ACCOUNT_TOKEN_{ACCOUNT}": "token",
            "INBOXD_INSTAGRAM__GRAPH_URL": self.graph_url,
            "INBOXD_INSTAGRAM__TIMEOUT_S": "2",
            "INBOXD_BACKFILL__SCHEDULE": "",
            "INBOXD_BUDGET__CALLS_PER_HOUR": str(self.calls_per_hour),
            "INBOXD_BUDGET__CALLS_PER_SECOND": "100",  # the limiter's seconds are real ones, however fast the clock
            "INBOXD_RECONCILIATION__EVERY_MINUTES": "0",
            "INBOXD_SENDING__PER_SECOND": "100",
            "INBOXD_SENDING__PER_HOUR": "1000000",
        }
        arguments = ["--daemon", str(self.began), str(self.database), "--speed", str(self.speed)]
        self.process = subprocess.Popen([sys.executable, "-m", "benchmarks.sending", *arguments], env=environment)

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    async def ready(self, session: aiohttp.ClientSession) -> None:
        """Wait until the daemon answers."""
        for _ in range(2000):
            with suppress(aiohttp.ClientError):
                async with session.get(f"http://127.0.0.1:{self.admin}/readyz") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.02)
        raise SystemExit("the daemon does not start")

    async def conversations(self, sender: WebhookSender) -> None:
        """Everybody writes once, so that everybody can be answered."""
        for person in self.people:
            person.now = self.clock.now_ms()
            await sender.send(delivery(ACCOUNT, person.now, [person.says("Hello?")]))
        while len(self.ids) < len(self.people):
            self.ids = [str(row[0]) for row in self.rows("SELECT id FROM conversations ORDER BY id")]
            await asyncio.sleep(0.05)

    async def accept(self, session: aiohttp.ClientSession, conversation: str, text: str, key: str) -> str:
        """Queue an answer until it is accepted, as a client does: with one key for all attempts. Returns its id."""
        url = f"http://127.0.0.1:{self.admin}/api/messaging/conversations/{conversation}/messages"
        while True:
            with suppress(aiohttp.ClientError, ConnectionError):
                async with session.post(
                    url, json={"text": text}, headers=HEADERS | {"Idempotency-Key": key}
                ) as response:
                    if response.status == 202:
                        return str((await response.json())["id"])
                    if response.status < 500 and response.status != 429:
                        raise SystemExit(f"{response.status}: {await response.text()}")
            await asyncio.sleep(0.05)

    async def until(self, condition: Callable[[], object], *, pause_s: float, most_s: float = 1800) -> bool:
        """Wait until `condition` holds; False when it does not within `most_s`."""
        end = time.monotonic() + most_s
        while not condition():
            if time.monotonic() > end:
                return False
            await asyncio.sleep(pause_s)
        return True

    def rows(self, sql: str) -> list[Any]:
        """What the database has."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            return connection.execute(sql).fetchall()


@asynccontextmanager
async def staged(
    conversations: int, *, speed: float, calls_per_hour: int = CALLS_PER_HOUR, **behaviour: Any
) -> AsyncIterator[tuple[Stage, aiohttp.ClientSession]]:
    """A daemon with conversations that can be answered."""
    async with AsyncExitStack() as stack:
        stage = Stage(Path(stack.enter_context(tempfile.TemporaryDirectory())), conversations, speed)
        stage.calls_per_hour = calls_per_hour
        session = await stack.enter_async_context(aiohttp.ClientSession())
        stage.graph_url = await stack.enter_async_context(serving(stage.server.application()))
        sender = WebhookSender(
            session, f"http://127.0.0.1:{stage.public}/webhooks/instagram", SECRET, instagram=stage.server
        )
        stack.callback(stage.kill)
        stage.server.behaviour = Behaviour(latency_ms=2)
        stage.start()
        await stage.ready(session)
        await stage.conversations(sender)
        stage.server.behaviour = Behaviour(latency_ms=2, sends_per_s=0, **behaviour)
        yield stage, session


class AcceptingClient(Client):
    """One connection that reads whole answers with a body."""

    def data_received(self, data: bytes) -> None:
        """Take an answer when all of it is here."""
        self.buffer += data
        head, found, body = self.buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = next(
            (int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")), 0
        )
        if len(body) < length:
            return
        self.run.latencies.append(time.perf_counter() - self.sent_at)
        if not head.startswith(b"HTTP/1.1 20"):
            self.run.failures += 1
        self.buffer = b""
        self.go()


async def generate(port: int, paths: list[str], requests: int, connections: int, name: str) -> dict[str, float]:
    """POST answers as fast as they are taken, over keep-alive connections."""
    whole = []
    for number in range(requests):
        body = json.dumps({"text": f"Yes, in blue and in green ({name} {number}).", "sentBy": "human"}).encode()
        head = (
            f"POST {paths[number % len(paths)]} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            f"Authorization: Bearer {SECRET}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        whole.append(head.encode() + body)
    loop = asyncio.get_running_loop()
    run = Run(whole, None, 600.0)
    await asyncio.gather(
        *(loop.create_connection(lambda: AcceptingClient(run), "127.0.0.1", port) for _ in range(connections))
    )
    await run.done
    took, ordered = time.perf_counter() - run.began, sorted(run.latencies)
    return {
        "rate": len(ordered) / took,
        "p50_ms": ordered[len(ordered) // 2] * 1000,
        "p99_ms": ordered[len(ordered) * 99 // 100] * 1000,
        "failures": run.failures,
    }


def generated(port: int, paths: list[str], requests: int, connections: int, name: str) -> dict[str, float]:
    """`generate` in a process of its own."""
    arguments = ["--generate", json.dumps([port, paths, requests, connections, name])]
    found: dict[str, float] = json.loads(
        subprocess.check_output([sys.executable, "-m", "benchmarks.sending", *arguments])
    )
    return found


async def accepted(requests: int) -> None:
    """Durable 202s against a bare handler, in turns. Meta is slow, so that hardly anything is sent meanwhile."""
    print("\n| connections | bare/s | accepted/s | ratio | bare p50 / p99 ms | accepted p50 / p99 ms |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    async with staged(500, speed=1, send_answer="slow", send_answer_ms=3_600_000) as (stage, _):
        paths = [f"/api/messaging/conversations/{one}/messages" for one in stage.ids]
        with ingest.bare() as peer:
            peer_port = int(peer.url.rpartition(":")[2])
            for connections in (1, 16, 64):
                count, pairs = requests // 4 if connections == 1 else requests, []
                for turn in range(ROUNDS):
                    name = f"{connections}-{turn}"
                    theirs = await asyncio.to_thread(
                        generated, peer_port, ["/webhooks/instagram"], count, connections, name
                    )
                    mine = await asyncio.to_thread(generated, stage.admin, paths, count, connections, name)
                    if mine["failures"]:
                        raise SystemExit(f"{mine['failures']:.0f} were not accepted")
                    pairs.append((theirs, mine))
                theirs, mine = (
                    {key: statistics.median(pair[of][key] for pair in pairs) for key in theirs} for of in (0, 1)
                )
                ratio = statistics.median(pair[1]["rate"] / pair[0]["rate"] for pair in pairs)
                print(
                    f"| {connections} | {theirs['rate']:,.0f} | {mine['rate']:,.0f} | **{ratio:.2f}** "
                    f"| {theirs['p50_ms']:.2f} / {theirs['p99_ms']:.2f} "
                    f"| {mine['p50_ms']:.2f} / {mine['p99_ms']:.2f} |",
                    flush=True,
                )


async def latency(messages: int) -> None:
    """From the 202 until Meta's answer is stored, with an idle and with a used-up budget of the other calls."""
    print("\n| budget of other calls | messages | p50 ms | p99 ms |")
    print("| --- | ---: | ---: | ---: |")
    for name, full in (("idle", False), ("used-up", True)):
        async with staged(100 if full else 50, speed=1) as (stage, session):
            if full:  # 100 people wrote: their profiles take all calls of the hour
                used_up = f"SELECT 1 FROM graph_calls LIMIT 1 OFFSET {CALLS_PER_HOUR - 1}"
                await stage.until(partial(stage.rows, used_up), pause_s=0.5)
            took = []
            for number in range(messages):
                conversation = stage.ids[number % len(stage.ids)]
                outbound = await stage.accept(session, conversation, f"latency {number}", f"{name}-{number}")
                began = time.perf_counter()
                settled = f"SELECT 1 FROM outbound_messages WHERE id = {outbound} AND settled_at > 0"
                await stage.until(partial(stage.rows, settled), pause_s=0.001)
                took.append((time.perf_counter() - began) * 1000)
                await asyncio.sleep(0.02)
            took.sort()
            print(
                f"| {name} | {messages} | {took[len(took) // 2]:.1f} | {took[len(took) * 99 // 100]:.1f} |", flush=True
            )


def _sent(stage: Stage, messages: float) -> bool:
    return len(stage.server.sending.ledger.messages) >= messages


async def once(messages: int, conversations: int, lost: float) -> None:
    """Answers are lost and the daemon is killed; then what was sent is counted on the other side."""
    odd = {"send_answer": "dropped", "send_answer_rate": lost, "echo_rate": 0.9}
    # Each answer that was lost is looked for with up to four calls: as many accounts have that much traffic.
    async with staged(conversations, speed=30, calls_per_hour=4 * messages, **odd) as (stage, session):
        texts = [f"once {number}" for number in range(messages)]
        gate = asyncio.Semaphore(16)

        async def queue(number: int) -> None:
            async with gate:
                await stage.accept(session, stage.ids[number % len(stage.ids)], texts[number], f"once-{number}")

        began = time.monotonic()
        queueing = asyncio.gather(*(queue(number) for number in range(messages)))
        for share in (0.2, 0.5, 0.8):
            await stage.until(partial(_sent, stage, messages * share), pause_s=0.05)
            stage.kill()
            stage.start()
            await stage.ready(session)
        await queueing
        waiting = "SELECT 1 FROM outbound_messages WHERE state IN ('queued', 'sending', 'unknown') LIMIT 1"
        await stage.until(lambda: not stage.rows(waiting), pause_s=0.5)
        sent = Counter(one.text for one in stage.server.sending.ledger.messages)
        states = dict(stage.rows("SELECT state, count(*) FROM outbound_messages GROUP BY state"))
        rows = dict(stage.rows("SELECT text, count(*) FROM messages WHERE direction = 1 GROUP BY text"))
        failed = {
            json.loads(row[0])["text"]
            for row in stage.rows("SELECT body FROM outbound_messages WHERE state IN ('failed', 'canceled')")
        }
        found = {
            "queued": messages,
            "sent twice": sum(count > 1 for count in sent.values()),
            "lost": sum(sent[text] == 0 and text not in failed for text in texts),
            "failed though sent": sum(sent[text] > 0 for text in failed),
            "in the conversation twice": sum(count > 1 for count in rows.values()),
            "states": states,
            "attempts": stage.rows("SELECT count(*) FROM outbound_attempts")[0][0],
            "minutes of the daemon's clock": round((time.monotonic() - began) * stage.speed / 60),
        }
        for name, value in found.items():
            print(f"{name}: {value}")


async def measure(options: argparse.Namespace) -> None:
    """Run what is asked for."""
    if options.only in {None, "accepted"}:
        await accepted(options.requests)
    if options.only in {None, "latency"}:
        await latency(options.samples)
    if options.only in {None, "once"}:
        await once(options.messages, options.conversations, options.lost)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--daemon", nargs=2, metavar=("BEGAN", "DATABASE"), help=argparse.SUPPRESS)
    parser.add_argument("--generate", help=argparse.SUPPRESS)
    parser.add_argument("--speed", type=float, default=1.0, help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=("accepted", "latency", "once"))
    parser.add_argument("--requests", type=int, default=4000)
    parser.add_argument("--samples", type=int, default=300)
    parser.add_argument("--messages", type=int, default=10_000)
    parser.add_argument("--conversations", type=int, default=500)
    parser.add_argument("--lost", type=float, default=0.05, help="share of calls whose answer is lost")
    options = parser.parse_args()
    if options.daemon:
        logs.set_up(level="error", log_format="json", stream=sys.stderr)
        uvloop.run(run_daemon(options.speed, float(options.daemon[0]), Path(options.daemon[1])))
    elif options.generate:
        print(json.dumps(uvloop.run(generate(*json.loads(options.generate)))))
    else:
        uvloop.run(measure(options))


if __name__ == "__main__":
    main()
