"""Webhook endpoints: how soon they have a message, what a dead one costs others, and what forwarding costs the daemon.

    python -m benchmarks.forwarding [--only latency|dead|size|acks] [--rates 1 100 1000] [--seconds 20] [--rounds 3]

Receivers are a process of their own (`benchmarks/receiver.py`), and so is who sends the messages. A message counts from
the time at which it was to be sent to the time at which its receiver has all of its event. Ratios are taken in turns in
one run.
"""

import argparse
import json
import math
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from benchmarks.ingest import HERE, SECRET, Counter, Server, daemon, free_port, load

API: Final = "/api/webhook-endpoints"
TYPES: Final = ["message.received"]


class Receivers:
    """The process of the receivers. `url` gives the address of one by its name."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self._process = process
        self._port = port

    def url(self, name: str) -> str:
        """Where to push to."""
        return f"http://127.0.0.1:{self._port}/{name}"

    def end(self) -> tuple[dict[str, int], dict[str, float]]:
        """How many requests each had, and when each message came to the one that is timed."""
        noted = json.loads(self._process.communicate("")[0])
        return noted["counts"], noted["times"]


@contextmanager
def receivers(timed: str = "", nice: int = 0) -> Iterator[Receivers]:
    """Receivers that notice when each message comes to the one with the name `timed`."""
    command = [sys.executable, str(HERE / "receiver.py"), f"--times={timed}", f"--nice={nice}"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield Receivers(process, int(process.stdout.readline()))
    finally:
        process.kill()
        process.wait()


def call(server: Server, method: str, path: str, body: object = None) -> Any:
    """Call the admin API."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {SECRET}", "Content-Type": "application/json"}
    request = urllib.request.Request(server.admin + path, data, headers, method=method)
    with urllib.request.urlopen(request, timeout=60) as response:
        content = response.read()
    return json.loads(content) if content else None


@contextmanager
def endpoints(server: Server, urls: Sequence[str]) -> Iterator[list[str]]:
    """Endpoints for a time. Yields their ids."""
    made = [call(server, "POST", API, {"url": url, "eventTypes": TYPES})["id"] for url in urls]
    try:
        yield made
    finally:
        for one in made:
            call(server, "DELETE", f"{API}/{one}")


def caught_up(server: Server, ids: Sequence[str]) -> None:
    """Wait until these endpoints have everything."""
    server.drained()
    while any(call(server, "GET", f"{API}/{one}")["behindBy"] for one in ids):
        time.sleep(0.1)


def quantile(values: Sequence[float], part: float) -> float:
    """The value below which this part of the values is."""
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def timed(server: Server, numbers: Counter, rate: float, seconds: float, others: Sequence[str] = ()) -> list[float]:
    """Send messages at `rate`; how long each took to get to a receiver, beside endpoints at `others` (ms)."""
    count = max(1, round(rate * seconds))
    with receivers("timed") as there:
        urls = [there.url(other) if other == "dead" else other for other in others]
        with endpoints(server, [there.url("timed"), *urls]) as ids:
            options = {"requests": count, "connections": 16 if rate > 1 else 1, "rate": rate, "times": 1}
            sent = load(server, numbers.take(count), **options)
            caught_up(server, ids[:1])
        _, came = there.end()
    if sent["failures"] or sent["times"].keys() != came.keys():
        missing = len(sent["times"].keys() - came.keys())
        raise SystemExit(f"{sent['failures']} were not acknowledged, {missing} did not reach the receiver")
    return [(came[number] - at) * 1000 for number, at in sent["times"].items()]


def latency(server: Server, numbers: Counter, rates: Sequence[float], seconds: float) -> None:
    """From a message to its receiver."""
    print("\n| messages/s | messages | p50 ms | p99 ms | longest ms |\n| ---: | ---: | ---: | ---: | ---: |")
    for rate in rates:
        took = timed(server, numbers, rate, max(seconds, 20 / rate))
        print(
            f"| {rate:,g} | {len(took):,} | {statistics.median(took):.1f} | **{quantile(took, 0.99):.1f}** "
            f"| {max(took):.1f} |",
            flush=True,
        )


def dead(server: Server, numbers: Counter, rate: float, seconds: float, rounds: int) -> None:
    """What a dead endpoint costs another one, in turns: none, one that never answers, one that refuses connections."""
    kinds = {"none": [], "never answers": ["dead"], "refuses": [f"http://127.0.0.1:{free_port()}/"]}
    took: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
    for _ in range(rounds):
        for kind, others in kinds.items():
            took[kind].append(timed(server, numbers, rate, seconds, others))
    print(f"\nAt {rate:g} messages/s, beside a dead endpoint:")
    print("\n| dead endpoint | p50 ms | p99 ms | p99 as against none |\n| --- | ---: | ---: | ---: |")
    for kind, found in took.items():
        p50 = statistics.median(statistics.median(one) for one in found)
        p99s = [quantile(one, 0.99) for one in found]
        ratio = statistics.median(p99 / quantile(one, 0.99) for p99, one in zip(p99s, took["none"], strict=True))
        print(f"| {kind} | {p50:.1f} | {statistics.median(p99s):.1f} | {ratio:.2f} |", flush=True)


