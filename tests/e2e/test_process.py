"""The daemon as its user meets it: started, stopped, misconfigured, and short of room."""

import json
import resource
import shutil
import signal
import socket
import sqlite3
import subprocess
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
from inboxd import __version__
from inboxd.meta.signature import HEADER, sign
from inboxd.simulator.payloads import Conversationalist, delivery

from tests.e2e.conftest import Process
from tests.fork_server import INBOXD
from tests.support import ACCOUNT, ADMIN_TOKEN, ANA, APP_SECRET, T0, VERIFY_TOKEN

ROOT = Path(__file__).parent.parent.parent


def post(inboxd: Process, body: bytes) -> int:
    request = urllib.request.Request(
        f"http://127.0.0.1:{inboxd.public}/webhooks/instagram", data=body, headers={HEADER: sign(body, APP_SECRET)}
    )
    try:
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - http
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code


def hello(text: str = "hola") -> bytes:
    return json.dumps(delivery(ACCOUNT, T0, [Conversationalist(ACCOUNT, ANA, T0).says(text)])).encode()


@pytest.mark.executed  # as systemd starts and stops it
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stops_when_told_to_and_keeps_everything(inboxd: Process, number: signal.Signals) -> None:
    inboxd.start()
    with socket.create_connection(("127.0.0.1", inboxd.public)):  # an idle connection keeps nobody up
        assert post(inboxd, hello()) == 200
        inboxd.signal(number)
        assert inboxd.wait() == 0  # within seconds: the connection may be idle for more than a minute
    with sqlite3.connect(inboxd.database) as connection:
        assert connection.execute("SELECT count(*) FROM deliveries").fetchone() == (1,)
    connection.close()
    assert inboxd.log.read_text().splitlines()[-1].find('"event":"stopped"') > 0


def test_a_silent_graph_api_and_half_a_request_keep_nobody_up(inboxd: Process) -> None:
    with socket.socket() as graph:
        graph.bind(("127.0.0.1", 0))
        graph.listen()
        inboxd.environment |= {
            "INBOXD_ACCOUNTS": json.dumps([{"id": ACCOUNT}]),
            f"INBOXD_ACCOUNT_TOKEN_{ACCOUNT}": "token",
            "INBOXD_INSTAGRAM__GRAPH_URL": f"http://127.0.0.1:{graph.getsockname()[1]}",
        }
        inboxd.start()
        assert post(inboxd, hello()) == 200
        asked, _ = graph.accept()  # the fetch hangs from here on
        with (
            socket.create_connection(("127.0.0.1", inboxd.public)) as half,
            socket.create_connection(("127.0.0.1", inboxd.admin)) as other_half,
        ):
            half.sendall(b"POST /webhooks/instagram HTTP/1.1\r\nContent-Length: 100\r\n\r\nx")
            other_half.sendall(b"GET /healthz HTTP/1.1\r\n")
            time.sleep(0.2)
            inboxd.signal(signal.SIGTERM)
            assert inboxd.wait() == 0  # within seconds: a call may last longer
        asked.close()


def test_requests_in_flight_are_answered_before_it_stops(inboxd: Process) -> None:
    inboxd.start()
    body = hello()
    with socket.create_connection(("127.0.0.1", inboxd.public), timeout=10) as sock:
        head = f"POST /webhooks/instagram HTTP/1.1\r\nHost: x\r\n{HEADER}: {sign(body, APP_SECRET)}\r\n"
        sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:10])
        time.sleep(0.3)
        stopping(inboxd)
        time.sleep(0.1)  # of the time that what has begun to arrive has
        sock.sendall(body[10:])
        answer = sock.recv(1000)
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert inboxd.wait() == 0


def stopping(inboxd: Process) -> None:
    """Tell it to stop, and wait until it says that it does."""
    inboxd.signal(signal.SIGTERM)
    deadline = time.monotonic() + 10
    while '"event":"stopping"' not in inboxd.log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_delivery_that_waits_for_the_disk_when_it_is_told_to_stop_is_stored_and_answered(inboxd: Process) -> None:
    inboxd.start()
    body = hello()
    with (
        closing(sqlite3.connect(inboxd.database, isolation_level=None)) as other,
        socket.create_connection(("127.0.0.1", inboxd.public), timeout=10) as sock,
    ):
        other.execute("PRAGMA busy_timeout = 5000")
        other.execute("BEGIN IMMEDIATE")  # the commit waits
        head = f"POST /webhooks/instagram HTTP/1.1\r\nHost: x\r\n{HEADER}: {sign(body, APP_SECRET)}\r\n"
        sock.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        stopping(inboxd)
        time.sleep(0.1)  # of the second that it has
        other.execute("ROLLBACK")
        assert sock.recv(1000).startswith(b"HTTP/1.1 200 ")
    assert inboxd.wait() == 0
    with closing(sqlite3.connect(inboxd.database)) as connection:
        assert connection.execute("SELECT count(*) FROM deliveries").fetchone() == (1,)


