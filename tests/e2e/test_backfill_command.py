"""`inboxd backfill` and `import-conversations`, with a daemon, without one, and with one that is killed."""

import json
import signal
import time
import urllib.request
from collections.abc import Iterator

import pytest
from inboxd.simulator.people import igsid

from tests.e2e.conftest import Process, simulator
from tests.support import ACCOUNT

TOKEN = "simulator-token"
PEOPLE = 40


class Simulated:
    """A daemon's surroundings with a simulated Instagram, and what that was asked."""

    def __init__(self, inboxd: Process, url: str) -> None:
        self.inboxd = inboxd
        self.url = url

    def behave(self, **how: object) -> None:
        request = urllib.request.Request(f"{self.url}/_simulator/behaviour", json.dumps(how).encode(), method="PUT")  # noqa: S310 - http
        urllib.request.urlopen(request).close()  # noqa: S310 - http

    def asked(self) -> list[str]:
        with urllib.request.urlopen(f"{self.url}/_simulator/calls") as response:  # noqa: S310 - http
            calls: list[str] = json.load(response)
        return [call for call in calls if "/me" not in call]


@pytest.fixture
def simulated(inboxd: Process) -> Iterator[Simulated]:
    with simulator() as url:
        inboxd.environment |= {
            "INBOXD_INSTAGRAM__GRAPH_URL": url,
            "INBOXD_BUDGET__CALLS_PER_SECOND": "1000",
            "INBOXD_ACCOUNTS": json.dumps([{"id": ACCOUNT}]),
            f"INBOXD_ACCOUNT_TOKEN_{ACCOUNT}": TOKEN,
        }
        rows = [{"clientAccountId": ACCOUNT, "participantPlatformId": igsid(number)} for number in range(PEOPLE)]
        (inboxd.folder / "known.jsonl").write_text("\n".join(map(json.dumps, rows)))
        yield Simulated(inboxd, url)


@pytest.mark.parametrize("daemon_runs", [True, False])
def test_conversations_are_imported_and_their_profiles_fetched(simulated: Simulated, *, daemon_runs: bool) -> None:
    inboxd = simulated.inboxd
    simulated.behave(latency_ms=1)
    if daemon_runs:
        inboxd.start()
    assert f"{PEOPLE} conversations imported" in inboxd.run("import-conversations", "known.jsonl").stdout
    counted = inboxd.run("backfill", "--account", ACCOUNT, "--dry-run")
    assert f"{PEOPLE} conversations lack a profile" in counted.stdout

    result = inboxd.run("backfill", "--account", ACCOUNT, "--follow", "--json")
    assert result.returncode == 0, result.stderr
    run = json.loads(result.stdout)
    assert (run["status"], run["successCount"]) == ("completed", PEOPLE)
    assert len(simulated.asked()) == PEOPLE
    assert inboxd.run("backfill", "--account", "1").returncode != 0


def test_bad_rows_are_reported_by_their_number_and_good_ones_imported(inboxd: Process) -> None:
    heading = "clientAccountId,participantPlatformId,participantUsername,unreadCount,metadata\n"
    rows = [
        f'{ACCOUNT},{igsid(0)},ana_x,3,"{{""crm"": 1}}"',
        f"{ACCOUNT},not-a-number,,,",
        f"{ACCOUNT},{igsid(1)},,many,",
        f"{ACCOUNT},{igsid(2)},,,not json",
        f"{ACCOUNT},{igsid(0)},,,",
        f"{ACCOUNT},{igsid(3)},,,",
    ]
    (inboxd.folder / "known.csv").write_text(heading + "\n".join(rows) + "\n")
    result = inboxd.run("import-conversations", "known.csv")
    assert result.returncode == 1
    assert "2 conversations imported, 4 rows left out" in result.stdout
    for number, told in ((3, "participantPlatformId"), (4, "unreadCount"), (5, "metadata"), (6, "exists already")):
        (line,) = [line for line in result.stderr.splitlines() if line.startswith(f"row {number}:")]
        assert told in line
    listed = json.loads(inboxd.run("conversations", "--json").stdout)["conversations"]
    known = {one["participantPlatformId"]: one for one in listed}
    assert known[igsid(0)]["participantUsername"] == "ana_x"
    assert known[igsid(0)]["metadata"]["crm"] == 1
    assert known[igsid(0)]["unreadCount"] == 3


