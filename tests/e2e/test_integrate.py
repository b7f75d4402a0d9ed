"""docs/integrate.md as it stands: its receivers and its commands, with a real daemon and a simulated Instagram."""

import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from inboxd.meta.signature import HEADER, sign
from inboxd.simulator.payloads import Conversationalist, Item, delivery
from inboxd.simulator.people import igsid, person
from standardwebhooks import Webhook

from tests.e2e.conftest import Process, free_port, simulator
from tests.support import ACCOUNT, ADMIN_TOKEN, APP_SECRET

TEXT: Final = (Path(__file__).parents[2] / "docs" / "integrate.md").read_text(encoding="utf-8")
BLOCK: Final = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
BLOCKS: Final = BLOCK.findall(TEXT)
BASH: Final = shutil.which("bash") or "bash"
NODE: Final = shutil.which("node")
WAIT_S: Final = 30
CUSTOMERS: Final = itertools.count(1)
RECEIVERS: Final = {"python": ([sys.executable], "receiver.py"), "js": ([NODE or "node"], "receiver.mjs")}
LANGUAGES: Final = [
    "python",
    pytest.param(
        "js",
        marks=pytest.mark.skipif(NODE is None and "CI" not in os.environ, reason="node is not installed"),
    ),
]


def code(language: str, part: str = "webhook") -> str:
    """The only block of a language that has `part`: the receiver, unless it says otherwise."""
    (found,) = (block for name, block in BLOCKS if name == language and part in block)
    return str(found)


def command(part: str) -> str:
    """The only shell block that has `part`."""
    (found,) = (block for name, block in BLOCKS if name == "sh" and part in block)
    return str(found)


