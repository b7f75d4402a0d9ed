"""What strangers may make the listeners hold: bytes of bodies, connections, time."""

import asyncio
import json
import math
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import ClassVar
from urllib.parse import urlsplit

import msgspec
import pytest
from inboxd.config.schema import Settings
from inboxd.http import connections
from inboxd.http.bodies import SHARE_BYTES, BodyBudget, NoRoomError
from inboxd.http.connections import GuardedSite
from inboxd.meta.signature import HEADER, sign
from inboxd.simulator.payloads import Conversationalist, delivery

from tests.support import ACCOUNT, ADMIN_TOKEN, ANA, APP_SECRET, T0, Client, eventually

PATH = "/webhooks/instagram"
FORGED = "sha256=" + "0" * 64
"""Has the form of a signature, and is none."""
MIB = 1024 * 1024


def head(length: int | None, *, signature: str = FORGED, path: str = PATH, more: str = "") -> bytes:
    """The head of a POST; without a length its body comes in chunks."""
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    signed = f"{HEADER}: {signature}\r\n" if signature else ""
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{signed}{size}\r\n{more}\r\n".encode()


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def large(size: int = 4 * MIB) -> bytes:
    """A delivery of exactly so many bytes."""
    text = json.dumps(delivery(ACCOUNT, T0, [Conversationalist(ACCOUNT, ANA, T0).says("hello")]))
    return (text[:-1] + " " * (size - len(text)) + "}").encode()