def test_somebody_who_does_not_read_the_answer_keeps_nobody_up(inboxd: Process) -> None:
    inboxd.start()
    body = hello()
    assert post(inboxd, body[:-1] + b" " * (4_000_000 - len(body)) + b"}") == 200
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", inboxd.admin))
        request = f"GET /api/deliveries/1/raw HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\r\n"
        sock.sendall(request.encode())
        assert sock.recv(12) == b"HTTP/1.1 200"
        inboxd.signal(signal.SIGTERM)
        assert inboxd.wait() == 0


def test_what_was_not_understood_before_a_stop_is_understood_after(inboxd: Process) -> None:
    inboxd.start()
    for number in range(50):
        assert post(inboxd, hello(str(number))) == 200
    inboxd.signal(signal.SIGKILL)
    inboxd.wait()
    inboxd.start()
    deadline = time.monotonic() + 10
    while (inboxd.get("/api/deliveries?state=pending")[1] or {"total": 1})["total"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (conversation,) = inboxd.get("/api/messaging/conversations")[1]["conversations"]
    assert conversation["unreadCount"] == 1  # fifty deliveries of one mid


def test_logs_are_json_lines_without_secrets(inboxd: Process) -> None:
    inboxd.start()
    post(inboxd, hello("a private matter"))
    post(inboxd, b"not json")
    inboxd.signal(signal.SIGTERM)
    inboxd.wait()

    text = inboxd.log.read_text()
    for line in text.splitlines():
        assert {"event", "level", "timestamp"} <= json.loads(line).keys()
    for secret in (APP_SECRET, VERIFY_TOKEN, ADMIN_TOKEN, "a private matter"):
        assert secret not in text


def test_a_taken_port_is_named(inboxd: Process) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", inboxd.public))
        sock.listen()
        result = inboxd.run("run")
    assert result.returncode == 69
    assert f"cannot listen on 127.0.0.1:{inboxd.public}" in result.stderr
    assert "public.port" in result.stderr


def test_a_second_daemon_on_the_same_file_is_refused(inboxd: Process, tmp_path: Path) -> None:
    inboxd.start()
    second = Process(tmp_path)
    second.executed = True
    result = second.run("run")
    assert result.returncode == 75
    assert "another inboxd" in result.stderr


def test_a_newer_database_is_refused(inboxd: Process) -> None:
    inboxd.start()
    inboxd.signal(signal.SIGTERM)
    inboxd.wait()
    with sqlite3.connect(inboxd.database) as connection:
        connection.execute("PRAGMA user_version = 999")
    connection.close()
    result = inboxd.run("run")
    assert result.returncode == 65
    assert "newer inboxd" in result.stderr


@pytest.mark.executed  # what is said when it cannot start
@pytest.mark.parametrize("name", ["INBOXD_APP_SECRETS", "INBOXD_VERIFY_TOKEN"])
def test_a_missing_secret_is_named(inboxd: Process, name: str) -> None:
    del inboxd.environment[name]
    result = inboxd.run("run")
    assert result.returncode == 78
    assert f"{name}_FILE" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("command", "code"), [("conversations", 74), ("doctor --json", 1), ("backup", 74), ("run", 74)]
)
def test_a_path_that_cannot_be_reached_is_said_without_a_traceback(inboxd: Process, command: str, code: int) -> None:
    inboxd.environment["INBOXD_STORAGE__PATH"] = f"/{'x' * 300}/inboxd.sqlite3"
    result = inboxd.run(*command.split())
    assert result.returncode == code
    assert "Traceback" not in result.stderr
    assert "File name too long" in result.stdout + result.stderr


def test_an_account_without_token_waits_for_its_login(inboxd: Process) -> None:
    inboxd.environment["INBOXD_ACCOUNTS"] = '[{"id": "17"}]'
    assert "INBOXD_ACCOUNT_TOKEN_17" in inboxd.run("check-config").stderr
    inboxd.start()
    _, answer = inboxd.get("/api/accounts/17")
    assert answer["state"] == "needs_login"
    assert "inboxd account add" in answer["reason"]
    assert "account_without_token" in inboxd.log.read_text()


def test_an_unwritable_place_is_named(inboxd: Process) -> None:
    result = inboxd.run("run", INBOXD_STORAGE__PATH="/proc/nowhere/d")
    assert result.returncode == 74
    assert "/proc/nowhere" in result.stderr


def test_the_shipped_configuration_is_valid_as_it_stands(inboxd: Process) -> None:
    result = inboxd.run("check-config", "--config", str(ROOT / "config.toml"))
    assert (result.returncode, result.stderr) == (0, "")
    assert "is valid" in result.stdout


def test_check_config_lists_missing_secrets_and_refuses_them_when_strict(inboxd: Process) -> None:
    del inboxd.environment["INBOXD_VERIFY_TOKEN"]
    assert "verify_token" in inboxd.run("check-config").stderr
    assert inboxd.run("check-config").returncode == 0
    assert inboxd.run("check-config", "--strict").returncode == 78


