"""What is shown of a large body is bounded: the page, the memory that it takes, and how long others wait."""

import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from inboxd.meta.signature import HEADER, sign

from tests.e2e.conftest import Process
from tests.support import ACCOUNT, ADMIN_TOKEN, APP_SECRET, T0

pytestmark = pytest.mark.executed  # its memory is measured

MAX_GROWTH_BYTES = 30_000_000
MAX_PAGE_BYTES = 2_000_000
NESTED = b"[" * 900 + b"]" * 900


def nested(size: int) -> bytes:
    """Valid JSON of about `size` bytes that is nested 900 deep all the way: formatted, it is 900 times as large."""
    return b"[" + b",".join([NESTED] * (size // len(NESTED))) + b"]"


def post(inboxd: Process, body: bytes) -> int:
    request = urllib.request.Request(
        f"http://127.0.0.1:{inboxd.public}/webhooks/instagram", body, {HEADER: sign(body, APP_SECRET)}
    )
    with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310 - http
        return int(response.status)


def page(inboxd: Process, path: str, accept: str = "text/html") -> bytes:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Accept": accept}
    request = urllib.request.Request(f"http://127.0.0.1:{inboxd.admin}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=60) as response:  # noqa: S310 - http
        text: bytes = response.read()
    return text


def memory(inboxd: Process, name: str) -> int:
    """VmRSS or VmHWM (the peak) in bytes, as proc(5) has it."""
    assert inboxd.process is not None
    status = Path(f"/proc/{inboxd.process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


@contextmanager
def small_growth(inboxd: Process) -> Iterator[None]:
    """What happens meanwhile takes little memory, also at its peak."""
    assert inboxd.process is not None
    Path(f"/proc/{inboxd.process.pid}/clear_refs").write_text("5")  # the peak begins anew
    before = memory(inboxd, "VmRSS")
    yield
    assert memory(inboxd, "VmHWM") - before < MAX_GROWTH_BYTES


def settle(inboxd: Process) -> None:
    deadline = time.monotonic() + 60
    while inboxd.get("/api/deliveries?state=pending")[1]["total"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.parametrize("size", [900_000, 4_000_000])
def test_a_deeply_nested_body_is_looked_at_within_bounds_while_webhooks_are_answered(
    inboxd: Process, size: int
) -> None:
    body = nested(size)
    inboxd.start()
    assert post(inboxd, body) == 200
    settle(inboxd)

    pages: list[bytes] = []
    answered = 0
    with small_growth(inboxd):
        looking = threading.Thread(target=lambda: pages.extend(page(inboxd, "/deliveries/1") for _ in range(3)))
        looking.start()
        while looking.is_alive():
            answered += post(inboxd, b'{"object":"instagram","entry":[]}') == 200
        looking.join()

    assert {len(text) < MAX_PAGE_BYTES for text in pages} == {True}
    assert b"/api/deliveries/1/raw" in pages[0]
    assert answered > 0
    assert page(inboxd, "/api/deliveries/1/raw", "*/*") == body


@pytest.mark.long
def test_a_page_of_large_events_and_messages_is_bounded(inboxd: Process) -> None:
    inboxd.start()
    filler, most = b'"' + b"x" * 2_000_000 + b'"', b'"' + b"x" * 20_000 + b'"'  # larger items are no messages
    for number in range(30):
        item = (
            b'{"sender":{"id":"7000000000000001"},"recipient":{"id":"%s"},"timestamp":%d,"message":{"mid":"m%d","text":%s,'
            b'"attachments":[{"type":"image","payload":{"title":%s}}]}}'
            % (ACCOUNT.encode(), T0 + number, number, most, most)
        )
        optin = b'{"sender":{"id":"7000000000000001"},"recipient":{"id":"%s"},"timestamp":%d,"optin":%s}' % (
            ACCOUNT.encode(),
            T0 + number,
            filler,
        )
        for one in (item, optin):
            body = b'{"object":"instagram","entry":[{"id":"%s","time":%d,"messaging":[%s]}]}' % (
                ACCOUNT.encode(),
                T0,
                one,
            )
            assert post(inboxd, body) == 200
            settle(inboxd)
    with small_growth(inboxd):
        for path in (
            "/api/webhook-events?limit=200",
            "/api/messaging/conversations/1/messages?limit=200",
            "/api/messaging/messages?q=x*",
            "/api/messaging/conversations?limit=200",
            "/inbox",
            "/inbox/1",
        ):
            assert len(page(inboxd, path)) < MAX_PAGE_BYTES, path
    (event, *_) = inboxd.get("/api/webhook-events")[1]["webhookEvents"]
    assert (event["payload"], event["payloadForm"]) == (None, "omitted")
    assert event["sizeBytes"] == len(page(inboxd, f"/api/webhook-events/{event['id']}/payload", "*/*")) > 2_000_000
