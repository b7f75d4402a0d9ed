"""`inboxd doctor`: what is wrong, and what to do about it."""

import asyncio
import json
import signal
import sqlite3
import time
import urllib.request
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from inboxd.maintenance.doctor.diagnosis import Severity
from inboxd.maintenance.doctor.outbox_checks import check_uploads
from inboxd.meta.signature import HEADER, sign
from inboxd.simulator.graph_server import Behaviour, GraphServer
from inboxd.simulator.payloads import Conversationalist, delivery
from inboxd.simulator.serving import serving
from inboxd.storage.database import Database

from tests.e2e.conftest import Process, free_port
from tests.e2e.test_process import post
from tests.e2e.test_traffic import text
from tests.support import ACCOUNT, ADMIN_TOKEN, ANA, APP_SECRET, T0, TOKEN


def diagnoses(inboxd: Process, *, code: int) -> dict[str, list[dict[str, Any]]]:
    done = inboxd.run("doctor", "--json")
    assert done.returncode == code, done.stdout + done.stderr
    found: dict[str, list[dict[str, Any]]] = {}
    for one in json.loads(done.stdout):
        found.setdefault(one["check"], []).append(one)
    return found


async def test_a_healthy_daemon(inboxd: Process) -> None:
    graph = GraphServer({TOKEN: ACCOUNT})
    async with serving(graph.application()) as url:
        inboxd.environment |= {
            "INBOXD_INSTAGRAM__GRAPH_URL": url,
            "INBOXD_ACCOUNTS": json.dumps([{"id": ACCOUNT}]),
            f"INBOXD_ACCOUNT_TOKEN_{ACCOUNT}": TOKEN,
            "INBOXD_PUBLIC__BASE_URL": f"http://127.0.0.1:{inboxd.public}",
        }
        await asyncio.to_thread(inboxd.start)
        assert (await asyncio.to_thread(inboxd.run, "backup")).returncode == 0
        found = await asyncio.to_thread(diagnoses, inboxd, code=0)
        table = await asyncio.to_thread(inboxd.run, "doctor")
    for check in ("configuration", "secrets", "database", "backups", "graph", "clock", "daemon", "public address"):
        assert [one["health"] for one in found[check]] == ["ok"], found[check]
    assert {one["health"] for one in found[f"account {ACCOUNT}"]} <= {"ok", "warning"}
    assert "nothing is wrong" in table.stdout
    assert TOKEN not in table.stdout


