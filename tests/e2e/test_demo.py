import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Process
from tests.fork_server import INBOXD


def test_the_demo_ends_with_a_name_on_everybody_and_with_answers(inboxd: Process) -> None:
    result = inboxd.run("demo", "--once")

    assert result.returncode == 0, result.stdout + result.stderr
    assert "26 of 26 people have a profile" in result.stdout, "with one who only commented, and got a private reply"
    assert "5 replies sent" in result.stdout
    assert "unknown yet" not in result.stdout


class Demo:
    """The demo, as whoever reads its screen sees it."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def call(self, path: str, body: Any = None) -> Any:
        token, url = self.screen(r"sign in with (\w+)"), self.screen(r"dashboard +(http\S+)/")
        request = urllib.request.Request(  # noqa: S310 - http
            url + path,
            body if body is None or isinstance(body, bytes) else json.dumps(body).encode(),
            {"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request) as response:  # noqa: S310 - http
            return json.load(response)

    def screen(self, pattern: str) -> str:
        until(lambda: re.search(pattern, self._log.read_text()) is not None)
        found = re.search(pattern, self._log.read_text())
        assert found is not None
        return found[1]


def until(condition: Callable[[], bool], *, within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def demo(inboxd: Process) -> Iterator[Demo]:
    log = inboxd.folder / "demo"
    with log.open("wb") as output:
        process = subprocess.Popen([INBOXD, "demo"], env=inboxd.environment, stdout=output, stderr=output)
    try:
        yield Demo(log)
    finally:
        process.terminate()
        process.wait(20)


def test_a_reply_in_the_demo_is_answered(demo: Demo) -> None:
    path = "/api/messaging/conversations"
    until(lambda: bool(demo.call(path)["conversations"]))
    messages = f"{path}/{demo.call(path)['conversations'][0]['id']}/messages"
    reply = demo.call(messages, {"text": "Would you like one?"})

    def after() -> list[str]:
        """Who wrote after the reply."""
        said = demo.call(messages + "?limit=100")["messages"]
        texts = [one["content"] for one in said]
        return [one["senderType"] for one in said[: texts.index(reply["text"])]] if reply["text"] in texts else []

    until(lambda: "customer" in after())
    until(lambda: demo.call(f"/api/messaging/outbound/{reply['id']}")["state"] == "read")
    # A file is uploaded and reaches the customer too.
    upload = demo.call("/api/messaging/uploads", b"%PDF-1.7 " + bytes(90))
    file = demo.call(messages, {"attachments": [{"type": "file", "uploadId": upload["id"]}]})
    until(lambda: demo.call(f"/api/messaging/outbound/{file['id']}")["state"] == "read")
