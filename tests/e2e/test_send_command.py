"""`inboxd send` and `inboxd outbox`, with a real daemon and a simulated Instagram as processes of their own."""

import asyncio
import hashlib
import json
import queue
import signal
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from inboxd.meta.signature import HEADER, sign
from inboxd.runtime.clock import Clock
from inboxd.simulator.graph_server import GraphServer
from inboxd.simulator.payloads import Conversationalist, delivery
from inboxd.simulator.people import igsid, person
from inboxd.simulator.serving import serving

from tests.e2e.conftest import Process
from tests.fork_server import fork_server
from tests.support import ACCOUNT, APP_SECRET, T0

TOKEN, OTHER_TOKEN = "simulator-token", "another-token"
OTHER = "17841400000000002"
WHO = igsid(0)
PERSON = person(WHO)
assert PERSON is not None
NAME: Final = PERSON.username
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000050001"
    "a5f645400000000049454e44ae426082"
)


T = TypeVar("T")


class Shop:
    """A daemon, and the Instagram that it serves."""

    def __init__(self, inboxd: Process, url: str) -> None:
        self.inboxd = inboxd
        self.url = url

    def ask(self, path: str, body: object = None, method: str = "GET") -> Any:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_simulator/{path}", data, method=method)  # noqa: S310 - http
        with urllib.request.urlopen(request) as response:  # noqa: S310 - http
            text = response.read()
            return json.loads(text) if text else None

    def behave(self, **switches: Any) -> None:
        self.ask("behaviour", {"latency_ms": 1, **switches}, "PUT")

    def wrote(self, account_id: str = ACCOUNT, who: str = WHO, *, at: int | None = None) -> str:
        """A customer writes. Returns the id of the conversation."""
        when = Clock().now_ms() if at is None else at
        mailbox = {"account_id": account_id, "participant_id": who, "text": "hola", "created_ms": when}
        self.ask("mailbox", mailbox, "POST")
        item = Conversationalist(account_id, who, when).says("hola")
        data = json.dumps(delivery(account_id, when, [item])).encode()
        headers = {HEADER: sign(data, APP_SECRET), "Content-Type": "application/json"}
        url = f"http://127.0.0.1:{self.inboxd.public}/webhooks/instagram"
        with urllib.request.urlopen(urllib.request.Request(url, data, headers)) as response:
            assert response.status == 200
        return self.until(lambda: self.found(account_id, who))

    def found(self, account_id: str, who: str) -> str | None:
        path = f"/api/messaging/conversations?clientAccountId={account_id}&participantPlatformId={who}"
        found = self.inboxd.get(path)[1]["conversations"]
        return str(found[0]["id"]) if found and found[0]["participantUsername"] else None

    def until(self, found: Callable[[], T | None]) -> T:
        deadline = time.monotonic() + 20
        while not (value := found()):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        return value

    def stop(self) -> None:
        self.inboxd.signal(signal.SIGTERM)
        self.inboxd.wait()

    def send(self, *arguments: str, code: int = 0, stdin: bytes | None = None) -> str:
        """What `inboxd send` prints, on either stream."""
        return self.run("send", *arguments, code=code, stdin=stdin)

    def run(self, *arguments: str, code: int = 0, stdin: bytes | None = None) -> str:
        ended = fork_server().run(arguments, env=self.inboxd.environment, cwd=self.inboxd.folder, stdin=stdin or b"")
        said = ended.stdout + ended.stderr
        assert ended.returncode == code, said
        assert "Traceback" not in said
        return said

    def texts(self) -> list[str | None]:
        """What was really sent."""
        return [one.get("text") for one in self.ask("sent")["messages"]]


@contextmanager
def simulated() -> Iterator[str]:
    """A simulated Instagram with two accounts, on a thread of its own. Yields its URL."""
    url: queue.Queue[str] = queue.Queue()
    loop, end = asyncio.new_event_loop(), asyncio.Event()

    async def serve() -> None:
        async with serving(GraphServer({TOKEN: ACCOUNT, OTHER_TOKEN: OTHER}).application()) as found:
            url.put(found)
            await end.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=[serve()], daemon=True)
    thread.start()
    yield url.get(timeout=20)
    loop.call_soon_threadsafe(end.set)
    thread.join()
    loop.close()


