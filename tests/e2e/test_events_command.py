"""`inboxd events`: with a daemon, without one, and over a restart."""

import io
import json
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from inboxd.meta.signature import HEADER, sign
from inboxd.simulator.payloads import Conversationalist, delivery

from tests.e2e.conftest import Process
from tests.fork_server import INBOXD
from tests.support import ACCOUNT, ANA, APP_SECRET, T0


@pytest.fixture
def ana() -> Conversationalist:
    return Conversationalist(ACCOUNT, ANA, T0)


def deliver(inboxd: Process, *items: Any) -> None:
    body = json.dumps(delivery(ACCOUNT, T0, list(items))).encode()
    url = f"http://127.0.0.1:{inboxd.public}/webhooks/instagram"
    request = urllib.request.Request(url, data=body, headers={HEADER: sign(body, APP_SECRET)})
    with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 - http
        assert response.status == 200
    deadline = time.monotonic() + 20
    while inboxd.get("/api/deliveries?state=pending")[1]["total"]:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def stop(inboxd: Process) -> None:
    inboxd.signal(signal.SIGTERM)
    assert inboxd.wait() == 0


@contextmanager
def following(inboxd: Process, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [INBOXD, "events", "--follow", *arguments],
        env=inboxd.environment,
        cwd=inboxd.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def line(process: "subprocess.Popen[str]") -> str:
    assert isinstance(process.stdout, io.TextIOWrapper)
    return process.stdout.readline()


def test_events_are_the_same_with_and_without_a_daemon(inboxd: Process, ana: Conversationalist) -> None:
    inboxd.start()
    said = ana.says("two\nlines \x1b[31mand colour")
    deliver(inboxd, said, ana.reacts(said), ana.answers("an answer"))
    running = inboxd.run("events")
    as_json = inboxd.run("events", "--json")
    page = inboxd.get("/api/events")[1]
    stop(inboxd)
    assert running.stdout == inboxd.run("events").stdout
    assert as_json.stdout == inboxd.run("events", "--json").stdout
    assert [json.loads(one) for one in as_json.stdout.splitlines()] == page["events"]
    created, received, reacted, sent, human = running.stdout.splitlines()
    assert received.split()[2:] == ["message.received", ANA, "two", "lines", "[31mand", "colour"]
    assert "\x1b" not in running.stdout
    assert reacted.endswith("to: two lines  [31mand colour")
    assert created.split()[2:] == ["conversation.created", ANA, "open"]
    assert sent.endswith("an answer")
    assert human.split()[2] == "conversation.human_replied"


@pytest.mark.parametrize("with_daemon", [True, False])
def test_events_are_chosen(inboxd: Process, ana: Conversationalist, *, with_daemon: bool) -> None:
    inboxd.start()
    deliver(inboxd, ana.says("one"), ana.answers("two"))
    if not with_daemon:
        stop(inboxd)

    def types(*arguments: str) -> list[str]:
        found = inboxd.run("events", "--json", *arguments)
        assert found.returncode == 0, found.stderr
        return [json.loads(one)["type"] for one in found.stdout.splitlines()]

    assert types("--type", "message.*") == ["message.received", "message.sent"]
    answered = ["message.sent", "conversation.human_replied"]
    assert types("--type", "message.sent", "--type", "conversation.*") == ["conversation.created", *answered]
    assert types("--account", ACCOUNT, "--after", "1") == ["message.received", *answered]
    assert types("--account", "1") == []
    assert types("--after", "latest") == []
    wrong = inboxd.run("events", "--type", "message.recieved")
    assert wrong.returncode != 0
    assert "message.received" in wrong.stderr
    assert inboxd.run("events", "--after", "x").returncode == 64
    beyond = inboxd.run("events", "--after", "999")
    assert beyond.returncode != 0
    assert "another database" in beyond.stderr
    assert "Traceback" not in beyond.stderr + wrong.stderr


@pytest.mark.long
def test_following_goes_on_over_a_restart_and_ends_cleanly(inboxd: Process, ana: Conversationalist) -> None:
    inboxd.start()
    deliver(inboxd, ana.says("before"))
    with following(inboxd, "--after", "0", "--type", "message.*") as process:
        assert line(process).endswith("before\n")
        deliver(inboxd, ana.says("one"))
        assert line(process).endswith("one\n")
        stop(inboxd)
        inboxd.start()
        deliver(inboxd, ana.says("two"))
        assert line(process).endswith("two\n")
        inboxd.signal(signal.SIGKILL)
        inboxd.wait()
        inboxd.start()
        deliver(inboxd, ana.says("three"))
        assert line(process).endswith("three\n")
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (0, "", "")


def test_following_without_a_daemon_waits_for_one(inboxd: Process, ana: Conversationalist) -> None:
    inboxd.start()
    deliver(inboxd, ana.says("before"))
    stop(inboxd)
    with following(inboxd, "--after", "1") as process:
        assert line(process).endswith("before\n")
        assert process.stderr is not None
        assert "waiting for one" in process.stderr.readline()  # now it has let go of the file
        inboxd.start()
        deliver(inboxd, ana.says("after"))
        assert line(process).endswith("after\n")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143


def test_a_reader_that_has_seen_enough_ends_it_quietly(inboxd: Process, ana: Conversationalist) -> None:
    inboxd.start()
    with following(inboxd, "--after", "0") as process:
        deliver(inboxd, ana.says("one"))
        assert "conversation.created" in line(process)
        assert process.stdout is not None
        process.stdout.close()
        process.stdout = None
        deliver(inboxd, ana.says("two"))
        deliver(inboxd, ana.says("three"))
        assert process.stderr is not None
        assert process.stderr.read() == ""
        process.wait(20)
