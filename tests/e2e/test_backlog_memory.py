"""A backlog of any shape is worked off within a small machine's memory, also by a process that finds it at its start.

Bounds in counts are no bounds: the shapes here are few deliveries that are large, and deliveries with many events.
"""

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from inboxd.simulator.payloads import Conversationalist, delivery
from inboxd.simulator.people import igsid
from inboxd.storage import migrations

from tests.e2e.conftest import Process
from tests.support import ACCOUNT, T0

pytestmark = pytest.mark.executed  # its memory is measured

LIMIT_MB = 250
MAX_BODY = 4 * 1024 * 1024


def batches(count: int) -> list[bytes]:
    """Ordinary deliveries of a thousand messages each."""
    people = [Conversationalist(ACCOUNT, igsid(number), T0) for number in range(1000)]
    return [
        json.dumps(delivery(ACCOUNT, T0, [who.says("hola, ¿sigue disponible?") for who in people])).encode()
        for _ in range(count)
    ]


def smallest_items() -> list[bytes]:
    """As many events as fit into the largest body."""
    item = {"sender": {"id": "1"}, "recipient": {"id": "2"}, "message": {"mid": "x", "text": ""}}
    size = len(json.dumps(item)) + 8
    items = [{**item, "message": {"mid": f"m{number}", "text": ""}} for number in range((MAX_BODY - 200) // size)]
    return [json.dumps(delivery(ACCOUNT, T0, items)).encode()] * 2


def one_broken_item() -> list[bytes]:
    """The largest body, one of whose items makes it undecodable as a whole."""
    whole = smallest_items()[0]
    return [whole.replace(b'"mid": "m7"', b'"mid": NaN', 1)]


def brackets() -> list[bytes]:
    nested = b'{"object":"instagram","entry":[{"id":"1","messaging":[' + b"[" * (2 * 1024 * 1024)
    return [nested, b"[" * MAX_BODY, b"[],".join([b"["] + [b""] * (MAX_BODY // 3)) + b"[]]"]


def empty_items() -> list[bytes]:
    return [b'{"object":"instagram","entry":[{"id":"1","messaging":[' + b"{}," * 1_300_000 + b"{}]}]}"]


def large_items() -> list[bytes]:
    who = Conversationalist(ACCOUNT, igsid(1), T0)
    return [json.dumps(delivery(ACCOUNT, T0, [who.says("x" * 60_000) for _ in range(65)])).encode() for _ in range(20)]


def store(path: Path, bodies: list[bytes]) -> None:
    """Put `bodies` into the inbox, as a process that was killed left them."""
    with closing(sqlite3.connect(path)) as connection:
        migrations.migrate(connection, path)
        connection.executemany(
            "INSERT INTO deliveries (received_at, body) VALUES (?, ?)", [(T0, body) for body in bodies]
        )
        connection.commit()


def peak_mb(inboxd: Process) -> float:
    assert inboxd.process is not None
    status = Path(f"/proc/{inboxd.process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


@pytest.mark.long
@pytest.mark.parametrize(
    "make", [lambda: batches(40), smallest_items, one_broken_item, brackets, large_items, empty_items]
)
def test_a_backlog_is_worked_off_within_bounds(inboxd: Process, make: Callable[[], list[bytes]]) -> None:
    bodies = make()
    store(inboxd.database, bodies)

    inboxd.start()
    deadline = time.monotonic() + 120
    while inboxd.get("/api/deliveries?state=pending")[1]["total"]:
        assert time.monotonic() < deadline
        assert inboxd.get("/readyz")[0] == 200
        time.sleep(0.1)

    assert peak_mb(inboxd) < LIMIT_MB
    assert inboxd.get("/api/deliveries")[1]["total"] == len(bodies)
