"""`inboxd account`, with a daemon and without one, against a simulated Instagram in a process of its own."""

import json
from collections.abc import Iterator

import pytest

from tests.e2e.conftest import Process, simulator
from tests.support import ACCOUNT

TOKEN = "simulator-token"


@pytest.fixture
def simulated(inboxd: Process) -> Iterator[Process]:
    with simulator() as url:
        inboxd.environment |= {
            "INBOXD_INSTAGRAM__GRAPH_URL": url,
            "INBOXD_BUDGET__CALLS_PER_SECOND": "100",
        }
        (inboxd.folder / "token").write_text(TOKEN + "\n")
        yield inboxd


@pytest.mark.parametrize("daemon_runs", [True, False])
def test_accounts_are_added_listed_checked_and_removed(simulated: Process, *, daemon_runs: bool) -> None:
    if daemon_runs:
        simulated.start()

    added = simulated.run("account", "add", "--token-file", "token", "--name", "shop")
    assert added.returncode == 0, added.stderr
    assert "subscription" in added.stdout
    assert TOKEN not in added.stdout + added.stderr

    listed = json.loads(simulated.run("account", "list", "--json").stdout)
    assert [(one["id"], one["state"]) for one in listed["accounts"]] == [(ACCOUNT, "active")]
    assert ACCOUNT in simulated.run("account", "list").stdout

    checked = json.loads(simulated.run("account", "check", ACCOUNT, "--json").stdout)
    assert {finding["outcome"] for finding in checked["findings"]} == {"ok", "unknown"}

    chosen = simulated.run("account", "set", ACCOUNT, "--human-agent", "--json")
    assert (json.loads(chosen.stdout)["humanAgent"], json.loads(chosen.stdout)["comments"]) == (True, False)
    chosen = simulated.run("account", "set", ACCOUNT, "--comments", "--no-human-agent")
    assert chosen.stdout.splitlines() == [f"{ACCOUNT}: human agent off", f"{ACCOUNT}: comments and mentions on"]
    assert simulated.run("account", "set", ACCOUNT).returncode == 64
    assert simulated.run("account", "set", "1", "--comments").returncode == 64

    assert simulated.run("account", "remove", ACCOUNT).returncode == 0
    assert json.loads(simulated.run("account", "list", "--json").stdout) == {"accounts": []}
    again = simulated.run("account", "remove", ACCOUNT)
    assert again.returncode != 0
    assert "account" in again.stderr
    assert "Traceback" not in again.stderr


@pytest.mark.parametrize("daemon_runs", [True, False])
def test_a_token_that_meta_refuses_is_told(simulated: Process, *, daemon_runs: bool) -> None:
    if daemon_runs:
        simulated.start()
    (simulated.folder / "token").write_text("wrong")
    refused = simulated.run("account", "add", "--token-file", "token")
    assert refused.returncode == 69
    assert "190/467" in refused.stderr
    (simulated.folder / "token").write_text("  ")
    assert simulated.run("account", "add", "--token-file", "token").returncode == 64


def test_a_running_daemon_without_an_admin_token_is_explained(simulated: Process) -> None:
    simulated.start()
    del simulated.environment["INBOXD_ADMIN_TOKEN"]
    told = simulated.run("account", "list")
    assert told.returncode == 78
    assert "admin_token" in told.stderr


def test_the_login_type_goes_by_its_older_name_too(simulated: Process) -> None:
    add = ("account", "add", "--token-file", "token", "--json")
    for option in ("--login-type", "--flavour"):
        added = simulated.run(*add, option, "instagram")
        assert json.loads(added.stdout)["account"]["loginType"] == "instagram", added.stderr
    both = simulated.run(*add, "--login-type", "instagram", "--flavour", "facebook")
    assert both.returncode != 0
    assert "give one of them" in both.stderr
