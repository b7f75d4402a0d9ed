"""`inboxd import-history`, with a daemon, without one, and with one that is killed."""

import json
import signal
import subprocess
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from inboxd.simulator.people import igsid

from tests.e2e.conftest import Process, simulator
from tests.fork_server import INBOXD
from tests.support import ACCOUNT, T0, Json

PATH = "/api/workers/import-history"
TOKEN = "simulator-token"
PEOPLE = 8
MESSAGES = 3


class Simulated:
    """A daemon's surroundings with a simulated Instagram, and what that was asked."""

    def __init__(self, inboxd: Process, url: str) -> None:
        self.inboxd = inboxd
        self.url = url

    def ask(self, path: str, body: object = None, method: str = "GET") -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_simulator/{path}", data, method=method)  # noqa: S310 - http
        with urllib.request.urlopen(request) as response:  # noqa: S310 - http
            text = response.read()
            return json.loads(text) if text else None

    def reads(self) -> list[str]:
        """The calls of the Conversations API: `list`, or the id of the conversation whose messages were read."""
        parts = [call.strip("/").split("/") for call in self.ask("calls")]
        return [
            "list" if one[-1] == "conversations" else one[-2]
            for one in parts
            if one[-1] in {"conversations", "messages"}
        ]


@pytest.fixture
def simulated(inboxd: Process) -> Iterator[Simulated]:
    with simulator() as url:
        inboxd.environment |= {
            "INBOXD_INSTAGRAM__GRAPH_URL": url,
            "INBOXD_BUDGET__CALLS_PER_SECOND": "1000",
            "INBOXD_RECONCILIATION__EVERY_MINUTES": "0",
            "INBOXD_ACCOUNTS": json.dumps([{"id": ACCOUNT}]),
            f"INBOXD_ACCOUNT_TOKEN_{ACCOUNT}": TOKEN,
        }
        found = Simulated(inboxd, url)
        found.ask("behaviour", {"latency_ms": 1}, "PUT")
        for who in range(PEOPLE):
            for number in range(MESSAGES):
                at = T0 - 10_000_000_000 + who * 1_000_000 + number * 1000
                body = {
                    "account_id": ACCOUNT,
                    "participant_id": igsid(who),
                    "text": f"{who} {number}",
                    "created_ms": at,
                }
                found.ask("mailbox", body, "POST")
        yield found


@pytest.mark.long
@pytest.mark.parametrize("daemon_runs", [True, False])
def test_a_mailbox_is_imported(simulated: Simulated, *, daemon_runs: bool) -> None:
    inboxd = simulated.inboxd
    if daemon_runs:
        inboxd.start()
    counted = inboxd.run("import-history", "--account", ACCOUNT, "--dry-run")
    assert (counted.returncode, counted.stdout.strip()) == (0, "8 conversations to import"), counted.stderr
    done = inboxd.run("import-history", "--account", ACCOUNT, "--follow", "--max", "3", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, found["successCount"], found["messagesAdded"]) == (0, 3, 9), done.stderr
    done = inboxd.run("import-history", "--account", ACCOUNT, "--follow")
    assert done.returncode == 0, done.stderr
    assert "completed, 8 of 8 conversations, 0 errors: 15 messages added, 0 known already" in done.stdout
    assert sum(one != "list" for one in simulated.reads()) == PEOPLE
    shown = inboxd.run("conversations", "--json")
    assert len(shown.stdout.splitlines()) >= PEOPLE or len(json.loads(shown.stdout)) >= 1
    for wrong in ("tomorrow", "2099-01-01"):
        assert inboxd.run("import-history", "--account", ACCOUNT, "--since", wrong).returncode == 64


@pytest.mark.long
def test_an_import_goes_on_after_a_sigkill_where_it_was(simulated: Simulated) -> None:
    inboxd = simulated.inboxd
    inboxd.environment["INBOXD_LOGS__ACCESS_SAMPLE"] = "1"
    inboxd.start()
    simulated.ask("behaviour", {"latency_ms": 4000}, "PUT")  # until somebody watches
    started = json.loads(inboxd.run("import-history", "--account", ACCOUNT, "--json").stdout)
    path = started["links"]["self"]
    deadline = time.monotonic() + 60
    follow = [INBOXD, "import-history", "follow", "--account", ACCOUNT]
    with subprocess.Popen(
        follow, env=inboxd.environment, cwd=inboxd.folder, stdout=subprocess.PIPE, text=True
    ) as watching:
        while not any(
            line["event"] == "request" and (line["method"], line["path"]) == ("GET", PATH) for line in inboxd.logged()
        ):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        simulated.ask("behaviour", {"latency_ms": 1}, "PUT")
        while inboxd.get(path)[1]["totalProcessed"] < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        inboxd.signal(signal.SIGKILL)
        inboxd.wait()
        before = simulated.reads()
        counting = inboxd.run("import-history", "--account", ACCOUNT, "--dry-run")
        assert (counting.returncode, "is not finished" in counting.stderr) == (75, True), counting.stderr
        assert simulated.reads() == before, "who only counts imports nothing"
        the_rest(inboxd, simulated, started, before)
        assert watching.wait(60) == 0
        assert watching.stdout is not None
        assert f"{PEOPLE} of {PEOPLE} conversations" in watching.stdout.read()


def the_rest(inboxd: Process, simulated: Simulated, started: Json, before: list[str]) -> None:
    """The daemon starts again, and nothing is read twice."""
    path, deadline = started["links"]["self"], time.monotonic() + 60
    inboxd.start()
    while (run := inboxd.get(path)[1])["status"] != "completed":
        assert time.monotonic() < deadline, run
        time.sleep(0.1)
    assert run["jobId"] == started["jobId"]
    assert (run["successCount"], run["messagesAdded"], run["messagesKnown"]) == (PEOPLE, PEOPLE * MESSAGES, 0)
    reads = simulated.reads()
    twice = [one for one, count in Counter(reads).items() if count > 1 and one != "list"]
    assert len(twice) <= 1, "at most the one that was being read when it was killed"
    assert reads.count("list") - before.count("list") == 2
    conversations = inboxd.get("/api/messaging/conversations?limit=200")[1]["conversations"]
    assert len(conversations) == PEOPLE
    for one in conversations:
        messages = inboxd.get(f"/api/messaging/conversations/{one['id']}/messages")[1]["messages"]
        assert len({message["platformMessageId"] for message in messages}) == len(messages) == MESSAGES
    assert not [line for line in inboxd.logged() if line["level"] == "error"]
