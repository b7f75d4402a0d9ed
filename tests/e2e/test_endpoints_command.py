"""`inboxd endpoints`, with a daemon and, to look, without one; the receiver is a real server."""

import json
import signal
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.e2e.conftest import Process


class Receiver(ThreadingHTTPServer):
    """Keeps what it gets, and answers as it is told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}/hook?token=hush"
        self.status = 200
        self.requests: list[tuple[dict[str, str], bytes]] = []


class Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((dict(self.headers), body))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(b"thanks\x1b[31m")

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def daemon(inboxd: Process) -> Process:
    inboxd.start()
    return inboxd


@pytest.fixture(scope="module")
def one_for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A daemon for the tests that change nothing in it."""
    process = Process(tmp_path_factory.mktemp("daemon"))
    process.start()
    yield process
    process.signal(signal.SIGTERM)
    assert process.wait() == 0
    process.logged()


def endpoints(daemon: Process, *arguments: str, code: int = 0) -> str:
    """What `inboxd endpoints` prints, on either stream."""
    ended = daemon.run("endpoints", *arguments)
    assert ended.returncode == code, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stdout + ended.stderr


def as_json(daemon: Process, *arguments: str, code: int = 0) -> Any:
    return json.loads(endpoints(daemon, *arguments, "--json", code=code))


@pytest.mark.long
def test_an_endpoint_is_added_shown_changed_and_removed(daemon: Process, receiver: Receiver) -> None:
    told = endpoints(daemon, "add", receiver.url, "--type", "message.*", "--description", "CRM", "--timeout", "3")
    assert "whsec_" in told
    assert "shown only now" in told
    (made,) = as_json(daemon, "list")["endpoints"]
    assert (made["eventTypes"], made["description"], made["timeoutSeconds"]) == (["message.*"], "CRM", 3)
    listed, shown = endpoints(daemon, "list"), endpoints(daemon, "show", made["id"])
    assert made["id"] in listed
    assert "hush" not in listed, "the list shows hosts; what a URL has behind them may be a token"
    assert receiver.url in shown
    assert "whsec_" not in listed + shown

    changed = as_json(
        daemon, "update", made["id"], "--type", "*", "--account", "17841400000000001", "--disable", "--rate-limit", "5"
    )
    assert (changed["eventTypes"], changed["accountIds"]) == (["*"], ["17841400000000001"])
    assert (changed["state"], changed["rateLimit"], changed["description"]) == ("disabled", 5, "CRM")
    enabled = as_json(daemon, "update", made["id"], "--enable", "--all-accounts")
    assert (enabled["state"], enabled["accountIds"]) == ("ok", [])

    assert "is removed" in endpoints(daemon, "remove", made["id"])
    assert as_json(daemon, "list") == {"endpoints": [], "total": 0}
    assert "no webhook endpoint with this id" in endpoints(daemon, "remove", made["id"], code=64).lower()


def test_a_secret_is_rotated_and_a_sample_is_signed_with_both(daemon: Process, receiver: Receiver) -> None:
    made = as_json(daemon, "add", receiver.url)
    rotated = as_json(daemon, "rotate-secret", made["id"], "--keep", "1h")
    assert rotated["secret"] != made["secret"]
    tested = as_json(daemon, "test", made["id"], "--type", "run.completed")
    assert (tested["delivered"], tested["type"]) == (True, "run.completed")
    ((headers, body),) = receiver.requests
    for secret in (made["secret"], rotated["secret"]):
        assert Webhook(secret).verify(body, headers)["id"] == tested["eventId"]
    told = endpoints(daemon, "rotate-secret", made["id"])
    assert "The secret before signs too until" in told
    assert "whsec_" in told


def test_a_sample_that_is_not_delivered_is_told_by_the_exit_code(daemon: Process, receiver: Receiver) -> None:
    made = as_json(daemon, "add", receiver.url)
    receiver.status = 503
    told = endpoints(daemon, "test", made["id"], code=1)
    assert "HTTP 503 Service Unavailable" in told
    assert "thanks" in told
    assert "\x1b" not in told
    assert as_json(daemon, "test", made["id"], code=1)["status"] == 503


@pytest.mark.long
def test_failures_attempts_retry_and_replay(daemon: Process, receiver: Receiver) -> None:
    made = as_json(daemon, "add", receiver.url)
    for path in ("failures", "attempts"):
        assert as_json(daemon, path, made["id"], "--limit", "5")[path] == []
        assert "0 of 0" in endpoints(daemon, path, made["id"])
    assert as_json(daemon, "failures", made["id"], "--state", "failed")["total"] == 0
    assert as_json(daemon, "replay", made["id"], "--after", "0")["cursor"] == "0"
    assert as_json(daemon, "replay", made["id"], "--since", "2026-01-01T00:00:00Z")["id"] == made["id"]
    assert "failure" in endpoints(daemon, "retry", made["id"], "evt_1/../x", code=64)
    assert "the newest is 0" in endpoints(daemon, "replay", made["id"], "--after", "99", code=69)
    assert "give either" in endpoints(daemon, "replay", made["id"], code=64)
    assert "give either" in endpoints(daemon, "replay", made["id"], "--after", "0", "--since", "x", code=64)


@pytest.mark.parametrize(
    ("arguments", "told", "code"),
    [
        (("add", "http://169.254.169.254/"), "link-local", 69),
        (("add", "ftp://crm.example.com/"), "begins with https:// or http://", 69),
        (("add", "https://127.0.0.1/", "--type", "nothing.*"), "No type of event matches", 69),
        (("add", "https://127.0.0.1/", "--kind", "meta", "--type", "*"), "as they came", 69),
        (("add", "https://127.0.0.1/", "--account", "shop"), "accountIds", 69),
        (("add", "https://127.0.0.1/", "--timeout", "0"), "--timeout", 64),
        (("update", "we_1"), "say what to change", 64),
        (("update", "we_1", "--account", "1", "--all-accounts"), "give either", 64),
        (("show", "we_1"), "webhook endpoint", 64),
        (("test", "../accounts"), "webhook endpoint", 64),
    ],
)
def test_what_cannot_be_done_is_told(one_for_all: Process, arguments: tuple[str, ...], told: str, code: int) -> None:
    assert told in endpoints(one_for_all, *arguments, code=code)
    assert one_for_all.get("/api/webhook-endpoints")[1]["total"] == 0


@pytest.mark.long
def test_without_a_daemon_endpoints_are_seen_and_not_changed(daemon: Process, receiver: Receiver) -> None:
    made = as_json(daemon, "add", receiver.url)
    running = as_json(daemon, "show", made["id"])
    assert daemon.process is not None
    daemon.process.terminate()
    assert daemon.wait() == 0

    assert as_json(daemon, "list") == {"endpoints": [running], "total": 1}
    assert as_json(daemon, "show", made["id"]) == running
    assert made["id"] in endpoints(daemon, "list")
    assert "inboxd endpoints list" in endpoints(daemon, "show", "we_1", code=64)
    for arguments in (("add", receiver.url), ("remove", made["id"]), ("test", made["id"])):
        assert "does not answer" in endpoints(daemon, *arguments, code=69)
