"""Traffic that is unusual is said by the daemon, by doctor, on the overview, in the API and in the metrics."""

import json
import time
import urllib.request

from inboxd.runtime.clock import iso_utc
from inboxd.simulator.payloads import Conversationalist, delivery

from tests.e2e.conftest import Process, free_port
from tests.e2e.test_commands import simulator
from tests.e2e.test_process import post
from tests.support import ACCOUNT, ADMIN_TOKEN, ANA, T0

STRANGER = "17841499999999999"


def text(inboxd: Process, path: str) -> str:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Accept": "text/html"}
    request = urllib.request.Request(f"http://127.0.0.1:{inboxd.admin}{path}", headers=headers)
    with urllib.request.urlopen(request, timeout=20) as response:  # noqa: S310 - http
        found: str = response.read().decode()
    return found


def wait_for(inboxd: Process, findings: int) -> None:
    deadline = time.monotonic() + 20
    while len(inboxd.get("/api/traffic")[1]["findings"]) != findings:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_account_is_usual_as_soon_as_it_is_added(inboxd: Process) -> None:
    with simulator(inboxd):
        inboxd.start()
        said = Conversationalist(ACCOUNT, ANA, T0).says("hello")
        assert post(inboxd, json.dumps(delivery(ACCOUNT, T0, [said])).encode()) == 200
        wait_for(inboxd, 1)
        assert inboxd.run("account", "add", "--token-file", "token").returncode == 0
        wait_for(inboxd, 0)


def test_an_account_that_nobody_added_is_said_everywhere(inboxd: Process) -> None:
    inboxd.environment["INBOXD_INSTAGRAM__GRAPH_URL"] = f"http://127.0.0.1:{free_port()}"
    inboxd.start()
    (traffic,) = [one for one in json.loads(inboxd.run("doctor", "--json").stdout) if one["check"] == "traffic"]
    assert traffic["health"] == "ok"
    before = iso_utc(int(time.time() * 1000))
    somebody = Conversationalist(STRANGER, ANA, T0)
    for number in range(5):
        said = json.dumps(delivery(STRANGER, T0, [somebody.says(str(number))])).encode()
        assert post(inboxd, said) == 200
    wait_for(inboxd, 1)

    (finding,) = inboxd.get("/api/traffic")[1]["findings"]
    assert (finding["cause"], finding["accountId"]) == ("unserved", STRANGER)
    assert "inboxd account add" in finding["remedy"]
    (diagnosis,) = [
        one for one in json.loads(inboxd.run("doctor", "--json").stdout) if one["check"] == f"traffic {STRANGER}"
    ]
    assert before <= finding["since"] <= iso_utc(int(time.time() * 1000))
    told = f"{finding['detail']}, since {finding['since']}"
    assert (diagnosis["health"], diagnosis["detail"]) == ("warning", told)
    assert f"Account {STRANGER}: {told}" in text(inboxd, "/")
    assert 'inboxd_traffic_findings{cause="unserved"} 1.0' in text(inboxd, "/metrics")
    assert STRANGER not in text(inboxd, "/metrics")
    (line,) = [line for line in inboxd.logged() if line["event"] == "traffic_unusual"]
    assert (line["level"], line["cause"], line["account_id"]) == ("warning", "unserved", STRANGER)
    assert line["since"] == finding["since"]
