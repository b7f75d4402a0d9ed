"""What strangers send to a real process: nothing of it may reach the log, and none of it may keep others out."""

import socket
from contextlib import suppress

import pytest

from tests.e2e.conftest import Process

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