class Sender:
    """A connection to a listener, by the byte."""

    made: ClassVar["list[Sender]"] = []
    """All of the test under way."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.made.append(self)
        self.reader = reader
        self.writer = writer

    @classmethod
    async def to(cls, url: str) -> "Sender":
        parts = urlsplit(url)
        return cls(*await asyncio.open_connection(parts.hostname, parts.port))

    async def send(self, *pieces: bytes, pause_s: float = 0.0) -> "Sender":
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            await asyncio.sleep(pause_s)
        return self

    async def answer(self, within_s: float = 10) -> bytes:
        """The head and the body of the next answer."""
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), within_s)
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b": ")
            if name.lower() == b"content-length":
                return head + await asyncio.wait_for(self.reader.readexactly(int(value)), within_s)
        return head

    async def is_closed(self, within_s: float = 10) -> bool:
        """Whether the other side hangs up."""
        try:
            return await asyncio.wait_for(self.reader.read(), within_s) is not None
        except TimeoutError:
            return False
        except ConnectionError:
            return True


@pytest.fixture
async def client(client: Client) -> AsyncIterator[Client]:
    """Its senders hang up first: a daemon that stops gives requests that are arriving two seconds."""
    yield client
    while Sender.made:
        writer = Sender.made.pop().writer
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def counted(client: Client, name: str) -> float:
    """A sample of the metrics."""
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    async with client.session.get(client.admin_url + "/metrics", headers=headers) as response:
        for line in (await response.text()).splitlines():
            if line.startswith(name + " "):
                return float(line.split()[1])
    raise AssertionError(name)


@pytest.mark.parametrize(
    ("begin", "status"),
    [
        (head(1000, signature=""), 401),
        (head(None, signature=""), 401),
        (head(1000, signature="sha256=short"), 401),
        (head(1000, signature="sha1=" + "0" * 40), 401),
        (head(4 * MIB + 1), 413),
        (head(4 * MIB + 1, signature=""), 401),
        (head(10**15), 413),
        (head(1000, signature="", more="Expect: 100-continue\r\n"), 401),
        (head(4 * MIB + 1, more="Expect: 100-continue\r\n"), 413),
        (head(65 * 1024, path=PATH + "/deauthorize", more="Content-Type: application/x-www-form-urlencoded\r\n"), 413),
        (head(65 * 1024, path=PATH + "/data-deletion", more="Content-Type: multipart/form-data; boundary=x\r\n"), 413),
        (head(1000, path="/nothing", more="Expect: 100-continue\r\n"), 404),
    ],
)
async def test_what_the_head_rules_out_is_answered_before_the_body(client: Client, begin: bytes, status: int) -> None:
    sender = await (await Sender.to(client.public_url)).send(begin)

    answer = await sender.answer()

    assert answer.startswith(b"HTTP/1.1 %d " % status), answer
    assert b"Connection: close" in answer, "no next request can follow where a body may still come"


@pytest.mark.parametrize(
    ("begin", "status"),
    [
        (head(1000, path="/api/messaging/imports", more="Expect: 100-continue\r\n"), 401),
        (head(None, path="/api/messaging/imports"), 401),
        (head(65 * 1024, path="/sign-in", more="Content-Type: application/x-www-form-urlencoded\r\n"), 413),
        (head(None, path="/sign-in", more="Content-Type: application/x-www-form-urlencoded\r\n"), 413),
    ],
)
async def test_who_is_not_known_sends_no_body_to_the_admin_side(client: Client, begin: bytes, status: int) -> None:
    sender = await (await Sender.to(client.admin_url)).send(begin)

    assert (await sender.answer()).startswith(b"HTTP/1.1 %d " % status)


async def test_who_waits_to_be_told_to_go_on_is_told_when_the_head_is_good(client: Client) -> None:
    body = large(100_000)
    sender = await Sender.to(client.public_url)
    await sender.send(head(len(body), signature=sign(body, APP_SECRET), more="Expect: 100-continue\r\n"))

    assert (await sender.answer()).startswith(b"HTTP/1.1 100 ")
    await sender.send(body)
    assert (await sender.answer()).startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize("size", [10, SHARE_BYTES, SHARE_BYTES + 1, 4 * MIB])
@pytest.mark.parametrize("chunked", [False, True])
async def test_signed_bodies_of_any_size_and_form_are_taken(client: Client, size: int, *, chunked: bool) -> None:
    body = large(size) if size > 1000 else b"x" * size
    sender = await Sender.to(client.public_url)
    pieces = [body[at : at + 50_000] for at in range(0, len(body), 50_000)]
    if chunked:
        pieces = [chunk(piece) for piece in pieces] + [b"0\r\n\r\n"]

    await sender.send(head(None if chunked else size, signature=sign(body, APP_SECRET)), *pieces)

    assert (await sender.answer()).startswith(b"HTTP/1.1 200 ")
    await sender.send(head(3, signature=sign(b"abc", APP_SECRET)), b"abc")
    assert (await sender.answer()).startswith(b"HTTP/1.1 200 "), "the connection goes on"
    assert [one["sizeBytes"] for one in (await client.get("/api/deliveries"))["deliveries"]] == [3, size]


async def test_chunks_are_counted_as_they_arrive(client: Client) -> None:
    sender = await (await Sender.to(client.public_url)).send(head(None), *([chunk(b"x" * MIB)] * 5))

    assert (await sender.answer()).startswith(b"HTTP/1.1 413 ")


class TestCrowded:
    """A budget of one megabyte beyond the shares, and bodies of up to 256 KiB."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        public = msgspec.structs.replace(
            settings.public,
            max_connections=64,
            max_held_bytes=64 * SHARE_BYTES + 2 * MIB,
            max_body_bytes=MIB,
            request_timeout_s=30.0,
        )
        return msgspec.structs.replace(settings, public=public)

    async def hold(self, client: Client, count: int, body: bytes) -> list[Sender]:
        """So many bodies that never end."""
        return [await (await Sender.to(client.public_url)).send(head(MIB), body) for _ in range(count)]

    async def test_a_signed_body_of_full_size_is_taken_while_strangers_hold_what_they_may(self, client: Client) -> None:
        await self.hold(client, 40, b"x" * 200_000)
        body = large(MIB)

        for _ in range(3):
            assert (await client.post(body))[0] == 200
        assert (await client.post(large(2000)))[0] == 200

        assert await counted(client, 'inboxd_deliveries_total{result="no_room"}') > 0

    async def test_who_is_dropped_is_told_to_come_back(self, client: Client) -> None:
        strangers = await self.hold(client, 40, b"x" * 200_000)

        async def dropped() -> bool:
            return await counted(client, 'inboxd_deliveries_total{result="no_room"}') > 0

        await eventually(dropped)
        answers = [
            await stranger.answer()
            for stranger in strangers
            if stranger.reader._buffer  # type: ignore[attr-defined]
        ]
        assert answers
        for answer in answers:
            assert answer.startswith(b"HTTP/1.1 503 ")
            assert b"Retry-After: " in answer

    async def test_ordinary_bodies_do_not_depend_on_the_pool(self, client: Client) -> None:
        """Also when they come in pieces, and slowly."""
        await self.hold(client, 40, b"x" * 200_000)
        body = large(30_000)
        slow = await (await Sender.to(client.public_url)).send(
            head(len(body), signature=sign(body, APP_SECRET)), body[:10]
        )
        await self.hold(client, 10, b"x" * 300_000)
        await slow.send(body[10:])

        assert (await slow.answer()).startswith(b"HTTP/1.1 200 ")


