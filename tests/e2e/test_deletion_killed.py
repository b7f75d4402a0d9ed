"""A deletion that Meta asked for outlives a SIGKILL and a stop, and is not called completed before it is."""

import json
import signal
import sqlite3
import time
import urllib.parse
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
from inboxd.meta.signed_request import sign_request
from inboxd.simulator.payloads import Conversationalist, delivery
from inboxd.simulator.people import igsid

from tests.e2e.conftest import Process
from tests.e2e.test_process import post
from tests.support import ACCOUNT, APP_SECRET, T0

PEOPLE = 60


def ask_for_deletion(inboxd: Process) -> str:
    payload = json.dumps({"user_id": ACCOUNT, "algorithm": "HMAC-SHA256", "issued_at": 1_790_000_000}).encode()
    body = urllib.parse.urlencode({"signed_request": sign_request(payload, APP_SECRET)}).encode()
    address = f"http://127.0.0.1:{inboxd.public}/webhooks/instagram/data-deletion"
    with urllib.request.urlopen(address, body, timeout=10) as response:
        return f"{address}/{json.load(response)['confirmation_code']}"


def said(page: str) -> str:
    with urllib.request.urlopen(page, timeout=10) as response:  # noqa: S310 - http
        return str(response.read().decode())


def traces(folder: Path) -> list[str]:
    needles = [b"7000000000000", b"arsupilami"]
    files = [path for path in folder.glob("inboxd.sqlite3*") if path.is_file()]
    return [path.name for path in files if any(needle in path.read_bytes() for needle in needles)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_deletion_goes_on_after_the_next_start(inboxd: Process, number: signal.Signals) -> None:
    inboxd.environment |= {"INBOXD_ACCOUNTS": json.dumps([{"id": ACCOUNT}])}
    inboxd.start()
    for person in range(PEOPLE):
        talk = Conversationalist(ACCOUNT, igsid(person), T0)
        items = [talk.says(f"marsupilami {word}") for word in range(20)]
        assert post(inboxd, json.dumps(delivery(ACCOUNT, T0, items)).encode()) == 200
    while inboxd.get("/api/deliveries?state=pending")[1]["total"]:
        pass
    while not inboxd.get("/api/messaging/messages?q=marsupilami")[1]["results"]:
        pass
    with closing(sqlite3.connect(inboxd.database)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM messages").fetchall()  # while this goes on it cannot be completed
        page = ask_for_deletion(inboxd)
        assert "completed" not in said(page)
        inboxd.signal(number)
        inboxd.wait()
        inboxd.start()
        assert "completed" not in said(page)
        assert traces(inboxd.folder)
    deadline = time.monotonic() + 60
    while "completed at" not in said(page):
        assert time.monotonic() < deadline, said(page)
        time.sleep(0.1)
    assert traces(inboxd.folder) == []
