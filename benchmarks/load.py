"""A webhook generator that costs little: signed requests made beforehand, one small protocol per connection."""

import argparse
import asyncio
import hashlib
import hmac
import json
import math
import random
import time
from typing import Final, cast
from urllib.parse import urlsplit

import uvloop

ACCOUNT: Final = "17841400000000001"
PATH: Final = "/webhooks/instagram"


def message(number: int, people: int, rng: random.Random) -> dict[str, object]:
    """One inbound message item; the mid has the length and the common beginning of real ones."""
    mid = (
        "aWdfZAG1faXRlbToxOklHTWVzc2FnZAUlEOjE3ODQxNDAwMDAwMDAwMDAx" + hashlib.sha256(str(number).encode()).hexdigest()
    )
    return {
        "sender": {"id": str(7_000_000_000_000_000 + rng.randrange(people))},
        "recipient": {"id": ACCOUNT},
        "timestamp": 1_790_000_000_000 + number,
        "message": {"mid": mid, "text": f"Hello, is this still available? ({number}) \u00e1"},
    }


def request(items: list[dict[str, object]], secret: str, port: int) -> bytes:
    """A signed POST, as bytes on the wire."""
    entry = {"id": ACCOUNT, "time": 1_790_000_000_000, "messaging": items}
    body = json.dumps({"object": "instagram", "entry": [entry]}).encode()
    signature = hmac.new(secret.encode(), body, "sha256").hexdigest()
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"X-Hub-Signature-256: sha256={signature}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Run:
    """Requests to send, and what came of them."""

    def __init__(self, requests: list[bytes], rate: float | None, seconds: float) -> None:
        self.requests = requests
        self.rate = rate
        self.seconds = seconds
        self.next = 0
        self.latencies: list[float] = []
        self.sent: dict[int, float] = {}
        """When each request was sent, or was to be sent (s, monotonic)."""
        self.failures = 0
        self.open = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.began = time.perf_counter()


class Client(asyncio.Protocol):
    """One keep-alive connection: sends the next request when the last was answered, or when it is due."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.sent_at = 0.0
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)
        self.run.open += 1
        self.go()

    def go(self) -> None:
        """Send the next request; with a rate, at its own time, so that waiting counts as latency."""
        run = self.run
        if run.next >= len(run.requests) or time.perf_counter() - run.began > run.seconds:
            self.transport.close()
            return
        number = run.next
        run.next += 1
        due = run.began + number / run.rate if run.rate else time.perf_counter()
        if due > time.perf_counter() + 0.0005:
            asyncio.get_running_loop().call_later(due - time.perf_counter(), self.send, number, due)
        else:
            self.send(number, due)

    def send(self, number: int, due: float) -> None:
        """Put one request on the wire."""
        self.sent_at = self.run.sent[number] = due
        self.transport.write(self.run.requests[number])

    def data_received(self, data: bytes) -> None:
        """Take an answer; both servers' good answers come with an empty body."""
        self.buffer += data
        if b"\r\n\r\n" not in self.buffer:
            return
        self.run.latencies.append(time.perf_counter() - self.sent_at)
        if not self.buffer.startswith(b"HTTP/1.1 200"):
            self.run.failures += 1
        self.buffer = b""
        self.go()

    def connection_lost(self, _exc: Exception | None) -> None:
        """End with the last connection."""
        self.run.open -= 1
        if not self.run.open and not self.run.done.done():
            self.run.done.set_result(None)


async def play(arguments: argparse.Namespace) -> dict[str, object]:
    """Send everything and report."""
    rng = random.Random(arguments.seed)
    port = urlsplit(arguments.url).port or 80
    numbers = iter(range(arguments.first, arguments.first + arguments.requests * arguments.batch))
    requests = [
        request([message(next(numbers), arguments.people, rng) for _ in range(arguments.batch)], arguments.secret, port)
        for _ in range(arguments.requests)
    ]
    loop = asyncio.get_running_loop()
    run = Run(requests, arguments.rate, arguments.seconds)
    await asyncio.gather(
        *(loop.create_connection(lambda: Client(run), "127.0.0.1", port) for _ in range(arguments.connections))
    )
    await run.done
    took = time.perf_counter() - run.began
    ordered = sorted(run.latencies)
    times = {"times": {arguments.first + number: at for number, at in run.sent.items()}} if arguments.times else {}
    return times | {
        "rate": len(ordered) / took,
        "p50_ms": ordered[len(ordered) // 2] * 1000,
        "p99_ms": ordered[int(len(ordered) * 0.99)] * 1000,
        "failures": run.failures,
        "ran_out": float(run.next >= len(run.requests)),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--people", type=int, default=5000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--seconds", type=float, default=math.inf)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--times", type=int, default=0, help="1: tell when each message was sent (with --batch 1)")
    parser.add_argument("--secret", default="benchmark")
    print(json.dumps(uvloop.run(play(parser.parse_args()))))
