"""Large pictures take a bounded amount of the daemon's memory, and nobody who sends webhooks waits for them."""

import io
import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from inboxd.simulator.payloads import Conversationalist, delivery
from inboxd.simulator.people import igsid
from PIL import Image

from tests.e2e.conftest import Process
from tests.e2e.test_process import post
from tests.support import ACCOUNT, T0

pytestmark = pytest.mark.executed  # its memory is measured

PEOPLE = 6
ENOUGH_MB = 150


def large(kind: str, size: tuple[int, int], **options: object) -> bytes:
    out = io.BytesIO()
    noise = Image.effect_noise((size[0] // 16, size[1] // 16), 90).resize(size, Image.Resampling.NEAREST)
    noise.convert("RGB").save(out, kind, **options)
    return out.getvalue()


@pytest.fixture
def pictures() -> list[bytes]:
    """24 million pixels each, the largest PNG that is taken, and one that is not."""
    return [
        large("JPEG", (6000, 4000)),
        large("JPEG", (4000, 6000)),
        large("PNG", (4000, 3140), compress_level=1),
        large("PNG", (6000, 4000), compress_level=1),
    ]


@pytest.fixture
def meta(pictures: list[bytes]) -> Iterator[str]:
    """A Graph API whose people all have large pictures."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            who = self.path.partition("?")[0].rpartition("/")[2]
            if self.path.startswith("/pictures/"):
                body = pictures[int(who) % len(pictures)]
            else:
                url = f"http://{self.headers['Host']}/pictures/{who}"
                body = json.dumps({"id": who, "username": f"user{who}", "profile_pic": url}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def most_mb(inboxd: Process) -> int:
    assert inboxd.process is not None
    status = Path(f"/proc/{inboxd.process.pid}/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) // 1024


@pytest.mark.long
def test_large_pictures_take_little_memory(inboxd: Process, meta: str) -> None:
    inboxd.environment |= {
        "INBOXD_ACCOUNTS": json.dumps([{"id": ACCOUNT}]),
        f"INBOXD_ACCOUNT_TOKEN_{ACCOUNT}": "a-token",
        "INBOXD_INSTAGRAM__GRAPH_URL": meta,
        "INBOXD_BUDGET__CALLS_PER_SECOND": "1000",
        "INBOXD_AVATARS__HOSTS": json.dumps(["127.0.0.1"]),
        "INBOXD_AVATARS__ALLOW_HTTP": "true",
        "INBOXD_AVATARS__ALLOW_NETWORKS": json.dumps(["127.0.0.1/32"]),
    }
    inboxd.start()
    items = [Conversationalist(ACCOUNT, igsid(number), T0).says("hi") for number in range(PEOPLE)]
    assert post(inboxd, json.dumps(delivery(ACCOUNT, T0, items)).encode()) == 200
    deadline = time.monotonic() + 60
    refused = [line for line in inboxd.logged() if line["event"] == "avatar_missing"]
    while len(list((inboxd.folder / "avatars").glob("*/*.webp"))) + len(refused) < 4 or not refused:
        assert time.monotonic() < deadline, inboxd.log.read_text()
        assert post(inboxd, json.dumps(delivery(ACCOUNT, T0, items)).encode()) == 200
        time.sleep(0.1)
        refused = [line for line in inboxd.logged() if line["event"] == "avatar_missing"]
    assert all("too many" in line["error"] for line in refused)
    assert most_mb(inboxd) < ENOUGH_MB
