"""Whether everything that Meta has is here after it dropped webhooks, we were down, and the subscription was lost.

    python -m benchmarks.healing [--accounts 20] [--conversations 2000] [--dropped 0.2] [--calls-per-hour 200]
    python -m benchmarks.healing --costs [--hours 24]

The daemon is a real process, which is killed with `kill -9` twice; the simulated Instagram is a real server. Their time
runs `--speed` times as fast as the clock on the wall. `--costs` counts the calls of accounts that miss nothing.
"""

import argparse
import asyncio
import json
import os
import random
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import uvloop
from inboxd import app
from inboxd.config.loading import load_settings
from inboxd.config.secrets import load_secrets
from inboxd.meta.signature import HEADER, sign
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock
from inboxd.simulator.behaviour import Behaviour
from inboxd.simulator.graph_server import GraphServer
from inboxd.simulator.payloads import Conversationalist, delivery
from inboxd.simulator.people import igsid
from inboxd.simulator.serving import serving

from benchmarks.ingest import SECRET, free_port

EPOCH_MS: Final = 1_790_000_000_000
OUTAGE_S: Final = 900.0
UNSUBSCRIBED_S: Final = 900.0
LATENCY_MS: Final = 2.0


class FastClock(Clock):
    """Time that runs `speed` times as fast as the machine's since the monotonic moment `began`."""

    def __init__(self, speed: float, began: float) -> None:
        self._speed, self._began = speed, began

    def monotonic(self) -> float:
        return 1000.0 + (time.monotonic() - self._began) * self._speed

    def now_ms(self) -> int:
        return EPOCH_MS + int((self.monotonic() - 1000.0) * 1000)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._speed)

    async def wait(self, event: asyncio.Event, timeout_s: float | None) -> bool:
        return await super().wait(event, None if timeout_s is None else timeout_s / self._speed)


async def run_daemon(speed: float, began: float, database: Path) -> None:
    """What the child process does until it is killed."""
    settings = load_settings(None, os.environ)
    secrets = load_secrets(os.environ)
    async with app.run_daemon(
        settings, secrets, database, on_give_up=lambda: os._exit(70), clock=FastClock(speed, began)
    ):
        await asyncio.Event().wait()


@dataclass
class Sizes:
    """What is simulated."""

    accounts: int = 20
    conversations: int = 2000
    messages: int = 4
    dropped: float = 0.2
    calls_per_hour: int = 200
    speed: float = 60.0
    seed: int = 1


