"""Durable webhooks: how many a second, how long each waits, and whether understanding keeps up.

Everything is compared with a bare aiohttp handler that stores nothing, in the same run, on the same machine, with
the same generator: absolute numbers belong to a machine, ratios travel. `make bench` runs it.
"""

import argparse
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
SECRET: Final = "benchmark"


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def get(url: str) -> str:
    """The body of an answer."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {SECRET}"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return str(response.read().decode())


def wait_until(url: str, process: "subprocess.Popen[bytes]") -> float:
    """Seconds until `url` answers."""
    began = time.perf_counter()
    while time.perf_counter() - began < 30 and process.poll() is None:
        try:
            get(url)
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.005)
        else:
            return time.perf_counter() - began
    raise SystemExit(f"{url} does not answer")


class Server:
    """A server under test, as a process."""

    def __init__(self, process: "subprocess.Popen[bytes]", port: int, admin: int | None, ready_s: float) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"
        self.admin = f"http://127.0.0.1:{admin}"
        self.ready_s = ready_s

    @property
    def rss_mb(self) -> float:
        """Resident memory in MB (10**6 bytes)."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024 / 1e6  # type: ignore[index]

    def metric(self, name: str) -> float:
        """One sample of the daemon's metrics."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", get(f"{self.admin}/metrics"), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def drained(self) -> float:
        """Wait until every delivery is understood; seconds it took."""
        began = time.perf_counter()
        while self.metric("inboxd_backlog"):
            time.sleep(0.02)
        return time.perf_counter() - began


@contextmanager
def bare() -> Iterator[Server]:
    """The peer."""
    port = free_port()
    process = subprocess.Popen([sys.executable, str(HERE / "bare.py"), str(port)])
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                time.sleep(0.01)
        yield Server(process, port, None, 0)
    finally:
        process.kill()
        process.wait()


@contextmanager
def daemon(database: Path) -> Iterator[Server]:
    """The real daemon, as anybody would start it."""
    port, admin = free_port(), free_port()
    environment = os.environ | {
        "INBOXD_APP_SECRETS": SECRET,
        "INBOXD_VERIFY_TOKEN": SECRET,
        "INBOXD_ADMIN_TOKEN": SECRET,
        "INBOXD_STORAGE__PATH": str(database),
        "INBOXD_PUBLIC__PORT": str(port),
        "INBOXD_ADMIN__PORT": str(admin),
        "INBOXD_LOGS__LEVEL": "warning",
    }
    process = subprocess.Popen([str(Path(sys.executable).with_name("inboxd")), "run"], env=environment)
    try:
        ready_s = wait_until(f"http://127.0.0.1:{admin}/readyz", process)
        yield Server(process, port, admin, ready_s)
    finally:
        process.terminate()
        process.wait()


class Counter:
    """Numbers for messages, so that every one is new."""

    def __init__(self) -> None:
        self.next = 0

    def take(self, count: int) -> int:
        """The first of `count` unused numbers."""
        first, self.next = self.next, self.next + count
        return first


def load(server: Server, first: int, **options: float) -> dict[str, Any]:
    """Run the generator in a process of its own."""
    arguments = [f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, str(HERE / "load.py"), server.url, f"--first={first}", *arguments]
    result: dict[str, Any] = json.loads(subprocess.check_output(command))
    return result


def acknowledgements(peer: Server, ours: Server, counter: Counter, *, rounds: int, requests: int) -> dict[int, float]:
    """Durable acknowledgements against the bare handler, pairwise; returns the peer's rate by connections."""
    print("\n| connections | bare/s | durable/s | ratio | bare p50 / p99 ms | durable p50 / p99 ms | p99 ratio |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    rates = {}
    for connections in (1, 16, 64):
        pairs = []
        count = requests // 4 if connections == 1 else requests
        for _ in range(rounds):
            theirs = load(peer, 0, requests=count, connections=connections)
            mine = load(ours, counter.take(count), requests=count, connections=connections)
            if mine["failures"]:
                raise SystemExit(f"{mine['failures']} deliveries were not acknowledged")
            ours.drained()
            pairs.append((theirs, mine))
        theirs = {key: statistics.median(pair[0][key] for pair in pairs) for key in pairs[0][0]}
        mine = {key: statistics.median(pair[1][key] for pair in pairs) for key in pairs[0][1]}
        ratio = statistics.median(pair[1]["rate"] / pair[0]["rate"] for pair in pairs)
        tail = statistics.median(pair[1]["p99_ms"] / pair[0]["p99_ms"] for pair in pairs)
        rates[connections] = theirs["rate"]
        print(
            f"| {connections} | {theirs['rate']:,.0f} | {mine['rate']:,.0f} | **{ratio:.2f}** "
            f"| {theirs['p50_ms']:.2f} / {theirs['p99_ms']:.2f} | {mine['p50_ms']:.2f} / {mine['p99_ms']:.2f} "
            f"| **{tail:.1f}** |",
            flush=True,
        )
    return rates


def without_rest(database: Path, *, seconds: int, sizes: Sequence[int]) -> None:
    """Every connection sends as soon as it is answered, from 100,000 people, into files that hold so many messages."""
    counter = Counter()
    print(
        "\n| messages before | acknowledged/s | processed/s | p50 / p99 ms | bare p50 / p99 ms | ratio | resident MB |"
    )
    print("| ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    done = 'inboxd_deliveries_settled_total{result="done"}'
    crowd = {"connections": 64, "people": 100_000}
    with bare() as peer, daemon(database) as ours:
        for size in sizes:
            missing = max(0, size - counter.next) // 100
            if missing:
                load(ours, counter.take(missing * 100), requests=missing, batch=100, **(crowd | {"connections": 4}))
                ours.drained()
            theirs = load(peer, 0, requests=40_000, **crowd)
            limit = 14_000 * seconds
            before, first = ours.metric(done), counter.take(limit)
            mine = load(ours, first, requests=limit, seconds=seconds, **crowd)
            processed = ours.metric(done) - before
            if mine["failures"] or mine["ran_out"]:
                raise SystemExit(f"{mine['failures']} were not acknowledged, or the generator ran out of requests")
            print(
                f"| {size:,} | {mine['rate']:,.0f} | {processed / seconds:,.0f} | {mine['p50_ms']:.1f} / "
                f"**{mine['p99_ms']:.1f}** | {theirs['p50_ms']:.2f} / {theirs['p99_ms']:.2f} "
                f"| {mine['rate'] / theirs['rate']:.2f} | {ours.rss_mb:.0f} |",
                flush=True,
            )
            ours.drained()


def sustained(ours: Server, counter: Counter, *, rate: float, seconds: int) -> None:
    """Offer `rate` webhooks a second and watch the queue."""
    requests = int(rate * seconds)
    arguments = ["--requests", str(requests), "--rate", str(rate), "--connections", "256"]
    generator = subprocess.Popen(
        [sys.executable, str(HERE / "load.py"), ours.url, f"--first={counter.take(requests)}", *arguments],
        stdout=subprocess.PIPE,
    )
    before = ours.metric('inboxd_deliveries_settled_total{result="done"}')
    while ours.metric('inboxd_deliveries_settled_total{result="done"}') == before:
        time.sleep(0.05)  # the generator is still making its requests
    began, samples = time.perf_counter(), []
    while generator.poll() is None:
        time.sleep(1)
        samples.append(int(ours.metric("inboxd_backlog")))
    result = json.loads(generator.communicate()[0])
    tail_s = ours.drained()
    took = time.perf_counter() - began
    print(f"\nSustained: {result['rate']:,.0f} webhooks/s offered and acknowledged for {took:.0f} s")
    print(f"(p50 {result['p50_ms']:.2f} ms, p99 {result['p99_ms']:.2f} ms, {result['failures']} refused);")
    print(f"queue by the second: {samples}; empty {tail_s:.2f} s after the last.", flush=True)


def backlog(ours: Server, counter: Counter, *, deliveries: int) -> None:
    """Understand a pile of batched deliveries as fast as it goes."""
    done = 'inboxd_webhook_events_total{kind="message"}'
    before = ours.metric(done)
    began = time.perf_counter()
    load(ours, counter.take(deliveries * 100), requests=deliveries, connections=8, batch=100)
    ours.drained()
    took = time.perf_counter() - began
    events = ours.metric(done) - before
    print(f"\nBatches of 100: {events:,.0f} events received and understood in {took:.1f} s, {events / took:,.0f}/s.")


def million(database: Path, counter: Counter, *, messages: int) -> None:
    """Memory and start-up with a large file."""
    with daemon(database) as ours:
        print(f"\nIdle memory: **{ours.rss_mb:.0f} MB**; ready in {ours.ready_s:.2f} s.")
        began = time.perf_counter()
        load(ours, counter.take(messages), requests=messages // 100, connections=4, batch=100, people=50_000)
        ours.drained()
        took = time.perf_counter() - began
        size = database.stat().st_size / 1e6
        print(
            f"After {messages:,} messages in 50,000 conversations ({took:.0f} s): **{ours.rss_mb:.0f} MB**, "
            f"file {size:,.0f} MB."
        )
    with daemon(database) as ours:
        print(f"Ready with that file in **{ours.ready_s:.2f} s**; {ours.rss_mb:.0f} MB.", flush=True)


def main() -> None:
    """All measurements, as text for docs/performance.md."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=40_000)
    parser.add_argument("--seconds", type=int, default=15)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--only", choices=("acks", "sustained", "million", "rest"))
    parser.add_argument("--sizes", type=int, nargs="+", default=[0, 2_400_000])
    parser.add_argument("--rest-seconds", type=int, default=40)
    options = parser.parse_args()
    counter = Counter()
    with tempfile.TemporaryDirectory() as folder:
        if options.only in (None, "rest"):
            without_rest(Path(folder, "crowd.sqlite3"), seconds=options.rest_seconds, sizes=options.sizes)
        if options.only not in ("million", "rest"):
            with bare() as peer, daemon(Path(folder, "inboxd.sqlite3")) as ours:
                rates = {64: 20_000.0}
                if options.only != "sustained":
                    rates = acknowledgements(peer, ours, counter, rounds=options.rounds, requests=options.requests)
                sustained(ours, counter, rate=rates[64] / 4, seconds=options.seconds)
                backlog(ours, counter, deliveries=500)
        if options.only in (None, "million"):
            million(Path(folder, "million.sqlite3"), Counter(), messages=options.messages)


if __name__ == "__main__":
    main()