def until(condition: Callable[[], Any]) -> Any:
    deadline = time.monotonic() + WAIT_S
    while not (found := condition()):
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
    return found


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A daemon that serves an account of a simulated Instagram. All tests share it: each has a customer of its own."""
    daemon = Process(tmp_path_factory.mktemp("daemon"))
    with simulator() as url:
        daemon.environment |= {"INBOXD_INSTAGRAM__GRAPH_URL": url, "INBOXD_BUDGET__CALLS_PER_SECOND": "100"}
        (daemon.folder / "token").write_text("simulator-token\n")
        daemon.start()
        try:
            added = daemon.run("account", "add", "--token-file", "token", "--name", "shop")
            assert added.returncode == 0, added.stderr
            yield daemon
            daemon.signal(signal.SIGTERM)
            assert daemon.wait() == 0
            daemon.logged()
        finally:
            if daemon.process is not None:
                daemon.process.kill()
                daemon.process.wait()


class Reader:
    """Somebody who follows the document: a shell with its variables, and a receiver on a port."""

    def __init__(self, daemon: Process, folder: Path) -> None:
        self.daemon = daemon
        self.folder = folder
        self.port = free_port()
        self.variables = {"INBOXD": f"http://127.0.0.1:{daemon.admin}", "TOKEN": ADMIN_TOKEN}
        self.printed = folder / "printed"
        self.customer_id = igsid(next(CUSTOMERS))
        self.customer = Conversationalist(ACCOUNT, self.customer_id, int(time.time() * 1000))

    def shell(self, part: str) -> str:
        return command(part).replace("127.0.0.1:9000", f"127.0.0.1:{self.port}")

    @property
    def environment(self) -> dict[str, str]:
        variables = {"PATH": os.environ["PATH"], "PORT": str(self.port), "PYTHONUNBUFFERED": "1"}
        return variables | self.variables

    def run(self, part: str) -> Any:
        """Run a shell block; its answer."""
        ended = subprocess.run(
            [BASH, "-euc", self.shell(part)],
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return json.loads(ended.stdout)

    @contextmanager
    def receiver(self, language: str) -> Iterator[None]:
        """The receiver of the document, as a process, with what it prints."""
        arguments, name = RECEIVERS[language]
        path = self.folder / name
        path.write_text(code(language), encoding="utf-8")
        with self.printed.open("wb") as output:
            process = subprocess.Popen(
                [*arguments, str(path)], env=self.environment, stdout=output, stderr=subprocess.STDOUT
            )
            try:
                until(lambda: self.post(b"{}", {}) is not None)
                yield
                assert process.poll() is None, self.printed.read_text()
            finally:
                process.kill()
                process.wait()

    @contextmanager
    def bot(self) -> Iterator[None]:
        """The bot of the document, as a process, with what it prints."""
        path = self.folder / "bot.py"
        path.write_text(code("python", "listening"), encoding="utf-8")
        with self.printed.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, str(path)], env=self.environment, stdout=output, stderr=subprocess.STDOUT
            )
            try:
                self.sees("listening")
                yield
                assert process.poll() is None, self.printed.read_text()
            finally:
                process.kill()
                process.wait()

    @contextmanager
    def moderator(self) -> Iterator[None]:
        """The moderator of the document, as a process, with what it prints."""
        path = self.folder / "moderator.mjs"
        path.write_text(code("js", "listening"), encoding="utf-8")
        with self.printed.open("wb") as output:
            environment = self.environment | {"CURSOR": str(self.folder / "cursor")}
            process = subprocess.Popen([NODE or "node", str(path)], env=environment, stdout=output, stderr=output)
            try:
                yield
                assert process.poll() is None, self.printed.read_text()
            finally:
                process.kill()
                process.wait()

    def opens_the_window(self) -> None:
        """The simulated Instagram knows that the customer has written, and takes answers."""
        wanted = {"account_id": ACCOUNT, "participant_id": self.customer_id, "text": "hello"}
        self.instagram("mailbox", {**wanted, "created_ms": int(time.time() * 1000)})

    def comments(self, text: str) -> str:
        """The customer comments on a post of the account, and a webhook tells of it. Returns Meta's id."""
        written = self.instagram("comments", {"account_id": ACCOUNT, "from_id": self.customer_id, "text": text})
        author, media = {"id": self.customer_id, "username": "ana"}, {"id": written["media_id"]}
        value = {"id": written["id"], "from": author, "media": media, "text": text}
        change = {"field": "comments", "value": value}
        self.posts({"object": "instagram", "entry": [{"id": ACCOUNT, "time": int(time.time()), "changes": [change]}]})
        return str(written["id"])

    def replies_in_public(self, comment_id: str) -> None:
        """Somebody answers a comment, by Meta's id."""

        def number() -> str | None:
            found = self.daemon.get("/api/comments")[1]["threads"]
            return next((one["id"] for one in found if one["comment"]["platformCommentId"] == comment_id), None)

        url = f"http://127.0.0.1:{self.daemon.admin}/api/comments/{until(number)}/replies"
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        request = urllib.request.Request(url, data=b'{"text": "20"}', headers=headers)
        with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310 - http
            assert response.status == 202

    def instagram(self, what: str, body: Any = None) -> Any:
        """A request to the simulated Instagram; its answer."""
        url = f"{self.daemon.environment['INBOXD_INSTAGRAM__GRAPH_URL']}/_simulator/{what}"
        request = urllib.request.Request(url, data=None if body is None else json.dumps(body).encode())  # noqa: S310
        with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310 - http
            assert response.status < 300
            return json.load(response)

    def answers(self) -> list[str]:
        """The texts of all that is in the outbox for the customer."""
        found = self.daemon.get("/api/messaging/outbound?limit=200")[1]["outbound"]
        return [one["text"] for one in found if one["participantPlatformId"] == self.customer_id]

    def post(self, body: bytes, headers: dict[str, str]) -> int | None:
        """POST to the receiver; the status, None when it does not listen."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/", data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310 - http
                return int(response.status)
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    def customer_writes(self, text: str) -> None:
        """A message comes in over the public listener."""
        self.delivers(self.customer.says(text))

    def conversations(self) -> list[Any]:
        """The customer's."""
        path = f"/api/messaging/conversations?participantPlatformId={self.customer_id}"
        return list(self.daemon.get(path)[1]["conversations"])

    def delivers(self, item: Item) -> None:
        """Meta sends an item."""
        self.posts(delivery(ACCOUNT, int(time.time() * 1000), [item]))

    def posts(self, payload: Any) -> None:
        """Meta sends a webhook."""
        body = json.dumps(payload).encode()
        url = f"http://127.0.0.1:{self.daemon.public}/webhooks/instagram"
        request = urllib.request.Request(url, data=body, headers={HEADER: sign(body, APP_SECRET)})
        with urllib.request.urlopen(request, timeout=5) as response:  # noqa: S310 - http
            assert response.status == 200

    def sees(self, text: str) -> None:
        until(lambda: text in self.printed.read_text(encoding="utf-8"))


@pytest.fixture
def reader(daemon: Process, tmp_path: Path) -> Reader:
    """Somebody who has come to step 3."""
    reader = Reader(daemon, tmp_path)
    created = reader.run('/api/webhook-endpoints"')
    assert "secret" in created, created
    reader.variables |= {"SECRET": created["secret"], "ENDPOINT": created["id"]}
    return reader


