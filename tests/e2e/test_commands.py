"""The commands as people use them: what they take, what they say, and what they exit with."""

import json
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from inboxd.simulator.people import igsid

from tests.e2e.conftest import Process, free_port
from tests.fork_server import fork_server
from tests.support import ACCOUNT

TOKEN = "simulator-token"
EVERYWHERE = "0.0.0.0"  # noqa: S104 - given, not bound


@contextmanager
def simulator(inboxd: Process) -> Iterator[None]:
    port = free_port()
    process = fork_server().start(["simulator", "--port", str(port)], env=inboxd.environment, cwd=inboxd.folder)
    assert process.stdout is not None
    assert str(port) in process.stdout.readline()
    inboxd.environment |= {
        "INBOXD_INSTAGRAM__GRAPH_URL": f"http://127.0.0.1:{port}",
        "INBOXD_BUDGET__CALLS_PER_SECOND": "100",
    }
    (inboxd.folder / "token").write_text(TOKEN + "\n")
    try:
        yield
    finally:
        process.terminate()
        assert process.wait(10) == 143
        process.stdout.close()


def imported(inboxd: Process, name: str, text: str) -> "subprocess.CompletedProcess[str]":
    (inboxd.folder / name).write_text(text)
    return inboxd.run("import-conversations", name)


def listed(inboxd: Process) -> list[dict[str, object]]:
    found: list[dict[str, object]] = json.loads(inboxd.run("conversations", "--json").stdout)["conversations"]
    return found


@pytest.mark.parametrize("daemon_runs", [True, False])
def test_an_account_that_was_added_by_command_is_configured(inboxd: Process, *, daemon_runs: bool) -> None:
    with simulator(inboxd):
        if daemon_runs:
            inboxd.start()
        assert inboxd.run("account", "add", "--token-file", "token").returncode == 0
        rows = [
            json.dumps({"clientAccountId": account, "participantPlatformId": igsid(0)})
            for account in (ACCOUNT, "17841499999999999")
        ]
        assert imported(inboxd, "known.jsonl", "\n".join(rows)).returncode == 0
        found = {one["clientAccountId"]: one["metadata"]["accountConfigured"] for one in listed(inboxd)}  # type: ignore[index]
        assert found == {ACCOUNT: True, "17841499999999999": False}
        assert inboxd.run("account", "remove", ACCOUNT).returncode == 0
        assert {one["metadata"]["accountConfigured"] for one in listed(inboxd)} == {False}  # type: ignore[index]


def test_one_is_not_many(inboxd: Process) -> None:
    with simulator(inboxd):
        assert inboxd.run("account", "add", "--token-file", "token").returncode == 0
        assert "1 account\n" in "\n".join(line.rstrip() for line in inboxd.run("account", "list").stdout.split("\n"))
        row = json.dumps({"clientAccountId": ACCOUNT, "participantPlatformId": igsid(0)})
        assert imported(inboxd, "known.jsonl", row).stdout == "1 conversation imported, 0 rows left out\n"
        assert imported(inboxd, "known.jsonl", row).stdout == "0 conversations imported, 1 row left out\n"
        assert "1 conversation " in inboxd.run("conversations").stdout
        inboxd.start()
        assert "1 account" in inboxd.run("account", "list").stdout


