"""What strangers send to a real process: nothing of it may reach the log, and none of it may keep others out."""

import asyncio
import json
import re
import socket
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path

import pytest
from inboxd.meta.signature import HEADER, sign
from inboxd.simulator.payloads import Conversationalist, delivery

from tests.e2e.conftest import Process
from tests.support import ACCOUNT, ANA, APP_SECRET, T0

pytestmark = pytest.mark.executed  # its memory is measured

MARK = "hunter2"
"""Stands for a secret: a token, a text, a verify token."""
BROKEN = {
    "control character in a header": f"GET /api/budget HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {MARK}\x01\r\n\r\n",
    "null in a header": f"GET /api/budget HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {MARK}\x00\r\n\r\n",
    "raw byte in the address": f"GET /webhooks/instagram?hub.verify_token={MARK}\xff HTTP/1.1\r\nHost: x\r\n\r\n",
    "space in the address": f"GET /webhooks/instagram?hub.verify_token={MARK} x HTTP/1.1\r\nHost: x\r\n\r\n",
    "address that is none": f"GET http://[{MARK}/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "port that is none": f"GET http://x:{MARK}/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "host that is none": f"GET http://{MARK}\xff.x/ HTTP/1.1\r\nHost: x\r\n\r\n",
    "odd method": f"{MARK} / HTTP/1.1\r\nHost: x\r\n\r\n",
    "no HTTP": f"{MARK}\r\n\r\n",
    "TLS": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + MARK + "\r\n\r\n",
    "no host": f"GET /{MARK} HTTP/1.1\r\nX: {MARK}\r\n\r\n",
    "header without a colon": f"GET / HTTP/1.1\r\nHost: x\r\n{MARK}\r\n\r\n",
    "two lengths": f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\nContent-Length: 8\r\n\r\n{MARK}",
    "length that is none": f"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {MARK}\r\n\r\n",
    "expects something else": "POST /webhooks/instagram HTTP/1.1\r\nHost: x\r\n"
    f"Expect: {MARK}\r\nContent-Length: 0\r\n\r\n",
    "expects something else, nowhere": f"GET /{MARK} HTTP/1.1\r\nHost: x\r\nExpect: {MARK}\r\n\r\n",
    "long address": f"GET /{MARK * 2000} HTTP/1.1\r\nHost: x\r\n\r\n",
    "long header": f"GET / HTTP/1.1\r\nHost: x\r\nAuthorization: {MARK * 2000}\r\n\r\n",
    "many headers": "GET / HTTP/1.1\r\nHost: x\r\n" + f"X-Y: {MARK}\r\n" * 200 + "\r\n",
    "chunk that is none": f"POST /webhooks/instagram HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: sha256={'0' * 64}\r\n"
    f"Transfer-Encoding: chunked\r\n\r\n{MARK}\r\n",
    "chunk that is none, unsigned": "POST /webhooks/instagram HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    f"3\r\nabc\r\n{MARK}\r\n",
    "chunk that is none, nowhere": f"POST /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{MARK}\r\n",
    "raw byte in the path": f"GET /api/{MARK}\xff HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {MARK}\r\n\r\n",
    "content type that is none": "POST /webhooks/instagram/deauthorize HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n"
    f"Content-Type: multipart/form-data; boundary=\x7f{MARK}\r\n\r\n{MARK}",
    "upgrade with a tail": f"GET /{MARK} HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\n"
    f"Upgrade: websocket\r\n\r\n{MARK}\xff",
    "tunnel": f"CONNECT {MARK}:1 HTTP/1.1\r\nHost: x\r\n\r\n{MARK}",
    "old and strange": f"GET /{MARK}\xff HTTP/0.9\r\nAuthorization: {MARK}\r\n\r\n",
}


def answer_to(port: int, data: bytes, *, silence_s: float = 0.3) -> bytes:
    """Everything that comes back until the other side hangs up or falls silent."""
    with socket.create_connection(("127.0.0.1", port), timeout=15) as sock:
        sock.sendall(data)
        found = b""
        with suppress(TimeoutError, ConnectionResetError):
            while piece := sock.recv(65536):
                found += piece
                sock.settimeout(silence_s)
        return found