class Content:
    """A body of which more comes when it is told to."""

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[bytes] = asyncio.Queue()

    async def readany(self) -> bytes:
        return await self.pieces.get()


class Bodies:
    """Bodies of a megabyte, and who ended how."""

    def __init__(self, budget: BodyBudget) -> None:
        self.budget = budget
        self.stored = asyncio.Event()
        self._contents: list[Content] = []

    async def begin(self, address: str, size: int = MIB) -> "asyncio.Task[int]":
        content = Content()
        self._contents.append(content)
        task = asyncio.create_task(self._read(address, content, size))
        task.set_name(str(len(self._contents) - 1))
        await asyncio.sleep(0.01)
        return task

    async def go_on(self, task: "asyncio.Task[int]", piece: bytes) -> None:
        self._contents[int(task.get_name())].pieces.put_nowait(piece)
        await asyncio.sleep(0.01)

    async def _read(self, address: str, content: Content, size: int) -> int:
        with self.budget.body(address, b"x" * size) as body:
            found = await body.read(content)  # type: ignore[arg-type]
            await self.stored.wait()
            return len(found)


@pytest.fixture
def bodies() -> Bodies:
    """Room for four bodies of a megabyte, two of an address."""
    return Bodies(BodyBudget(max_bytes=4 * MIB + SHARE_BYTES, max_body_bytes=2 * MIB, max_connections=1))