@pytest.mark.parametrize("daemon_runs", [True, False])
def test_headings_of_either_case_and_ids_of_other_systems_are_taken(inboxd: Process, *, daemon_runs: bool) -> None:
    if daemon_runs:
        inboxd.start()
    snake = (
        "client_account_id,participant_platform_id,platform_conversation_id,participant_username,unread_count,"
        "last_seen,Remark\n"
    )
    rows = [f'{ACCOUNT},{igsid(number)},"aWdfZ-{number}",name{number},{number},x,y' for number in range(3)]
    done = imported(inboxd, "snake.csv", snake + "\n".join(rows))
    assert (done.returncode, done.stdout) == (0, "3 conversations imported, 0 rows left out\n")
    assert done.stderr.count("last_seen") == done.stderr.count("Remark") == 1
    assert len(done.stderr.splitlines()) == 2
    camel = [
        {
            "clientAccountId": ACCOUNT,
            "participant_platform_id": igsid(3),
            "platformConversationId": f"{ACCOUNT}_{igsid(3)}",
        },
        {"clientAccountId": int(ACCOUNT), "participantPlatformId": igsid(4), "platformConversationId": 77, "colour": 1},
        {"clientAccountId": ACCOUNT, "participantPlatformId": igsid(5), "metadata": {"a": 1}, "colour": 1},
    ]
    done = imported(inboxd, "camel.jsonl", "\n".join(map(json.dumps, camel)))
    assert (done.returncode, done.stdout) == (0, "3 conversations imported, 0 rows left out\n")
    assert done.stderr.count("colour") == 1

    known = {one["participantPlatformId"]: one for one in listed(inboxd)}
    for number in range(6):
        assert known[igsid(number)]["platformConversationId"] == f"{ACCOUNT}_{igsid(number)}"
    assert known[igsid(2)]["participantUsername"] == "name2"
    assert known[igsid(2)]["unreadCount"] == 2
    kept = {number: known[igsid(number)]["metadata"].get("importedConversationId") for number in range(6)}  # type: ignore[attr-defined]
    assert kept == {0: "aWdfZ-0", 1: "aWdfZ-1", 2: "aWdfZ-2", 3: None, 4: "77", 5: None}


def test_what_a_file_lacks_is_said_once(inboxd: Process) -> None:
    rows = "\n".join(f"{ACCOUNT},{igsid(number)}" for number in range(5))
    done = imported(inboxd, "known.csv", "account,participant_platform_id\n" + rows)
    assert done.returncode == 65
    assert done.stderr.count("clientAccountId") == 1
    assert len(done.stderr.splitlines()) == 1
    assert imported(inboxd, "empty.csv", "").returncode == 65
    done = imported(inboxd, "array.json", '[{"clientAccountId":"1","participantPlatformId":"2"}]')
    assert (done.returncode, "JSON Lines with" in done.stderr) == (65, True), done.stderr


@pytest.mark.parametrize(
    "data",
    [
        b"clientAccountId,participantPlatformId\n\xff,1\n",
        b"clientAccountId,participantPlatformId,metadata\n1,2," + b"[" * 100_000 + b"\n",
        b"clientAccountId,participantPlatformId,metadata\n1,2," + b"x" * 200_000 + b"\n",
        b"clientAccountId,participantPlatformId,unreadCount\n1,2," + b"9" * 5000 + b"\n",
        b'{"clientAccountId": "1", "participantPlatformId": "2", "metadata": ' + b"[" * 100_000 + b"}\n",
        b'{"clientAccountId": "1", "participantPlatformId": "2", "metadata": {"a": NaN}}\n',
        b"clientAccountId,participantPlatformId\n1\x00,2\n",
        b'clientAccountId,participantPlatformId\n"1\n",2\n',
    ],
)
def test_a_row_that_is_none_is_reported_without_a_traceback(inboxd: Process, data: bytes) -> None:
    (inboxd.folder / "known").write_bytes(data)
    done = inboxd.run("import-conversations", "known")
    assert "Traceback" not in done.stderr
    assert done.returncode in {1, 65}
    assert listed(inboxd) == [] if inboxd.database.exists() else True


@pytest.mark.parametrize("daemon_runs", [True, False])
@pytest.mark.parametrize("name", ["participantUsername", "metadata"])
def test_a_row_that_is_nested_deeply_costs_no_other_row(inboxd: Process, name: str, *, daemon_runs: bool) -> None:
    if daemon_runs:
        inboxd.start()
    deep = f'{{"clientAccountId": "1", "participantPlatformId": "9", "{name}": {"[" * 63 + "]" * 63}}}'
    sound = [f'{{"clientAccountId": "1", "participantPlatformId": "{number}"}}' for number in (1, 2)]
    done = imported(inboxd, "known.jsonl", "\n".join([sound[0], deep, sound[1]]))
    assert (done.returncode, done.stderr.splitlines()) == (1, ["row 2: nested too deeply"])
    assert {one["participantPlatformId"] for one in listed(inboxd)} == {"1", "2"}