def test_a_run_goes_on_where_it_was_after_a_kill(simulated: Simulated) -> None:
    inboxd = simulated.inboxd
    inboxd.run("import-conversations", "known.jsonl")
    simulated.behave(latency_ms=30)
    inboxd.start()
    started = json.loads(inboxd.run("backfill", "--account", ACCOUNT, "--json").stdout)
    address = started["links"]["self"]
    for _ in range(2):
        before = inboxd.get(address)[1]["totalProcessed"]
        deadline = time.monotonic() + 20
        while inboxd.get(address)[1]["totalProcessed"] < before + 5:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert inboxd.process is not None
        inboxd.process.kill()
        inboxd.wait()
        inboxd.start()
    deadline = time.monotonic() + 30
    while (run := inboxd.get(address)[1])["status"] != "completed":
        assert time.monotonic() < deadline, run
        time.sleep(0.05)

    assert (run["jobId"], run["successCount"], run["totalProcessed"]) == (started["jobId"], PEOPLE, PEOPLE)
    asked = simulated.asked()
    assert set(asked) == {f"/v25.0/{igsid(number)}" for number in range(PEOPLE)}
    assert len(asked) <= PEOPLE + 2, "only what was on the wire when it was killed is asked again"


@pytest.mark.parametrize("daemon_runs", [True, False])
def test_who_failed_is_printed_with_the_reason(simulated: Simulated, *, daemon_runs: bool) -> None:
    inboxd = simulated.inboxd
    simulated.behave(latency_ms=1, no_consent=[igsid(0), igsid(1)])
    rows = [{"clientAccountId": ACCOUNT, "participantPlatformId": who} for who in (igsid(0), igsid(1), igsid(2), "42")]
    (inboxd.folder / "known.jsonl").write_text("\n".join(map(json.dumps, rows)))
    if daemon_runs:
        inboxd.start()
    inboxd.run("import-conversations", "known.jsonl")

    result = inboxd.run("backfill", "--account", ACCOUNT, "--follow")
    assert result.returncode == 1, result.stderr
    assert "1 profile, 1 error, 2 skipped of 4" in result.stdout
    assert "failed: 42: Graph error 9010" in result.stdout
    assert "skipped: 2: Graph error 230" in result.stdout

    counted = inboxd.run("backfill", "--account", ACCOUNT, "--dry-run")
    assert "3 conversations lack a profile; 3 of them would be skipped" in counted.stdout
    run = json.loads(inboxd.run("backfill", "--account", ACCOUNT, "--force", "--follow", "--json").stdout)
    assert run["total"] == 3, "what is a day old at most is not refreshed"
    assert {one["participantPlatformId"] for one in run["errors"]} == {igsid(0), igsid(1), "42"}
    run = json.loads(
        inboxd.run("backfill", "--account", ACCOUNT, "--older-than", "0s", "--max", "4", "--follow", "--json").stdout
    )
    assert (run["total"], run["successCount"]) == (4, 1)
    assert inboxd.run("backfill", "--account", ACCOUNT, "--older-than", "yesterday").returncode == 64
    assert inboxd.run("backfill").returncode == 64


def test_a_run_is_paused_resumed_and_cancelled(simulated: Simulated) -> None:
    inboxd = simulated.inboxd
    simulated.behave(latency_ms=300)
    inboxd.start()
    inboxd.run("import-conversations", "known.jsonl")
    assert inboxd.run("backfill", "pause", "--account", ACCOUNT).returncode == 64, "there is none"
    started = json.loads(inboxd.run("backfill", "--account", ACCOUNT, "--json").stdout)
    paused = inboxd.run("backfill", "pause", "--account", ACCOUNT)
    assert (paused.returncode, "paused" in paused.stdout) == (0, True), paused.stderr
    assert inboxd.run("backfill", "pause", "--account", ACCOUNT).returncode == 69, "it is paused"
    resumed = json.loads(inboxd.run("backfill", "resume", "--account", ACCOUNT, "--json").stdout)
    assert (resumed["jobId"], resumed["status"]) == (started["jobId"], "running")

    inboxd.run("backfill", "pause", "--account", ACCOUNT)
    inboxd.signal(signal.SIGTERM)
    assert inboxd.wait() == 0
    assert "running" in inboxd.run("backfill", "resume", "--account", ACCOUNT).stdout, "without a daemon too"
    assert inboxd.run("backfill", "resume", "--account", ACCOUNT).returncode == 75
    assert "cancelled" in inboxd.run("backfill", "cancel", "--account", ACCOUNT).stdout
    assert inboxd.run("backfill", "cancel", "--account", ACCOUNT).returncode == 64