@pytest.mark.executed  # what is said when it cannot start
def test_mistakes_in_the_configuration_are_explained(inboxd: Process) -> None:
    (inboxd.folder / "config.toml").write_text("[admin]\nprot = 9000\n")
    for command in ("run", "check-config", "conversations"):
        result = inboxd.run(command)
        assert result.returncode == 78
        assert "did you mean 'admin.port'?" in result.stderr


def test_usage() -> None:
    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run([INBOXD, *arguments], capture_output=True, text=True, timeout=30, check=False)

    assert run("--version").stdout == f"inboxd {__version__}\n"
    assert run("--nonsense").returncode == 64
    assert run("nonsense").returncode == 64
    assert run("conversations", "--limit", "0").returncode == 64
    assert run("run", "--config", "/nowhere.toml").returncode == 78
    assert "Usage" in run("--help").stdout


@pytest.mark.executed  # a command imports what it needs
def test_conversations_are_shown_with_and_without_a_daemon(inboxd: Process) -> None:
    missing = inboxd.run("conversations")
    assert missing.returncode == 74
    assert "there is no database" in missing.stderr

    inboxd.start()
    post(inboxd, hello("¿Qué tal? \x1b[2J"))
    deadline = time.monotonic() + 10
    while not inboxd.get("/api/messaging/conversations")[1]["total"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    running = inboxd.run("conversations")
    as_json = inboxd.run("conversations", "--json")
    inboxd.signal(signal.SIGTERM)
    inboxd.wait()
    stopped = inboxd.run("conversations")

    for result in (running, stopped):
        assert result.returncode == 0, result.stderr
        assert "¿Qué tal?" in result.stdout
        assert "\x1b" not in result.stdout
        assert ANA in result.stdout
    assert json.loads(as_json.stdout)["conversations"][0]["unreadCount"] == 1


def test_a_disk_without_room_is_503_and_unready(inboxd: Process) -> None:
    inboxd.start(preexec=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, 2_000_000)))

    statuses = [post(inboxd, hello("x" * 50_000)) for _ in range(60)]

    assert statuses[0] == 200
    assert statuses[-1] == 503
    assert set(statuses) == {200, 503}
    status, readiness = inboxd.get("/readyz")
    assert status == 503
    assert readiness["problems"]
    assert inboxd.get("/healthz")[0] == 200


@pytest.mark.executed  # its memory is measured
def test_it_is_small_when_idle(inboxd: Process) -> None:
    inboxd.start()
    assert inboxd.process is not None
    status = Path(f"/proc/{inboxd.process.pid}/status").read_text()
    # Without the pages of libraries: how many of them are mapped depends on what else the machine has read of late.
    (line,) = (line for line in status.splitlines() if line.startswith("RssAnon"))
    assert int(line.split()[1]) * 1024 < 50_000_000


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="the sqlite3 shell is not installed")
def test_the_file_is_open_to_other_readers(inboxd: Process) -> None:
    inboxd.start()
    result = subprocess.run(
        ["sqlite3", "-readonly", str(inboxd.database), "SELECT count(*) FROM v1_participants"],  # noqa: S607 - a test
        capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert result.stdout == "0\n"


def test_requests_are_logged_without_what_was_asked(inboxd: Process) -> None:
    inboxd.environment["INBOXD_LOGS__ACCESS_SAMPLE"] = "1.0"
    inboxd.start()
    inboxd.get("/api/messaging/messages?q=confidential")
    inboxd.signal(signal.SIGTERM)
    inboxd.wait()
    (line,) = [line for line in inboxd.logged() if line["event"] == "request" and "messaging" in line["path"]]
    assert (line["method"], line["path"], line["status"]) == ("GET", "/api/messaging/messages", 200)
    assert line["bytes"] > 0
    assert line["ms"] >= 0
    assert "confidential" not in inboxd.log.read_text()


def test_the_line_of_a_request_names_the_delivery_that_it_brought(inboxd: Process) -> None:
    inboxd.environment["INBOXD_LOGS__ACCESS_SAMPLE"] = "1.0"
    inboxd.start()
    for number in range(3):
        assert post(inboxd, b'{"object":"instagram","entry":[]}') == 200, number
    inboxd.signal(signal.SIGTERM)
    inboxd.wait()
    lines = [line for line in inboxd.logged() if line["event"] == "request" and line["method"] == "POST"]
    assert [line["delivery_id"] for line in lines] == [1, 2, 3]


def test_of_a_sample_only_our_own_failures_are_certain(inboxd: Process) -> None:
    inboxd.environment["INBOXD_LOGS__ACCESS_SAMPLE"] = "1e-12"
    del inboxd.environment["INBOXD_ADMIN_TOKEN"]
    inboxd.start()
    assert inboxd.get("/api/accounts")[0] == 503
    inboxd.signal(signal.SIGTERM)
    inboxd.wait()
    requests = [line for line in inboxd.logged() if line["event"] == "request"]
    assert {line["status"] for line in requests} == {503}
    assert "/api/accounts" in {line["path"] for line in requests}