@pytest.mark.parametrize("daemon_runs", [True, False])
def test_exit_codes_are_the_same_with_and_without_a_daemon(inboxd: Process, *, daemon_runs: bool) -> None:
    if daemon_runs:
        inboxd.start()
    else:
        (inboxd.folder / "none.jsonl").write_text(json.dumps({"clientAccountId": "1", "participantPlatformId": "2"}))
        assert inboxd.run("import-conversations", "none.jsonl").returncode == 0
    for command, code in (
        ("account check 42", 64),
        ("account remove 42", 64),
        ("account check a/../b", 64),
        ("backfill --account 42", 64),
        ("export --account 1 --participant 404", 69),
        ("forget --yes --account 1 --participant 1", 64),
        ("restore /nowhere.sqlite3", 74),
        ("import-conversations /nowhere.csv", 74),
        ("account add --token-file /nowhere", 74),
        ("conversations --limit x", 64),
        ("doctor --config /nowhere.toml", 1),
    ):
        done = inboxd.run(*command.split())
        assert (command, done.returncode) == (command, code), done.stderr
        assert "Traceback" not in done.stderr


def test_the_simulator_says_that_its_port_is_taken(inboxd: Process) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        done = inboxd.run("simulator", "--port", str(sock.getsockname()[1]))
    assert (done.returncode, "Traceback" in done.stderr) == (69, False)


def test_what_belongs_to_the_simulator_does_not_concern_the_daemon(inboxd: Process) -> None:
    inboxd.environment["INBOXD_SIMULATOR_APP_SECRET"] = "for-the-other-terminal"
    assert inboxd.run("check-config").returncode == 0
    inboxd.start()
    inboxd.signal(signal.SIGTERM)
    assert inboxd.wait() == 0


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"INBOXD_ADMIN__PORT": "8080", "INBOXD_PUBLIC__PORT": "8080"}, "admin.port"),
        (
            {"INBOXD_ADMIN__PORT": "8080", "INBOXD_PUBLIC__PORT": "8080", "INBOXD_PUBLIC__HOST": EVERYWHERE},
            "admin.port",
        ),
        ({"INBOXD_ADMIN__HOST": EVERYWHERE}, "admin.host"),
        ({"INBOXD_ADMIN__HOST": "::"}, "admin.host"),
        ({"INBOXD_ADMIN__HOST": "8.8.8.8"}, "admin.host"),
        ({"INBOXD_ADMIN__HOST": "inbox.example.com"}, "admin.host"),
    ],
)
def test_a_strict_look_at_the_configuration_complains(inboxd: Process, variables: dict[str, str], told: str) -> None:
    strict = inboxd.run("check-config", "--strict", **variables)
    assert strict.returncode == 78
    assert told in strict.stderr
    lenient = inboxd.run("check-config", **variables)
    assert lenient.returncode == 0
    assert told in lenient.stderr
    found = json.loads(inboxd.run("doctor", "--json", **variables).stdout)
    (exposed,) = [one for one in found if told in one["detail"] and one["check"] == "configuration"]
    assert exposed["health"] != "ok"
    assert exposed["remedy"]


@pytest.mark.parametrize(
    "variables",
    [
        {"INBOXD_ADMIN__HOST": "localhost"},
        {"INBOXD_ADMIN__HOST": "::1"},
        {"INBOXD_ADMIN__PORT": "8080", "INBOXD_PUBLIC__PORT": "8080", "INBOXD_PUBLIC__HOST": "127.0.0.2"},
        {"INBOXD_ADMIN__PORT": "0", "INBOXD_PUBLIC__PORT": "0"},
    ],
)
def test_what_is_in_order_is_not_complained_about(inboxd: Process, variables: dict[str, str]) -> None:
    done = inboxd.run("check-config", "--strict", **variables)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_demo_leaves_nothing_behind(inboxd: Process, number: signal.Signals) -> None:
    folder = inboxd.folder / "temporary"
    folder.mkdir()
    log = inboxd.folder / "demo"
    with log.open("wb") as output:
        environment = inboxd.environment | {"TMPDIR": str(folder)}
        process = fork_server().start(["demo"], env=environment, cwd=folder, stdout=output, stderr=output)
        deadline = time.monotonic() + 30
        while not any(folder.glob("inboxd-demo-*/inboxd.sqlite3")) or "dashboard" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(20) == 128 + number
    assert list(folder.iterdir()) == []
    assert "Traceback" not in log.read_text()
    assert Path(tempfile.gettempdir()) != folder
