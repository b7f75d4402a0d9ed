"""A receiver of webhooks that costs little: it answers at once, and notes when each message came.

`POST /<name>` is answered with 200; what goes to `/dead` is read and never answered. When its standard input ends it
prints, as JSON, how many requests each name had and, for `--times`, when each message came there (s, monotonic).
"""

import argparse
import asyncio
import json
import os
import re
import sys
import time
from collections import Counter
from typing import Final, cast

import uvloop

ANSWER: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
LENGTH: Final = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
NUMBER: Final = re.compile(rb"still available\? \(([0-9]+)\)")


class Noted:
    """What came."""

    def __init__(self, timed: str) -> None:
        self.timed = timed
        self.counts: Counter[str] = Counter()
        self.times: dict[int, float] = {}

    def note(self, name: str, body: bytes) -> None:
        """One request is complete."""
        self.counts[name] += 1
        found = NUMBER.search(body) if name == self.timed else None
        if found:
            self.times.setdefault(int(found[1]), time.perf_counter())


class Connection(asyncio.Protocol):
    """One keep-alive connection. Requests come one after the other."""

    def __init__(self, noted: Noted) -> None:
        self.noted = noted
        self.buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer a request when its body is there."""
        self.buffer += data
        head, end, body = self.buffer.partition(b"\r\n\r\n")
        found = LENGTH.search(head)
        if not end or len(body) < (int(found[1]) if found else 0):
            return
        self.buffer = b""
        name = head.split(b" ", 2)[1].decode().strip("/")
        self.noted.note(name, body)
        if name != "dead":
            self.transport.write(ANSWER)


async def serve(timed: str) -> None:
    """Print the port, serve until standard input ends, then print what came."""
    noted, loop = Noted(timed), asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(noted), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)
    print(json.dumps({"counts": noted.counts, "times": noted.times}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", default="")
    parser.add_argument("--nice", type=int, default=0, help="run only when the others leave the processor")
    options = parser.parse_args()
    os.nice(options.nice)
    uvloop.run(serve(options.times))
