"""A check that is killed in its midst goes on after the next start: everything is there once, and told once."""

import json
import signal
import sqlite3
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from inboxd.simulator.people import igsid

from tests.e2e.conftest import Process, simulator
from tests.support import ACCOUNT

CONVERSATIONS = 8
TOKEN = "simulator-token"


def request(url: str, body: object = None, method: str = "GET") -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(url, data, method=method), timeout=5) as response:  # noqa: S310 - http
        return json.load(response)


def until(condition: Callable[[], bool], *, within_s: float = 60) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture
def instagram() -> Iterator[str]:
    """A simulated Instagram; its URL."""
    with simulator() as url:
        yield url


@pytest.mark.long
def test_a_check_that_is_killed_goes_on_after_the_next_start(inboxd: Process, instagram: str) -> None:
    behaviour = request(f"{instagram}/_simulator/behaviour")
    behaviour |= {"visible_after_s": 0.0, "latency_ms": 100.0}
    request(f"{instagram}/_simulator/behaviour", behaviour, "PUT")
    inboxd.environment |= {
        "INBOXD_ACCOUNTS": json.dumps([{"id": ACCOUNT}]),
        f"INBOXD_ACCOUNT_TOKEN_{ACCOUNT}": TOKEN,
        "INBOXD_INSTAGRAM__GRAPH_URL": instagram,
        "INBOXD_BUDGET__CALLS_PER_SECOND": "1000",
        "INBOXD_BUDGET__CALLS_PER_HOUR": "100000",
        "INBOXD_RECONCILIATION__EVERY_MINUTES": "1",
        "INBOXD_BACKFILL__SCHEDULE": "",
    }
    inboxd.start()
    for number in range(CONVERSATIONS):
        new = {"account_id": ACCOUNT, "participant_id": igsid(number), "text": f"hello {number}"}
        request(f"{instagram}/_simulator/mailbox", new, "POST")

    def reads() -> int:
        return sum(path.endswith("/messages") for path in request(f"{instagram}/_simulator/calls"))

    for round_number in (1, 2):
        until(lambda enough=3 * round_number: reads() >= enough)  # type: ignore[misc]
        inboxd.signal(signal.SIGKILL)
        inboxd.wait()
        inboxd.start()

    def told() -> list[dict[str, Any]]:
        _, page = inboxd.get("/api/events?types=reconciliation.healed")
        return [one["data"] for one in page["events"]]

    until(lambda: bool(told()), within_s=20)
    status, completeness = inboxd.get(f"/api/accounts/{ACCOUNT}/completeness")
    assert status == 200
    assert (completeness["windows"][0]["existing"], completeness["windows"][0]["healed"]) == (CONVERSATIONS,) * 2
    assert [one["count"] for one in told()] == [CONVERSATIONS]
    truth = {one["id"]: one["text"] for one in request(f"{instagram}/_simulator/mailbox")["messages"]}
    with sqlite3.connect(f"file:{inboxd.database}?mode=ro", uri=True) as connection:
        rows = connection.execute("SELECT platform_message_id, content FROM v1_messages").fetchall()
        events = connection.execute("SELECT count(*) FROM events WHERE type = 'message.received'").fetchone()
        gaps = connection.execute("SELECT count(*) FROM delivery_gaps WHERE cause = 'down'").fetchone()
    assert sorted(rows) == sorted(truth.items())
    assert (events, gaps) == ((CONVERSATIONS,), (2,))