@pytest.mark.parametrize("listener", ["public", "admin"])
def test_nothing_of_a_broken_request_is_logged_or_echoed(inboxd: Process, listener: str) -> None:
    inboxd.environment |= {"INBOXD_LOGS__LEVEL": "debug", "INBOXD_LOGS__ACCESS_SAMPLE": "0"}
    inboxd.start()
    port = inboxd.public if listener == "public" else inboxd.admin
    echoed, failed, silent = [], [], []
    for name, text in BROKEN.items():
        told = answer_to(port, text.encode("latin-1"))
        if MARK.encode() in told:
            echoed.append((name, told))
        if b" 500 " in told.split(b"\r\n")[0]:
            failed.append((name, told))
        if not told:
            silent.append(name)
    assert not echoed
    assert not failed
    assert not silent
    logged = [line for line in inboxd.log.read_text().splitlines() if MARK in line]
    assert not logged, logged
    assert inboxd.get("/readyz")[0] == 200


MIB = 1024 * 1024
FORGED = f"POST /webhooks/instagram HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: sha256={'0' * 64}\r\n".encode()
SIZED = FORGED + b"Content-Length: %d\r\n\r\n" % (4 * MIB)
CHUNKED = FORGED + b"Transfer-Encoding: chunked\r\n\r\n"
TRIES = 10
"""How often a large body is sent at most: on a busy machine the eight seconds are over after the first."""
PIECE = b"x" * 65_536
CHUNK = b"10000\r\n" + PIECE + b"\r\n"


async def hostile(port: int, kind: int, until: asyncio.Event) -> None:
    """Bodies of up to 4 MiB that are signed by nobody, again and again: whole, in chunks, without end, slow, held."""
    while not until.is_set():
        with suppress(ConnectionError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                if kind == 0:
                    pieces = [SIZED, *[PIECE] * 64]
                elif kind == 1:
                    pieces = [CHUNKED, *[CHUNK] * 60, b"0\r\n\r\n"]
                elif kind == 2:
                    pieces = [CHUNKED, *[CHUNK] * 63]
                else:
                    pieces = [SIZED, *[PIECE] * (63 if kind == 3 else 10)]
                for piece in pieces:
                    writer.write(piece)
                    await writer.drain()
                    if kind == 4:
                        await asyncio.sleep(0.1)
                with suppress(TimeoutError):
                    await asyncio.wait_for(until.wait(), 3)
            finally:
                writer.transport.abort()


async def attacked(inboxd: Process, count: int, seconds: float) -> tuple[list[int], list[int]]:
    """Statuses of small signed posts while so many strangers send, and of a large one, repeated as Meta does."""
    until = asyncio.Event()
    strangers = [asyncio.create_task(hostile(inboxd.public, number % 5, until)) for number in range(count)]
    small: list[int] = []
    large: list[int] = []
    loop = asyncio.get_running_loop()
    began = loop.time()
    while loop.time() - began < seconds or (200 not in large and len(large) < TRIES):
        small += [await asyncio.to_thread(post, inboxd, body(1_000)) for _ in range(5)]
        if 200 not in large:
            large.append(await asyncio.to_thread(post, inboxd, body(4 * MIB)))
    until.set()
    await asyncio.gather(*strangers)
    return small, large


def body(size: int) -> bytes:
    """A delivery of so many bytes."""
    text = json.dumps(delivery(ACCOUNT, T0, [Conversationalist(ACCOUNT, ANA, T0).says("hola")]))
    return (text[:-1] + " " * (size - len(text)) + "}").encode()


def post(inboxd: Process, data: bytes) -> int:
    """Send it signed; 0 when the connection is refused or lost."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{inboxd.public}/webhooks/instagram", data=data, headers={HEADER: sign(data, APP_SECRET)}
    )
    try:
        with urllib.request.urlopen(request, timeout=15) as response:  # noqa: S310 - http
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def peak_mb(inboxd: Process) -> float:
    """The most memory that was resident, in MB (10**6 bytes)."""
    assert inboxd.process is not None
    status = Path(f"/proc/{inboxd.process.pid}/status").read_text(encoding="ascii")
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) * 1024 / 1e6


@pytest.mark.long
def test_five_hundred_strangers_fill_no_memory_and_keep_nobody_out(inboxd: Process) -> None:
    inboxd.start()

    small, large = asyncio.run(attacked(inboxd, 500, 8))

    assert set(small) == {200}
    assert 200 in large, "a body of full size is taken too, if not at once"
    assert peak_mb(inboxd) < 250


def test_idle_strangers_keep_nobody_out(inboxd: Process) -> None:
    inboxd.start()
    strangers = [socket.create_connection(("127.0.0.1", inboxd.public)) for _ in range(520)]
    for stranger in strangers:
        with suppress(ConnectionError):
            stranger.sendall(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")

    assert [post(inboxd, body(1_000)) for _ in range(15)] == [200] * 15

    for stranger in strangers:
        stranger.close()