class Stage:
    """The simulated Instagram, the daemon's process, and the traffic between both."""

    def __init__(self, sizes: Sizes, folder: Path) -> None:
        self.sizes = sizes
        self.began = time.monotonic()
        self.clock = FastClock(sizes.speed, self.began)
        self.ids = [str(17841400000000001 + number) for number in range(sizes.accounts)]
        self.server = GraphServer({f"token-{one}": one for one in self.ids}, now=lambda: self.clock.now_ms() / 1000)
        self.database = folder / "inboxd.sqlite3"
        self.chance = random.Random(sizes.seed)
        self.people = [
            Conversationalist(self.ids[number % sizes.accounts], igsid(number), EPOCH_MS)
            for number in range(sizes.conversations)
        ]
        self.process: subprocess.Popen[bytes] | None = None
        self.url, self.public, self.admin = "", free_port(), free_port()
        self.sent = self.lost = 0

    def start(self) -> None:
        """Start the daemon."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("INBOXD_")}
        environment |= {
            "INBOXD_APP_SECRETS": SECRET,
            "INBOXD_VERIFY_TOKEN": SECRET,
            "INBOXD_ADMIN_TOKEN": SECRET,
            "INBOXD_PUBLIC__PORT": str(self.public),
            "INBOXD_ADMIN__PORT": str(self.admin),
            "INBOXD_ACCOUNTS": json.dumps([{"id": one} for one in self.ids]),
            "INBOXD_INSTAGRAM__GRAPH_URL": self.url,
            "INBOXD_BUDGET__CALLS_PER_HOUR": str(self.sizes.calls_per_hour),
            "INBOXD_BUDGET__CALLS_PER_SECOND": "1000",
            "INBOXD_BACKFILL__SCHEDULE": "",
        }
        environment |= {f"INBOXD_ACCOUNT_TOKEN_{one}": f"token-{one}" for one in self.ids}
        arguments = ["--daemon", str(self.began), str(self.database), "--speed", str(self.sizes.speed)]
        self.process = subprocess.Popen([sys.executable, "-m", "benchmarks.healing", *arguments], env=environment)

    async def ready(self, session: aiohttp.ClientSession) -> None:
        """Wait until the daemon answers."""
        for _ in range(2000):
            with suppress(aiohttp.ClientError):
                async with session.get(f"http://127.0.0.1:{self.admin}/readyz") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.02)
        raise SystemExit("the daemon does not start")

    def kill(self) -> None:
        """kill -9."""
        if self.process is not None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    async def says(self, session: aiohttp.ClientSession, person: Conversationalist, number: int, lost: float) -> None:
        """A message is sent; its webhook is lost with the probability `lost`, or when nobody answers."""
        person.now = self.clock.now_ms()
        item = person.says(f"message {number}") if number % 4 else person.answers(f"answer {number}")
        payload = delivery(person.account_id, person.now, [item])
        self.server.mailbox.apply(payload)
        self.sent += 1
        if self.chance.random() < lost:
            self.lost += 1
            return
        body = json.dumps(payload).encode()
        try:
            url, headers = f"http://127.0.0.1:{self.public}/webhooks/instagram", {HEADER: sign(body, SECRET)}
            async with session.post(url, data=body, headers=headers) as response:
                self.lost += response.status != 200
        except (aiohttp.ClientError, ConnectionError):
            self.lost += 1

    async def traffic(self, session: aiohttp.ClientSession, numbers: range, seconds: float, lost: float) -> None:
        """Each conversation gets messages with these numbers, evenly over `seconds`."""
        everything = [(person, number) for number in numbers for person in self.people]
        pause, due = seconds / max(1, len(everything)), self.clock.monotonic()
        for person, number in everything:
            due += pause
            if self.clock.monotonic() < due:
                await self.clock.sleep(due - self.clock.monotonic())
            await self.says(session, person, number, lost)

    def truth(self) -> set[tuple[str, str | None]]:
        """What Meta has."""
        return {(one.id, one.text) for one in self.server.mailbox.truth()}

    def rows(self, sql: str) -> list[Any]:
        """What the database has."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            return connection.execute(sql).fetchall()

    def calls(self) -> tuple[int, int]:
        """Pages of conversations and of messages that were read."""
        lists = sum(path.endswith("/conversations") for path in self.server.calls)
        return lists, sum(path.endswith("/messages") for path in self.server.calls)

    async def healed(self, hours: float) -> bool:
        """Wait until everything that Meta has is here, at most so many hours."""
        end, truth = self.clock.monotonic() + hours * 3600, self.truth()
        while self.clock.monotonic() < end:
            if len(self.rows("SELECT mid FROM messages WHERE direction IS NOT NULL")) >= len(truth):
                return True
            await asyncio.sleep(0.5)
        return False