def test_an_unhealthy_one(inboxd: Process, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a-secret")
    secret.chmod(0o644)
    del inboxd.environment["INBOXD_APP_SECRETS"]
    inboxd.database.write_bytes(b"no database at all, though it stands where one should" * 100)
    inboxd.environment |= {
        "INBOXD_VERIFY_TOKEN_FILE": str(secret),
        "INBOXD_INSTAGRAM__GRAPH_URL": "https://graph.instagram.invalid",
        "INBOXD_PUBLIC__BASE_URL": f"http://127.0.0.1:{free_port()}",
    }
    found = diagnoses(inboxd, code=1)
    assert found["permissions"][0]["remedy"] == f"chmod 600 {secret}"
    assert "inboxd restore" in found["database"][0]["remedy"]
    assert found["graph"][0]["health"] == found["public address"][0]["health"] == "wrong"
    assert (found["backups"][0]["health"], found["daemon"][0]["health"]) == ("warning", "wrong")
    assert "INBOXD_APP_SECRETS" in found["secrets"][0]["remedy"]
    assert inboxd.database.read_bytes().startswith(b"no database")
    for one in (one for checks in found.values() for one in checks):
        assert one["health"] == "ok" or one["remedy"]


def test_a_token_that_the_daemon_does_not_know(inboxd: Process) -> None:
    inboxd.environment["INBOXD_INSTAGRAM__GRAPH_URL"] = f"http://127.0.0.1:{free_port()}"
    inboxd.start()
    inboxd.environment["INBOXD_ADMIN_TOKEN"] = "another"
    (daemon,) = diagnoses(inboxd, code=1)["daemon"]
    assert daemon["detail"] == "it does not know this admin_token"
    assert "INBOXD_ADMIN_TOKEN" in daemon["remedy"]


def test_a_database_of_a_newer_inboxd_is_not_to_be_replaced(inboxd: Process) -> None:
    inboxd.environment["INBOXD_INSTAGRAM__GRAPH_URL"] = f"http://127.0.0.1:{free_port()}"
    inboxd.start()
    inboxd.signal(signal.SIGTERM)
    inboxd.wait()
    with closing(sqlite3.connect(inboxd.database)) as connection:
        connection.execute("PRAGMA user_version = 9999")
    (database,) = diagnoses(inboxd, code=1)["database"]
    assert database["remedy"] == "Install the newer inboxd again."


def test_secrets_beside_the_configuration_are_nobody_elses(inboxd: Process, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("")
    for name, mode in (("app_secrets", 0o600), ("admin_token", 0o640)):
        (tmp_path / name).write_text("a-secret")
        (tmp_path / name).chmod(mode)
    found = diagnoses(inboxd, code=1)
    assert [one["remedy"] for one in found["permissions"]] == [f"chmod 600 {tmp_path / 'admin_token'}"]


@pytest.mark.parametrize("text", ["[logs]\nlevel = 'loud'", "[nothing]\n"])
def test_a_wrong_configuration_is_said_first(inboxd: Process, tmp_path: Path, text: str) -> None:
    (tmp_path / "config.toml").write_text(text)
    found = diagnoses(inboxd, code=1)
    assert found["configuration"][0]["health"] == "wrong"
    assert list(found) == ["sqlite", "configuration"]


def test_nothing_from_outside_moves_the_terminals_cursor(inboxd: Process, tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('["\\u009b2J"]')
    for command in ("doctor", "check-config"):
        done = inboxd.run(command)
        assert done.returncode != 0
        assert "unknown key" in done.stdout + done.stderr
        assert "2J" in done.stdout + done.stderr
        assert "\x9b" not in done.stdout + done.stderr


def test_what_is_known_of_accounts_without_a_daemon(inboxd: Process) -> None:
    inboxd.environment |= {
        "INBOXD_ACCOUNTS": json.dumps([{"id": ACCOUNT}]),
        "INBOXD_INSTAGRAM__GRAPH_URL": f"http://127.0.0.1:{free_port()}",
    }
    inboxd.start()
    assert inboxd.process is not None
    inboxd.process.terminate()
    inboxd.wait()
    (account,) = diagnoses(inboxd, code=1)[f"account {ACCOUNT}"]
    assert account["health"] in {"wrong", "warning"}
    assert account["remedy"]


def test_what_waits_and_what_was_set_aside_is_said(inboxd: Process) -> None:
    body = b"signed, but no JSON"
    inboxd.start()
    request = urllib.request.Request(
        f"http://127.0.0.1:{inboxd.public}/webhooks/instagram", body, {HEADER: sign(body, APP_SECRET)}
    )
    urllib.request.urlopen(request, timeout=10).close()  # noqa: S310 - http
    deadline = time.monotonic() + 20
    while not inboxd.get("/api/deliveries?state=failed")[1]["total"]:
        assert time.monotonic() < deadline

    found = diagnoses(inboxd, code=1)
    assert [one["detail"] for one in found["deliveries"]] == ["1 delivery set aside"]
    assert [one["detail"] for one in found["backlog"]] == ["0 deliveries waiting"]


def test_a_database_that_was_moved_away_is_no_fresh_start(inboxd: Process) -> None:
    inboxd.start()
    inboxd.database.rename(inboxd.folder / "aside")

    (database,) = diagnoses(inboxd, code=1)["database"]
    assert database["health"] == "wrong"
    assert "moved under the running daemon" in database["detail"]


def test_an_outage_of_metas_is_called_one(inboxd: Process) -> None:
    inboxd.environment |= {
        "INBOXD_INSTAGRAM__GRAPH_URL": f"http://127.0.0.1:{free_port()}",
        "INBOXD_ACCOUNTS": json.dumps([{"id": ACCOUNT}]),
        f"INBOXD_ACCOUNT_TOKEN_{ACCOUNT}": TOKEN,
    }
    inboxd.start()
    for number in range(8):
        said = Conversationalist(ACCOUNT, str(7_000_000 + number), T0).says("hi")
        assert post(inboxd, json.dumps(delivery(ACCOUNT, T0, [said])).encode()) == 200
    deadline = time.monotonic() + 20
    while not any(line["event"] == "graph_unreachable" for line in inboxd.logged()):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (budget,) = inboxd.get("/api/budget")[1]["budgets"]
    found = diagnoses(inboxd, code=1)
    (outage,) = found["meta"]
    assert (outage["health"], outage["detail"]) == (
        "wrong",
        f"Meta has not answered since {budget['unreachableSince']}",
    )
    assert not [one for one in found[f"account {ACCOUNT}"] if "no calls until" in one["detail"]]
    assert "inboxd_graph_unreachable 1.0" in text(inboxd, "/metrics")
    assert "Meta has not answered since" in text(inboxd, "/accounts")


async def test_answers_that_were_not_sent_are_said(inboxd: Process) -> None:
    graph = GraphServer({TOKEN: ACCOUNT})
    graph.behaviour = Behaviour(send_error_code=551, send_error_subcode=1545041, send_error_next=1)
    ana = Conversationalist(ACCOUNT, ANA, int(time.time() * 1000))
    async with serving(graph.application()) as url:
        known = json.dumps({"account_id": ACCOUNT, "participant_id": ANA, "text": "hi"}).encode()
        await asyncio.to_thread(lambda: urllib.request.urlopen(f"{url}/_simulator/mailbox", known).close())  # noqa: S310
        inboxd.environment |= {
            "INBOXD_INSTAGRAM__GRAPH_URL": url,
            "INBOXD_ACCOUNTS": json.dumps([{"id": ACCOUNT}]),
            f"INBOXD_ACCOUNT_TOKEN_{ACCOUNT}": TOKEN,
        }
        await asyncio.to_thread(inboxd.start)
        assert (await asyncio.to_thread(diagnoses, inboxd, code=0))["outbox"][0]["health"] == "ok"
        said = json.dumps(delivery(ACCOUNT, ana.now, [ana.says("hi")])).encode()
        assert await asyncio.to_thread(post, inboxd, said) == 200
        deadline = time.monotonic() + 20
        while not (await asyncio.to_thread(inboxd.get, "/api/messaging/conversations"))[1]["total"]:
            assert time.monotonic() < deadline
        for _ in range(2):
            await asyncio.to_thread(answer, inboxd)
        while not (await asyncio.to_thread(inboxd.get, "/api/messaging/outbound?state=failed"))[1]["outbound"]:
            assert time.monotonic() < deadline
        (failed,) = (await asyncio.to_thread(diagnoses, inboxd, code=0))[f"outbox {ACCOUNT}"]
    assert failed["health"] == "warning"
    assert failed["detail"].startswith("1 message failed in a day, the last at ")
    assert "blocked the account" in failed["detail"]
    assert "Answers are not sent" in failed["remedy"]

    assert inboxd.process is not None
    inboxd.process.terminate()
    inboxd.wait()
    with closing(sqlite3.connect(inboxd.database)) as connection, connection:
        connection.execute("UPDATE outbound_messages SET created_at = created_at - 3600000, updated_at = 0")
    (waiting,) = diagnoses(inboxd, code=1)[f"outbox {ACCOUNT}"]
    assert waiting["detail"].startswith("1 message not sent yet, the oldest since ")
    with closing(sqlite3.connect(inboxd.database)) as connection, connection:
        connection.execute("UPDATE outbound_messages SET state = 'unknown', reason_code = 'unresolved' WHERE id = 2")
    unresolved, _ = diagnoses(inboxd, code=1)[f"outbox {ACCOUNT}"]
    assert unresolved["health"] == "wrong"
    assert "state=unknown" in unresolved["remedy"]


def answer(inboxd: Process) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Content-Type": "application/json"}
    url = f"http://127.0.0.1:{inboxd.admin}/api/messaging/conversations/1/messages"
    urllib.request.urlopen(urllib.request.Request(url, b'{"text": "hello"}', headers), timeout=10).close()


SENT_MESSAGE = """
INSERT INTO outbound_messages (id, account_id, kind, participant_id, lane, state, holds, sent_by, body, requested_by,
    created_at, updated_at)
VALUES (1, '1', 'message', '1', 'p:1', 'sent', 0, 'human', '{}', 'admin', 5, 5)
"""


async def test_uploaded_files_that_cannot_be_read_are_wrong(database: Database, database_path: Path) -> None:
    assert await check_uploads(database_path) == []
    columns = "name, key, type, content_type, bytes, requested_by, created_at, expires_at"
    for name in ("one", "two"):
        row = f"'{name}', x'00', 'image', 'image/png', 1, 'admin', 1, 2"
        await database.execute(f"INSERT INTO uploads ({columns}) VALUES ({row})")
    folder = database_path.parent / "uploads"
    folder.mkdir()
    (folder / "one").touch()
    (found,) = await check_uploads(database_path)
    assert (found.health, found.detail) == (
        Severity.WRONG,
        f"1 of 2 uploaded files cannot be read in {folder}: No such file or directory",
    )
    await database.execute(SENT_MESSAGE)
    await database.execute("INSERT INTO upload_uses (outbound_id, upload_id) VALUES (1, 2)")
    (found,) = await check_uploads(database_path)
    assert (found.health, found.detail) == (Severity.OK, "1 file to send"), "what was sent is needed no more"