async def test_the_slowest_of_an_address_is_dropped_when_it_has_its_half(bodies: Bodies) -> None:
    slow = await bodies.begin("192.0.2.1", MIB // 2)
    quick = await bodies.begin("192.0.2.1")
    other = await bodies.begin("192.0.2.2", MIB // 4)

    newcomer = await bodies.begin("192.0.2.1")

    assert slow.done()
    assert isinstance(slow.exception(), NoRoomError)
    assert not any(task.done() for task in (quick, newcomer, other)), "who came from elsewhere is no rival"
    for task in (quick, newcomer, other):
        task.cancel()


async def test_senders_from_everywhere_share_what_there_is(bodies: Bodies) -> None:
    """Each has less than its half, and together they have no more than all of it."""
    tasks = [await bodies.begin(f"192.0.2.{number}") for number in range(1, 8)]
    held = sum(not task.done() for task in tasks)
    assert 3 <= held <= 4
    assert bodies.budget.pooled == held * (MIB - SHARE_BYTES) <= 4 * MIB
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


async def test_who_was_dropped_is_counted_out_once(bodies: Bodies) -> None:
    slow = await bodies.begin("192.0.2.1", MIB // 2)
    others = [await bodies.begin("192.0.2.1") for _ in range(2)]

    assert isinstance(slow.exception(), NoRoomError)
    assert bodies.budget.pooled == 2 * (MIB - SHARE_BYTES)
    for task in others:
        task.cancel()
    await asyncio.wait(others)
    assert bodies.budget.pooled == 0


async def test_what_waits_for_the_disk_is_not_dropped(bodies: Bodies) -> None:
    first, second = [await bodies.begin("192.0.2.1") for _ in range(2)]
    for task in (first, second):
        await bodies.go_on(task, b"")

    refused = await bodies.begin("192.0.2.1")

    assert isinstance(refused.exception(), NoRoomError)
    bodies.stored.set()
    assert (await first, await second) == (MIB, MIB)
    assert bodies.budget.pooled == 0
    assert not (await bodies.begin("192.0.2.1")).done(), "and their room is free again"


async def test_all_addresses_of_a_network_are_one_sender(bodies: Bodies) -> None:
    tasks = [await bodies.begin(f"2001:db8::{number}") for number in range(1, 4)]
    other = await bodies.begin("2001:db8:0:1::1")

    assert [task.done() for task in (*tasks, other)] == [True, False, False, False]
    with pytest.raises(NoRoomError):
        await tasks[0]
    for task in (*tasks[1:], other):
        task.cancel()


async def test_small_bodies_take_nothing_and_are_never_dropped(bodies: Bodies) -> None:
    small = await bodies.begin("192.0.2.1", SHARE_BYTES)
    for _ in range(5):
        await bodies.begin("192.0.2.1")

    await bodies.go_on(small, b"")
    bodies.stored.set()

    assert await small == SHARE_BYTES


async def idle(client: Client, count: int, *, asked: bool) -> list[Sender]:
    """Connections that do nothing: after a request, or from the beginning."""
    senders = []
    for _ in range(count):
        sender = await Sender.to(client.public_url)
        if asked:
            await sender.send(b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await sender.answer()).startswith(b"HTTP/1.1 404 ")
        senders.append(sender)
        await asyncio.sleep(0.002)  # the loop's clock counts milliseconds
    return senders


class Sweeps:
    """When the listeners look for slow requests, whom they cut is said here, and not by the time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._began_before = -math.inf
        self._counts = Counter[GuardedSite]()
        cut = GuardedSite._cut_slow

        def sweep(site: GuardedSite, _oldest: float) -> None:
            self._counts[site] += 1
            cut(site, self._began_before)

        monkeypatch.setattr(connections, "SWEEP_S", 0.01)
        monkeypatch.setattr(GuardedSite, "_cut_slow", sweep)

    async def cut(self, began_before: float) -> None:
        """Cut whatever still arrives and began earlier (s, of the loop's clock). It is done on return."""
        self._began_before = began_before
        await self.more()

    async def more(self) -> None:
        """Wait until both listeners have looked again."""
        before = self._counts.copy()

        async def looked() -> bool:
            return len(self._counts) == 2 and all(count > before[site] for site, count in self._counts.items())

        await eventually(looked)


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch) -> Sweeps:
    return Sweeps(monkeypatch)


class TestFull:
    """Forty connections, and all the time in the world for a request to arrive."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return msgspec.structs.replace(
            settings, public=msgspec.structs.replace(settings.public, request_timeout_s=60.0)
        )

    @pytest.mark.parametrize("asked", [True, False])
    async def test_idle_connections_go_the_longest_idle_first(self, client: Client, *, asked: bool) -> None:
        senders = await idle(client, 40, asked=asked)
        body = large(1000)

        for _ in range(5):
            sender = await Sender.to(client.public_url)
            await sender.send(head(len(body), signature=sign(body, APP_SECRET)), body)
            assert (await sender.answer()).startswith(b"HTTP/1.1 200 ")
            senders.append(sender)

        assert [await sender.is_closed() for sender in senders[:5]] == [True] * 5
        assert [await sender.is_closed(0.05) for sender in senders[5:7]] == [False] * 2
        assert await counted(client, 'inboxd_connections_refused_total{reason="made_room"}') == 5

    async def test_half_requests_make_room_after_a_moment(self, client: Client) -> None:
        senders = await idle(client, 40, asked=False)
        for sender in senders:
            await sender.send(b"POST ")
        await asyncio.sleep(1.2)

        assert (await client.post(large(1000)))[0] == 200

        assert (await senders[0].answer()).startswith(b"HTTP/1.1 408 ")


class TestHalfASecond:
    """That is what a request may take to arrive."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        public = msgspec.structs.replace(settings.public, request_timeout_s=0.5)
        return msgspec.structs.replace(settings, public=public)

    async def test_nobody_is_blamed_for_the_time_in_which_the_daemon_stood_still(self, client: Client) -> None:
        url = urlsplit(client.admin_url)
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        await asyncio.sleep(0.05)  # the connection is accepted
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        time.sleep(1.6)  # noqa: ASYNC251 - so that nothing runs: the request is here, and was not read
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.close()


async def test_bytes_that_trickle_do_not_put_the_deadline_off(client: Client) -> None:
    sender = await (await Sender.to(client.public_url)).send(head(10_000))
    with suppress(ConnectionError):
        await sender.send(*[b"x"] * 30, pause_s=0.1)
    assert await sender.is_closed(within_s=0.8), "it had a second, and three have gone by"


class TestWhoHasTimeToSend:
    """A request may take half a minute to arrive."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        public = msgspec.structs.replace(settings.public, request_timeout_s=30.0)
        return msgspec.structs.replace(settings, public=public)

    @pytest.mark.parametrize(
        ("listener", "early", "status"),
        [
            ("public", head(10, path="/nothing") + b"0123456789", 404),
            ("public", head(10, path=PATH).replace(b"POST", b"PUT") + b"0123456789", 405),
            ("public", head(10, signature="") + b"0123456789", 401),
            ("public", b"GET /webhooks/instagram HTTP/1.1\r\nHost: x\r\n\r\n", 400),
            ("public", b"GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n", 404),
            ("admin", head(10, path="/api/budget", signature="") + b"0123456789", 401),
            ("admin", b"GET /api/budget HTTP/1.1\r\nHost: x\r\n\r\n", 401),
            ("admin", head(10, path="/nothing", signature="") + b"0123456789", 401),
            ("admin", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", 200),
        ],
    )
    async def test_an_early_answer_leaves_no_deadline_and_the_next_request_has_one(
        self, sweeps: Sweeps, client: Client, listener: str, early: bytes, status: int
    ) -> None:
        sender = await Sender.to(client.public_url if listener == "public" else client.admin_url)
        await sender.send(early)
        assert (await sender.answer()).startswith(b"HTTP/1.1 %d " % status)
        await sweeps.cut(asyncio.get_running_loop().time() + 0.005)  # it counts milliseconds
        await sender.send(b"GET /nothing HTTP/1.1\r\n")
        await sweeps.more()
        await sender.send(b"Host: x\r\n\r\n")
        assert (await sender.answer()).startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 401 "))

        await sender.send(b"GET / HTTP/1.1\r\nX: ", b"x")
        await sweeps.cut(math.inf)
        assert b"HTTP/1.1 408 " in await asyncio.wait_for(sender.reader.read(), 10), "and each has its own"

    async def test_what_nobody_wants_has_less_of_it(self, client: Client) -> None:
        sender = await (await Sender.to(client.public_url)).send(head(10_000, path="/nothing", signature=""))
        assert (await sender.answer()).startswith(b"HTTP/1.1 404 ")
        assert await sender.is_closed(within_s=15)

    async def test_a_body_that_is_not_read_is_not_collected(self, client: Client) -> None:
        """Behind a request that is still being answered: the sender has to wait, not our memory."""
        stream = f"GET /api/events/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\r\n".encode()
        sender = await (await Sender.to(client.admin_url)).send(stream, head(200 * MIB, path="/sign-in", signature=""))
        sender.writer.transport.set_write_buffer_limits(0)
        sent = 0

        async def send_all() -> None:
            nonlocal sent
            while sent < 100 * MIB:
                await asyncio.wait_for(sender.send(b"x" * 65_536), 1)
                sent += 65_536

        with pytest.raises(TimeoutError):
            await send_all()
        assert sent < 20 * MIB, "what the kernel's own buffers take"


@pytest.mark.parametrize("path", ["/nothing", PATH])
async def test_a_body_that_trickles_after_its_answer_is_cut_off(client: Client, path: str) -> None:
    sender = await (await Sender.to(client.public_url)).send(head(10_000, path=path, signature=""))
    assert (await sender.answer()).startswith((b"HTTP/1.1 404 ", b"HTTP/1.1 401 "))

    with suppress(ConnectionError):
        await sender.send(*[b"x"] * 50, pause_s=0.1)
    assert await sender.is_closed()