@pytest.mark.parametrize("language", ["python", "js"])
def test_the_receivers_are_short(language: str) -> None:
    assert len(code(language).splitlines()) < 40


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_receiver_prints_who_wrote_what(reader: Reader, language: str) -> None:
    customer = person(reader.customer_id)
    assert customer is not None
    name = customer.username
    with reader.receiver(language):
        reader.customer_writes("Do you ship to Norway?")
        reader.sees(f"{reader.customer_id}: Do you ship to Norway?")
        reader.sees(f"@{name}")
        reader.customer_writes("Anyone there?")
        reader.sees(f"@{name}: Anyone there?")


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_receiver_refuses_what_is_not_signed_for_it(reader: Reader, language: str) -> None:
    body = json.dumps({"id": "evt_1", "type": "message.received", "data": {"message": {"content": "forged"}}}).encode()

    def headers(secret: str, *, at: datetime, says: bytes = body) -> dict[str, str]:
        return {
            "webhook-id": "evt_1",
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": Webhook(secret).sign("evt_1", at, says.decode()),
        }

    secret, other, now = reader.variables["SECRET"], "whsec_" + "QUJD" * 8, datetime.now(UTC)
    with reader.receiver(language):
        assert reader.post(body, {}) == 401
        assert reader.post(body, headers(other, at=now)) == 401
        assert reader.post(body, headers(secret, at=now - timedelta(minutes=6))) == 401
        assert reader.post(body, headers(secret, at=now + timedelta(minutes=6))) == 401
        assert reader.post(body, headers(secret, at=now, says=b"{}")) == 401
        for odd in ("v1,", "v1", "", "v1,QUJD", "v2,QUJD v1,%%%"):
            assert reader.post(body, headers(secret, at=now) | {"webhook-signature": odd}) == 401, odd
        assert reader.post(b"\xff", headers(secret, at=now)) == 401
        assert "forged" not in reader.printed.read_text()
        both = f"{Webhook(other).sign('evt_1', now, body.decode())} {headers(secret, at=now)['webhook-signature']}"
        assert reader.post(body, headers(secret, at=now) | {"webhook-signature": both}) == 204
        assert reader.post(body, headers(secret, at=now)) == 204
        assert reader.printed.read_text().count("forged") == 1, "an event that comes twice is handled once"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_sample_reaches_a_receiver(reader: Reader, language: str) -> None:
    with reader.receiver(language):
        outcome = reader.run('/test"')
        assert (outcome["delivered"], outcome["status"]) == (True, 204), outcome


def test_events_are_pulled_and_waited_for(reader: Reader) -> None:
    reader.customer_writes("first")

    def page() -> Any:
        found = reader.run("limit=100")
        texts = [one["data"]["message"]["content"] for one in found["events"]]
        return found if "first" in texts else None

    reader.variables["CURSOR"] = until(page)["nextCursor"]
    reader.customer_writes("second")
    (event,) = reader.run("wait=30")["events"]
    assert event["data"]["message"]["content"] == "second"


def test_events_are_streamed(reader: Reader) -> None:
    command = [BASH, "-euc", "exec " + reader.shell("/stream?")]
    with reader.printed.open("wb") as output, subprocess.Popen(command, env=reader.environment, stdout=output) as curl:

        def streamed() -> list[str]:
            reader.customer_writes("live")  # the stream begins at some time, and says nothing before it has something
            lines = reader.printed.read_text(encoding="utf-8").splitlines()
            return [line for line in lines if line.startswith("data: ") and "live" in line]

        try:
            event = json.loads(until(streamed)[0].removeprefix("data: "))
        finally:
            curl.kill()
    assert event["type"] == "message.received"


def test_the_bot_answers_each_message_once_and_hears_what_became_of_it(daemon: Process, tmp_path: Path) -> None:
    reader = Reader(daemon, tmp_path)
    reader.opens_the_window()
    with reader.bot():
        reader.customer_writes("Do you ship to Norway?")
        reader.sees("outbound.sent Thank you for “Do you ship to Norway?”. We answer soon.")
        reader.replies_in_public(reader.comments("How much is it?"))
        reader.sees("outbound.sent None")  # of a public reply, which is nothing to the bot
        reader.customer_writes("Anyone there?")
        until(lambda: len(reader.answers()) == 2)
    assert len(code("python", "listening").splitlines()) < 50


def test_the_bot_is_silent_when_a_human_answered(daemon: Process, tmp_path: Path) -> None:
    reader = Reader(daemon, tmp_path)
    reader.opens_the_window()
    with reader.bot():
        reader.customer_writes("Do you ship to Norway?")
        reader.sees("outbound.sent")
        reader.delivers(reader.customer.answers("We do!"))
        until(lambda: any(one["automationPausedUntil"] for one in reader.conversations()))
        reader.customer_writes("Great")
        reader.sees("silent")
    assert len(reader.answers()) == 1


@pytest.mark.skipif(NODE is None and "CI" not in os.environ, reason="node is not installed")
def test_the_moderator_does_nothing_twice_however_often_it_reads_the_same(daemon: Process, tmp_path: Path) -> None:
    reader = Reader(daemon, tmp_path)
    kept = tmp_path / "cursor"
    kept.write_text(daemon.get("/api/events?after=latest")[1]["nextCursor"])
    beginning = kept.read_text()
    price, spam = reader.comments("How much is it?"), reader.comments("Get FREE followers!")
    for _ in range(2):
        with reader.moderator():
            reader.sees("How much is it? [ 202, 202 ]")
            reader.sees("Get FREE followers! [ 200 ]")
            reader.sees("outbound.sent comment_reply Thank you, @ana! The price is in your messages.")
            reader.sees("outbound.sent private_reply It is 20 €.")
            until(lambda: kept.read_text() != beginning)
        kept.write_text(beginning)
    found = {one["id"]: one for one in reader.instagram("comments")["comments"]}
    assert [found[spam]["hidden"], found[price]["hidden"]] == [True, False]
    assert [one["text"] for one in found.values() if one["parent_id"] in {price, spam}] == [
        "Thank you, @ana! The price is in your messages."
    ]
    assert [one["text"] for one in reader.instagram("sent")["messages"]].count("It is 20 €.") == 1
