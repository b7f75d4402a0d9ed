"""Backup, restore, forget and export, as commands beside a daemon and without one."""

import json
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from inboxd.simulator.payloads import Conversationalist, delivery

from tests.e2e.conftest import Process
from tests.e2e.test_process import post
from tests.support import ACCOUNT, ANA, T0
from tests.support import BRUNO as BRUNO_ID


def say(inboxd: Process, participant_id: str, text: str) -> None:
    said = Conversationalist(ACCOUNT, participant_id, T0).says(text)
    assert post(inboxd, json.dumps(delivery(ACCOUNT, T0, [said])).encode()) == 200


def messages(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM messages").fetchone()[0])


def erased(path: Path) -> list[str]:
    """Whose erasure the log tells of, at its end."""
    with closing(sqlite3.connect(path)) as connection:
        found = connection.execute("SELECT type, participant_id FROM events ORDER BY seq DESC LIMIT 3").fetchall()
    return [participant_id for kind, participant_id in reversed(found) if kind == "participant.erased"]


def settle(inboxd: Process) -> None:
    while inboxd.get("/api/deliveries?state=pending")[1]["total"]:
        pass


def test_backup_and_restore(inboxd: Process, tmp_path: Path) -> None:
    inboxd.start()
    say(inboxd, ANA, "one")
    settle(inboxd)
    done = inboxd.run("backup")
    assert done.returncode == 0, done.stderr
    (made,) = (tmp_path / "backups").iterdir()
    assert done.stdout.startswith(f"{made}: ")
    assert "checked" in done.stdout
    say(inboxd, BRUNO_ID, "two")
    settle(inboxd)

    other = inboxd.run("backup", "elsewhere.sqlite3")
    assert other.returncode == 0, other.stderr
    again = inboxd.run("backup", "elsewhere.sqlite3")
    assert (again.returncode, again.stderr) == (74, "inboxd: elsewhere.sqlite3 exists: backups are not written over\n")

    refused = inboxd.run("restore", str(made))
    assert refused.returncode == 75
    assert "another inboxd is using" in refused.stderr

    inboxd.signal(signal.SIGTERM)
    inboxd.wait()
    restored = inboxd.run("restore", str(made))
    assert restored.returncode == 0, restored.stderr
    assert messages(inboxd.database) == 1
    (aside,) = tmp_path.glob("inboxd.sqlite3.before-restore-*Z")
    assert messages(aside) == 2
    inboxd.start()
    assert inboxd.get("/api/messaging/conversations")[1]["total"] == 1


@pytest.mark.long
def test_a_person_is_exported_and_forgotten_with_and_without_a_daemon(inboxd: Process) -> None:
    inboxd.start()
    say(inboxd, ANA, "adios")
    say(inboxd, BRUNO_ID, "hola")
    settle(inboxd)
    whom = ("--account", ACCOUNT, "--participant")
    exported = inboxd.run("export", *whom, ANA)
    assert [message["content"] for message in json.loads(exported.stdout)["messages"]] == ["adios"]
    unsure = inboxd.run("forget", *whom, ANA)
    assert unsure.returncode == 130  # nobody said yes
    gone = inboxd.run("forget", *whom, ANA, "--yes")
    assert gone.returncode == 0, gone.stderr
    assert "1 message erased" in gone.stdout
    nobody = inboxd.run("export", *whom, ANA)
    assert nobody.returncode == 69
    assert "no participant" in nobody.stderr
    nobody = inboxd.run("forget", *whom, ANA, "--yes")
    told = f"inboxd: nothing is kept of {ANA} in account {ACCOUNT}\n"
    assert (nobody.returncode, nobody.stdout, nobody.stderr) == (69, "", told)

    inboxd.signal(signal.SIGTERM)
    inboxd.wait()
    assert json.loads(inboxd.run("export", *whom, BRUNO_ID).stdout)["messages"][0]["content"] == "hola"
    report = json.loads(inboxd.run("forget", *whom, BRUNO_ID, "--yes", "--json").stdout)
    assert (report["messages"], report["deliveries"]) == (1, 1)
    nobody = inboxd.run("export", *whom, BRUNO_ID)
    assert nobody.returncode == 69
    assert nobody.stderr == f"inboxd: nothing is kept of {BRUNO_ID} in account {ACCOUNT}\n"
    again = inboxd.run("forget", *whom, BRUNO_ID, "--yes", "--json")
    assert (again.returncode, again.stderr, json.loads(again.stdout)["messages"]) == (69, nobody.stderr, 0)
    wrong = inboxd.run("export", "--account", "../x", "--participant", "1")
    assert wrong.returncode == 64
    assert messages(inboxd.database) == 0
    assert erased(inboxd.database) == [ANA, BRUNO_ID], "the last events of the log, each once"


@pytest.mark.long
def test_an_account_is_erased_with_and_without_a_daemon(inboxd: Process) -> None:
    for runs in (True, False):
        inboxd.start()
        say(inboxd, ANA, "adios")
        say(inboxd, BRUNO_ID, "hola")
        settle(inboxd)
        assert inboxd.run("erase-account", "--account", ACCOUNT).returncode == 130  # nobody said yes
        if not runs:
            inboxd.signal(signal.SIGTERM)
            inboxd.wait()
        gone = inboxd.run("erase-account", "--account", ACCOUNT, "--yes")
        assert gone.returncode == 0, gone.stderr
        assert f"everything of {ACCOUNT} is erased" in gone.stdout
        nothing = inboxd.run("erase-account", "--account", "17841499999999999", "--yes")
        assert (nothing.returncode, nothing.stdout) == (69, "")
        assert "nothing is known of the account 17841499999999999" in nothing.stderr
        unknown = inboxd.run("erase-account", "--account", ACCOUNT, "--yes", "--code", "0" * 32)
        assert unknown.returncode == 69
        if runs:
            inboxd.signal(signal.SIGTERM)
            inboxd.wait()
        assert messages(inboxd.database) == 0
        assert ANA.encode() not in inboxd.database.read_bytes()