@pytest.fixture
def shop(inboxd: Process) -> Iterator[Shop]:
    with simulated() as url:
        inboxd.environment |= {
            "INBOXD_INSTAGRAM__GRAPH_URL": url,
            "INBOXD_INSTAGRAM__TIMEOUT_S": "1",
            "INBOXD_BUDGET__CALLS_PER_SECOND": "1000",
            "INBOXD_RECONCILIATION__EVERY_MINUTES": "0",
            "INBOXD_ACCOUNTS": json.dumps([{"id": ACCOUNT}, {"id": OTHER}]),
            f"INBOXD_ACCOUNT_TOKEN_{ACCOUNT}": TOKEN,
            f"INBOXD_ACCOUNT_TOKEN_{OTHER}": OTHER_TOKEN,
        }
        found = Shop(inboxd, url)
        found.behave()
        inboxd.start()
        yield found


def test_whom_a_text_is_sent_to_may_be_said_in_several_ways(shop: Shop) -> None:
    one = shop.wrote()
    ways = (one, f"@{NAME}", NAME.upper(), WHO, f"{ACCOUNT}_{WHO}")
    for number, way in enumerate(ways):
        assert f"(conversation {one}) is sent" in shop.send("--to", way, f"text {number}")
    sent = json.loads(shop.send("--to", one, "--automation", "--json", "--", "-5 %"))
    assert (sent["state"], sent["sentBy"], sent["text"]) == ("sent", "automation", "-5 %")
    assert shop.texts() == [*(f"text {number}" for number in range(len(ways))), "-5 %"]


def test_a_text_from_standard_input_and_one_that_is_long(shop: Shop) -> None:
    one = shop.wrote()
    shop.send("--to", one, "-", stdin="\ufeffHola ñ\nsegunda\n".encode())
    assert shop.texts() == ["Hola ñ\nsegunda"]
    long = ("word " * 300).encode()
    refused = shop.send("--to", one, "-", stdin=long, code=65)
    assert "--split" in refused
    assert '"split"' not in refused
    shop.send("--to", one, "--split", "-", stdin=long)
    assert [len(text or "") > 400 for text in shop.texts()[1:]] == [True, True]
    assert "UTF-8" in shop.send("--to", one, "-", stdin=b"\xff\xfe", code=64)
    assert "20,000" in shop.send("--to", one, "-", stdin=b"x" * 90_000, code=64)


def test_the_same_key_sends_once_and_each_run_has_its_own(shop: Shop) -> None:
    one = shop.wrote()
    for _ in range(2):
        shop.send("--to", one, "--key", "order-1", "thanks")
        shop.send("--to", one, "hello")
    assert shop.texts() == ["thanks", "hello", "hello"]
    assert "another request" in shop.send("--to", one, "--key", "order-1", "other", code=65)


def test_what_meta_refuses_and_what_is_not_known_have_exit_codes(shop: Shop) -> None:
    one = shop.wrote()
    shop.behave(send_error_code=551, send_error_subcode=1545041, send_error_next=1)
    refused = shop.send("--to", one, "first", code=1)
    assert "was not sent: The participant cannot be reached" in refused
    behind = json.loads(shop.send("--to", one, "--wait", "1", "--json", "second", code=75))
    assert behind["reasonCode"] == "behind"
    assert "waits: It waits for the message before it" in shop.run("outbox", "show", behind["id"])
    assert "waits" in shop.send("--to", one, "--wait", "0", "third")
    listed = shop.run("outbox", "--state", "failed")
    assert "551" in listed
    assert "second" not in listed
    assert "is sent" in shop.run("outbox", "retry", behind["waitsFor"]) or shop.until(lambda: len(shop.texts()) == 3)
    shop.until(lambda: shop.texts() == ["first", "second", "third"])
    shop.behave(send_answer="dropped", echo="never")
    assert "may have been sent" in shop.send("--to", one, "--wait", "2", "fourth", code=2)
    (unknown,) = json.loads(shop.run("outbox", "--state", "unknown", "--json"))["outbound"]
    assert "force" in shop.run("outbox", "retry", unknown["id"], code=69)
    assert "is canceled" in shop.run("outbox", "cancel", unknown["id"])
    assert "no outbound message" in shop.run("outbox", "cancel", "99999", code=64).lower()
    assert "'inboxd outbox'" in shop.run("outbox", "show", "abc", code=64)