def peak_mb(server: Server) -> float:
    """The most memory that was resident since `forget_peak` (MB)."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024 / 1e6  # type: ignore[index]


def forget_peak(server: Server) -> None:
    """Begin to look for the peak."""
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")


def size(folder: Path, *, count: int, events: int, batch: int) -> None:
    """Memory and file with and without endpoints, for so many events in deliveries of `batch`."""
    print("\n| endpoints | before MB | peak MB | after MB | file MB | events to all endpoints/s |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for kind, several in (("none", 0), (f"{count}", count), (f"{count} that are dead", count)):
        path = folder / f"size-{kind}.sqlite3"
        with receivers() as there, daemon(path) as server:
            names = ["dead"] * several if "dead" in kind else [str(number) for number in range(several)]
            with endpoints(server, [there.url(name) for name in names]) as ids:
                before = server.rss_mb
                forget_peak(server)
                began = time.perf_counter()
                load(server, 0, requests=math.ceil(events / batch), batch=batch, connections=4)
                caught_up(server, [] if "dead" in kind else ids)
                took = time.perf_counter() - began
                time.sleep(2)  # what was done is saved about every second
                peak, after = peak_mb(server), server.rss_mb
            counts, _ = there.end()
        if "dead" not in kind and sum(counts.values()) < events * several:
            raise SystemExit(f"the receivers had {sum(counts.values())} of {events * several}")
        rate = f"{events * several / took:,.0f}" if several and "dead" not in kind else ""
        size_mb = path.stat().st_size / 1e6
        print(f"| {kind} | {before:.0f} | **{peak:.0f}** | {after:.0f} | {size_mb:.1f} | {rate} |", flush=True)
        path.unlink()


def acks(server: Server, numbers: Counter, rate: float, seconds: float, rounds: int, several: int) -> None:
    """How long Meta waits for an acknowledgement with forwarding and without, in turns.

    The receivers are on another machine in earnest. So they take the processor from nobody here.
    """
    count, found = round(rate * seconds), []
    with receivers(nice=10) as there:
        urls = [there.url(str(number)) for number in range(several)]
        for number in range(rounds):
            p99 = {}
            for forwards in (True, False) if number % 2 else (False, True):
                with endpoints(server, urls if forwards else []) as ids:
                    result = load(server, numbers.take(count), requests=count, connections=16, rate=rate)
                    caught_up(server, ids)
                if result["failures"]:
                    raise SystemExit(f"{result['failures']} were not acknowledged")
                p99[forwards] = result["p99_ms"]
            found.append(p99)
    ratio = statistics.median(one[True] / one[False] for one in found)
    print(f"\nAcknowledgements at {rate:g}/s, {several} endpoints: p99 with forwarding ", end="")
    print(f"{statistics.median(one[True] for one in found):.1f} ms, without ", end="")
    print(f"{statistics.median(one[False] for one in found):.1f} ms, **{ratio:.2f}x** (target 1.2x)")
    print("  each round:", ", ".join(f"{one[True]:.1f}/{one[False]:.1f}" for one in found), flush=True)


def main() -> None:
    """All measurements, as text for docs/performance.md."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("latency", "dead", "size", "acks"))
    parser.add_argument("--rates", type=float, nargs="+", default=[1, 100, 1000], help="messages/s of 'latency'")
    parser.add_argument("--rate", type=float, default=200, help="messages/s of 'dead' and 'acks'")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--endpoints", type=int, default=20, help="of 'size'")
    parser.add_argument("--events", type=int, default=100_000, help="of 'size'")
    parser.add_argument("--batch", type=int, default=20, help="events in a delivery of 'size'")
    parser.add_argument("--ack-endpoints", type=int, nargs="+", default=[1, 20])
    options = parser.parse_args()
    numbers = Counter()
    with tempfile.TemporaryDirectory() as folder:
        if options.only != "size":
            with daemon(Path(folder, "inboxd.sqlite3")) as server:
                if options.only in (None, "latency"):
                    latency(server, numbers, options.rates, options.seconds)
                if options.only in (None, "dead"):
                    dead(server, numbers, options.rate, options.seconds, options.rounds)
                if options.only in (None, "acks"):
                    for several in options.ack_endpoints:
                        acks(server, numbers, options.rate, options.seconds, options.rounds, several)
        if options.only in (None, "size"):
            size(Path(folder), count=options.endpoints, events=options.events, batch=options.batch)


if __name__ == "__main__":
    main()