async def heal(stage: Stage, session: aiohttp.ClientSession) -> dict[str, Any]:
    """Everything goes wrong; then it is healed. Returns the findings."""
    sizes = stage.sizes
    stage.start()
    await stage.ready(session)
    await stage.clock.sleep(60)
    part = max(1, sizes.messages // 4)
    await stage.traffic(session, range(part), 1800, sizes.dropped)
    stage.kill()
    await stage.traffic(session, range(part, 2 * part), OUTAGE_S, 1.0)
    stage.start()
    await stage.ready(session)
    await stage.traffic(session, range(2 * part, 3 * part), UNSUBSCRIBED_S, 1.0)  # unsubscribed, and nobody says so
    await stage.traffic(session, range(3 * part, sizes.messages), 1800, sizes.dropped)
    stage.kill()
    stage.start()
    began = stage.clock.monotonic()
    complete = await stage.healed(hours=24)
    took_s = stage.clock.monotonic() - began
    rows = stage.rows("SELECT platform_message_id, content FROM v1_messages")
    delays = [
        row[0] / 1000 for row in stage.rows("SELECT healed_at - sent_at FROM missed_messages WHERE healed_at > 0")
    ]
    delays.sort()
    missed = len(stage.rows("SELECT id FROM missed_messages"))
    lists, reads = stage.calls()
    limits = stage.server.limits.values()
    return {
        "messages": stage.sent,
        "webhooks lost": stage.lost,
        "complete": complete and set(rows) == stage.truth() and len(rows) == len(set(rows)),
        "missed and healed": missed,
        "hours until complete": round(took_s / 3600, 2),
        "calls": lists + reads,
        "calls per missed message": round((lists + reads) / max(1, missed), 2),
        "time to heal, median s": round(statistics.median(delays or [0])),
        "time to heal, p99 s": round(delays[len(delays) * 99 // 100] if delays else 0),
        "time to heal, longest s": round(max(delays or [0])),
        "busiest hour of an account": max((one.busiest for one in limits), default=0),
        "budget violations": sum(one.violations for one in limits) + stage.server.conversations.refused,
    }


async def costs(stage: Stage, session: aiohttp.ClientSession, hours: float) -> dict[str, Any]:
    """Calls per account and day of accounts that miss nothing: the first has traffic, the others have none."""
    busy, idle = stage.ids[0], stage.ids[1:]
    for one in idle:
        for number in range(100):
            old = Conversationalist(one, igsid(10_000 + number), EPOCH_MS - 40 * 86_400_000)
            stage.server.mailbox.apply(delivery(one, old.now, [old.says("long ago")]))
    stage.people = [one for one in stage.people if one.account_id == busy]
    stage.start()
    await stage.ready(session)
    await stage.traffic(session, range(stage.sizes.messages), hours * 3600, 0.0)
    rows = stage.rows(
        "SELECT account_id, sum(calls), count(*), sum(read) FROM reconciliation_checks GROUP BY account_id"
    )
    days = hours / 24
    found = {one: [round(number / days) for number in numbers] for one, *numbers in rows}
    return {
        "messages a day of the busy account": round(stage.sent / days),
        "its conversations": len(stage.people),
        "busy: calls a day, checks, conversations read": found.get(busy),
        "idle: calls a day, checks, conversations read": [found.get(one) for one in idle],
    }


async def measure(sizes: Sizes, *, costs_of_hours: float | None = None) -> dict[str, Any]:
    """Run it. Returns the findings."""
    with tempfile.TemporaryDirectory() as folder:
        stage = Stage(sizes, Path(folder))
        stage.server.behaviour = Behaviour(
            latency_ms=LATENCY_MS, calls_per_window=sizes.calls_per_hour, usage_headers=False
        )
        async with serving(stage.server.application()) as url, aiohttp.ClientSession() as session:
            stage.url = url
            try:
                if costs_of_hours is not None:
                    return await costs(stage, session, costs_of_hours)
                return await heal(stage, session)
            finally:
                stage.kill()


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--daemon", nargs=2, metavar=("BEGAN", "DATABASE"), help=argparse.SUPPRESS)
    parser.add_argument("--costs", action="store_true")
    parser.add_argument("--hours", type=float, default=24.0)
    for name, value in vars(Sizes()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(value), default=value)
    options = parser.parse_args()
    if options.daemon:
        logs.set_up(level="error", log_format="json", stream=sys.stderr)
        uvloop.run(run_daemon(options.speed, float(options.daemon[0]), Path(options.daemon[1])))
        return
    sizes = Sizes(**{name: getattr(options, name) for name in vars(Sizes())})
    found = uvloop.run(measure(sizes, costs_of_hours=options.hours if options.costs else None))
    for name, value in found.items():
        print(f"{name}: {value}")


if __name__ == "__main__":
    main()