def test_a_picture_is_uploaded_and_attached(shop: Shop, tmp_path: Path) -> None:
    one = shop.wrote()
    picture = tmp_path / "price list.png"
    picture.write_bytes(PNG)
    assert "base_url" in shop.send("--to", one, "--file", str(picture), code=65)
    (tmp_path / "notes.txt").write_text("no picture")
    shop.stop()
    shop.inboxd.environment["INBOXD_PUBLIC__BASE_URL"] = "https://inbox.example"
    shop.inboxd.start()
    sent = json.loads(shop.send("--to", one, "--wait", "0", "--json", "--file", str(picture), "The prices"))
    assert [one["type"] for one in sent["attachments"]] == ["image"]
    assert len(sent["parts"]) == 2
    assert "png, jpeg or gif" in shop.send("--to", one, "--file", str(tmp_path / "notes.txt"), code=65)


def test_a_file_reaches_the_customer_whole_and_one_that_is_too_large_is_refused(shop: Shop, tmp_path: Path) -> None:
    one = shop.wrote()
    picture, large = tmp_path / "price list.png", tmp_path / "large.png"
    picture.write_bytes(PNG)
    large.write_bytes(PNG + bytes(9 * 1024 * 1024))
    shop.stop()
    shop.inboxd.environment |= {
        "INBOXD_PUBLIC__BASE_URL": f"http://127.0.0.1:{shop.inboxd.public}",
        "INBOXD_SENDING__AFTER_FAILURE": "continue",
    }
    shop.inboxd.start()
    for _ in range(2):  # a script that runs again
        shop.send("--to", one, "--wait", "20", "--file", str(picture), "--key", "prices", "The prices")
    (media,) = [one for message in shop.ask("sent")["messages"] for one in message["media"]]
    assert (media["type"], media["content_type"], media["bytes"]) == ("image", "image/png", len(PNG))
    assert media["sha256"] == hashlib.sha256(PNG).hexdigest()
    assert "larger" in shop.send("--to", one, "--file", str(large), code=65)
    picture.write_bytes(PNG + b"another")
    assert "another request" in shop.send("--to", one, "--file", str(picture), "--key", "prices", "The prices", code=65)
    assert len(shop.ask("sent")["messages"]) == 2


MISTAKES: Final[list[tuple[list[str], int, str]]] = [
    (["hello"], 64, "say to whom"),
    (["--to", "1", "--comment", "2", "hello"], 64, "either --to"),
    (["--to", "1"], 64, "nothing to send"),
    (["--to", "1", "  "], 64, "nothing to send"),
    (["--to", "1", "hello", "there"], 64, "put it in quotes"),
    (["--to", "1", "--file", "/nowhere.png"], 64, "does not exist"),
    (["--to", "1", "--reply-to", "aWdfZA", "hello"], 64, "a number"),
    (["--comment", "17900000000000001", "hello"], 64, "--comment needs --account"),
    (["--comment", "1", "--account", ACCOUNT, "--reply-to", "5", "hello"], 64, "leave out --reply-to"),
    (["--to", "@nobody", "hello"], 64, "no conversation with @nobody"),
    (["--to", "999", "hello"], 64, "no conversation 999"),
    (["--to", "Ana López", "hello"], 64, "@username"),
    (["--to", WHO, "--account", "1", "hello"], 65, "not served"),
    (["--to", "7000000000009999", "--account", ACCOUNT, "hello"], 65, "has not written"),
    (["--comment", "17900000000000001", "--account", ACCOUNT, "hello"], 65, "comment"),
]


def test_a_typical_mistake_is_answered_before_anything_is_sent(shop: Shop) -> None:
    shop.wrote()
    for arguments, code, words in MISTAKES:
        said = shop.send(*arguments, code=code)
        assert words in said, (arguments, said)
    assert shop.texts() == []


def test_other_mistakes(shop: Shop) -> None:
    one, other = shop.wrote(), shop.wrote(OTHER)
    both = shop.send("--to", f"@{NAME}", "hello", code=64)
    assert f"{one} (account {ACCOUNT})" in both
    assert "--account" in both
    shop.send("--to", f"@{NAME}", "--account", OTHER, "hello")
    assert shop.inboxd.get("/api/messaging/outbound")[1]["outbound"][0]["conversationId"] == other
    old = shop.wrote(who=igsid(1), at=T0)
    closed = shop.send("--to", old, "too late", code=65)
    assert "The reply window closed at" in closed
    assert "replyTo" not in shop.send("--to", one, "--reply-to", "9999", "hello", code=65)
    shop.inboxd.environment["INBOXD_ADMIN_TOKEN"] = "wrong"
    assert "token" in shop.send("--to", one, "hello", code=69)
    shop.stop()
    assert "does not answer" in shop.send("--to", one, "hello", code=69)
    assert "does not answer" in shop.run("outbox", code=69)
    assert shop.texts() == ["hello"]
