"""Event streams, as clients leave them: places are free at once, and nothing is told twice or missed."""

import asyncio
import json
import socket
import sqlite3
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
import aiohttp_sse
import pytest
from aiohttp import web
from inboxd import app
from inboxd.config.schema import Settings
from inboxd.config.secrets import Secrets
from inboxd.domain.event import EventType, NewEvent
from inboxd.events import streams
from inboxd.events.log import EventLog, EventReader
from inboxd.events.streams import MAX_STREAMS, EventStreams
from inboxd.http.connections import GuardedSite, bind
from inboxd.http.operations import OPERATIONS, add_operations
from inboxd.http.problems import problem_middleware
from inboxd.http.resource import Resource
from inboxd.runtime.clock import Clock
from inboxd.simulator.graph_server import Behaviour, GraphServer
from inboxd.simulator.payloads import Conversationalist
from inboxd.storage.database import Database

from tests.support import ACCOUNT, ADMIN_TOKEN, ANA, OWN_PAGE, T0, Client, eventually

STREAM = "/api/events/stream"


async def listen(client: Client, path: str = STREAM, more: str = "") -> tuple[asyncio.StreamReader, Any, bytes]:
    """Open a stream over a socket of its own; the head of the answer."""
    url = urlsplit(client.admin_url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n{more}\r\n".encode())
    return reader, writer, await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)


async def fill(client: Client, path: str = STREAM) -> list[Any]:
    """Take every place there is."""
    writers = []
    for _ in range(MAX_STREAMS):
        _, writer, head = await listen(client, path)
        assert head.startswith(b"HTTP/1.1 200 "), head
        writers.append(writer)
    _, writer, head = await listen(client, path)
    assert head.startswith(b"HTTP/1.1 503 "), head
    await close(writer)
    return writers


def hang_up(writer: Any, how: str) -> None:
    if how == "half":
        writer.write_eof()
    elif how == "reset":
        writer.transport.abort()
    else:
        writer.close()


async def close(*writers: Any) -> None:
    for writer in writers:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


async def is_free(client: Client, path: str) -> bool:
    _, writer, head = await listen(client, path)
    await close(writer)
    return head.startswith(b"HTTP/1.1 200 ")


async def paused_run(client: Client) -> str:
    """A backfill run of which nothing more will be told; where its events are."""
    conversation = {
        "clientAccountId": ACCOUNT,
        "platformConversationId": f"{ACCOUNT}_{ANA}",
        "participantPlatformId": ANA,
    }
    await client.send("POST", "/api/messaging/conversations", conversation, status=201)
    run = await client.send("POST", "/api/workers/backfill-profiles", {"accountId": ACCOUNT}, status=202)
    await client.send("POST", run["links"]["pause"])
    return str(run["links"]["events"])


@pytest.mark.parametrize("how", ["close", "reset", "half"])
@pytest.mark.parametrize("whose", ["everything", "run"])
async def test_whoever_hangs_up_frees_a_place_at_once(
    client: Client, graph: tuple[GraphServer, str], how: str, whose: str
) -> None:
    graph[0].behaviour = Behaviour(latency_ms=60_000)  # nothing happens that would wake the streams
    path = STREAM if whose == "everything" else await paused_run(client)
    for _ in range(3):
        writers = await fill(client, path)
        for writer in writers:
            hang_up(writer, how)
        await eventually(lambda: is_free(client, path))
        await close(*writers)


async def test_what_happens_during_the_catch_up_is_told_once(
    client: Client, graph: tuple[GraphServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first missed event is being sent, more happens: it is both missed and heard."""
    graph[0].behaviour = Behaviour(latency_ms=60_000)
    who = Conversationalist(ACCOUNT, ANA, T0)
    reader, writer, _ = await listen(client)
    await client.deliver(who.says("first"))
    ((_, first, _),) = await events(reader, 1)
    await close(writer)
    await client.deliver(who.says("missed"))
    await client.settled()

    before = aiohttp_sse.sse_response
    reached = asyncio.Event()

    @asynccontextmanager
    async def slowly(*arguments: Any, **options: Any) -> AsyncIterator[Any]:
        """Let more happen after the client was counted among those who listen."""
        await client.deliver(who.says("meanwhile"))
        await client.settled()
        reached.set()
        async with before(*arguments, **options) as response:
            yield response

    monkeypatch.setattr(streams, "sse_response", slowly)
    reader, writer, _ = await listen(client, more=f"Last-Event-ID: {first}\r\n")
    await asyncio.wait_for(reached.wait(), 10)
    await client.deliver(who.says("last"))
    ids: list[int] = []
    while len(ids) < 3:
        line = (await asyncio.wait_for(reader.readline(), 10)).decode().strip()
        if line.startswith("id: "):
            ids.append(int(line.removeprefix("id: ")))
    await close(writer)
    assert len(set(ids)) == 3, "each of the three is told once"
    assert ids == sorted(ids)


async def test_a_run_that_ends_while_its_stream_begins_is_told_as_ended(
    client: Client, graph: tuple[GraphServer, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    events = await paused_run(client)
    run = events.removesuffix("/events")
    before = streams.EventStreams.serve

    async def late(self: Any, *arguments: Any, **options: Any) -> Any:
        await client.send("POST", f"{run}/cancel")
        return await before(self, *arguments, **options)

    monkeypatch.setattr(streams.EventStreams, "serve", late)
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    async with client.session.get(client.admin_url + events, headers=headers) as response:
        text = (await asyncio.wait_for(response.read(), 10)).decode()
    (told,) = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    assert told["status"] == "cancelled"


class Stalled(NamedTuple):
    """The streams alone, and somebody who opens them and reads nothing of what is told."""

    database: Database
    event_log: EventLog
    url: str
    server: web.Server
    readers: list[socket.socket]

    async def open(self) -> None:
        url = urlsplit(self.url)
        sock = socket.socket()
        self.readers.append(sock)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, (url.hostname, url.port))
        await loop.sock_sendall(sock, f"GET {STREAM} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        head = await asyncio.wait_for(loop.sock_recv(sock, 12), 10)
        assert head == b"HTTP/1.1 200", head

    async def tell(self, number: int) -> None:
        """Record an event of 64 KiB, in a commit of its own."""
        event = NewEvent(THING.name, ACCOUNT, T0 + number, b'{"text":"%s"}' % (b"x" * 65_536))
        await self.database.write(lambda connection: self.event_log.append(connection, [event]))

    async def is_free(self) -> bool:
        async with aiohttp.ClientSession() as session, session.get(self.url + STREAM) as response:
            return response.status == 200

    async def fill(self) -> None:
        for _ in range(MAX_STREAMS):
            await self.open()
        assert not await self.is_free()


class Thing(Resource, frozen=True):
    """Data of an event."""

    text: str


THING = EventType(name="thing.happened", summary="Something happened.", data=Thing, example=Thing(text="x"))


@pytest.fixture
async def stalled(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Stalled]:
    monkeypatch.setattr(streams, "SEND_TIMEOUT_S", 0.3)
    clock = Clock()
    log = EventLog(clock, ids_only=lambda: False)
    database = Database(tmp_path / "inboxd.sqlite3", on_commit=lambda _jobs, _took: log.committed(database.changes))
    await database.__aenter__()
    app = web.Application(middlewares=[problem_middleware])
    app[OPERATIONS] = []
    add_operations(app, EventStreams(EventReader(database, [THING]), log, clock).operations())
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = GuardedSite(
        runner,
        bind("127.0.0.1", 0, key="admin"),
        max_connections=64,
        request_timeout_s=5,
        on_refused=pytest.fail,
    )
    await site.start()
    assert runner.server is not None
    found = Stalled(database, log, site.name, runner.server, [])
    yield found
    for sock in found.readers:
        sock.close()
    log.close()
    await runner.cleanup()
    await database.close()


async def test_sixteen_streams_may_be_open_and_the_next_is_told_to_wait(client: Client) -> None:
    answers = [await listen(client) for _ in range(17)]
    await close(*(writer for _, writer, _ in answers))
    heads = [head.decode() for _, _, head in answers]
    assert [head.split(" ", 2)[1] for head in heads] == ["200"] * 16 + ["503"]
    assert "Retry-After: 5" in heads[-1]


async def test_who_reads_nothing_loses_the_place_and_the_connection(stalled: Stalled) -> None:
    await stalled.fill()
    for number in range(100):
        await stalled.tell(number)
    await eventually(stalled.is_free)

    async def hung_up() -> bool:
        return not stalled.server.connections

    await eventually(hung_up)


async def test_a_connection_that_breaks_while_it_is_written_to_is_no_defect(
    stalled: Stalled, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(streams, "SEND_TIMEOUT_S", 30)
    await stalled.fill()
    for number in range(100):
        await stalled.tell(number)
    await asyncio.sleep(0.2)  # until it is written what the kernel does not take
    for reader in stalled.readers:
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        reader.close()
    await eventually(stalled.is_free)
    told = capfd.readouterr()
    assert "request_failed" not in told.out + told.err


async def test_a_stream_ends_when_the_daemon_stops(settings: Settings, secrets: Secrets, tmp_path: Path) -> None:
    """In order, with the last chunk: it is not cut off when the time for requests in flight is over."""
    database = tmp_path / "inboxd.sqlite3"
    async with (
        app.run_daemon(settings, secrets, database, on_give_up=pytest.fail) as daemon,
        aiohttp.ClientSession() as session,
    ):
        client = Client(session, daemon.public_url, daemon.admin_url, database)
        reader, writer, _ = await listen(client)
    assert (await asyncio.wait_for(reader.read(), 10)).endswith(b"0\r\n\r\n")
    await close(writer)


@asynccontextmanager
async def daemon(settings: Settings, secrets: Secrets, path: Path) -> AsyncIterator[Client]:
    async with (
        app.run_daemon(settings, secrets, path, on_give_up=pytest.fail) as running,
        aiohttp.ClientSession() as session,
    ):
        yield Client(session, running.public_url, running.admin_url, path)


async def events(reader: asyncio.StreamReader, number: int) -> list[tuple[str, str, Any]]:
    """The next events of a stream: name, id and data of each."""
    found: list[tuple[str, str, Any]] = []
    one: dict[str, str] = {}
    while len(found) < number:
        line = (await asyncio.wait_for(reader.readline(), 20)).decode().strip()
        name, _, value = line.partition(": ")
        if name in {"event", "id", "data"}:
            one[name] = value
        elif not line and one.get("event") == "begin":
            assert json.loads(one["data"]) == {"cursor": one["id"]}
            one = {}
        elif not line and one:
            found.append((one["event"], one.get("id", ""), json.loads(one["data"])))
            one = {}
    return found


async def test_a_stream_goes_on_where_it_was_after_a_restart(
    settings: Settings, secrets: Secrets, tmp_path: Path, graph: tuple[GraphServer, str]
) -> None:
    graph[0].behaviour = Behaviour(latency_ms=60_000)
    path, who = tmp_path / "inboxd.sqlite3", Conversationalist(ACCOUNT, ANA, T0)
    async with daemon(settings, secrets, path) as client:
        reader, writer, _ = await listen(client)
        await client.deliver(who.says("one"), who.says("two"))
        (_, first, _), (_, second, _) = await events(reader, 2)
        await close(writer)
    async with daemon(settings, secrets, path) as client:
        await client.deliver(who.says("three"))
        reader, writer, _ = await listen(client, more=f"Last-Event-ID: {second}\r\n")
        told = await events(reader, 2)
        await close(writer)
        assert [one["data"]["message"]["content"] for _, _, one in told] == ["two", "three"]
        assert [int(first), int(second), *(int(id_) for _, id_, _ in told)] == [2, 3, 4, 5]


async def test_a_client_that_is_cut_off_before_the_first_event_knows_where_to_go_on(
    client: Client, graph: tuple[GraphServer, str]
) -> None:
    """Browsers come back with the last id that they were sent: that of the place where the stream began."""
    graph[0].behaviour = Behaviour(latency_ms=60_000)
    reader, writer, _ = await listen(client)
    line = ""
    while not line.startswith("id: "):
        line = (await asyncio.wait_for(reader.readline(), 10)).decode().strip()
    await close(writer)
    await client.deliver(Conversationalist(ACCOUNT, ANA, T0).says("meanwhile"))
    await client.settled()
    reader, writer, _ = await listen(client, more=f"Last-Event-ID: {line.removeprefix('id: ')}\r\n")
    assert [name for name, _, _ in await events(reader, 2)] == ["conversation.created", "message.received"]
    await close(writer)


@pytest.mark.long
async def test_nothing_is_told_twice_or_missed_under_load(client: Client, graph: tuple[GraphServer, str]) -> None:
    """Streams that begin while events are recorded, each somewhere in the past."""
    graph[0].behaviour = Behaviour(latency_ms=60_000)
    people = [Conversationalist(ACCOUNT, str(7_000_000_000_000_000 + number), T0) for number in range(20)]
    last, stop = 1 + 20 * (1 + 30), asyncio.Event()

    async def follow(after: int) -> list[int]:
        reader, writer, _ = await listen(client, more=f"Last-Event-ID: {after}\r\n")
        ids = [int(id_) for _, id_, _ in await events(reader, last - after)]
        await close(writer)
        return ids

    async def send() -> None:
        for number in range(30):
            for who in people:
                await client.deliver(who.says(str(number)))
        stop.set()

    sending = asyncio.ensure_future(send())
    following: list[tuple[int, asyncio.Future[list[int]]]] = []
    while not stop.is_set() and len(following) < 10:
        known = (await client.get("/api/events?after=latest"))["nextCursor"]
        places = {0, int(known) // 2, int(known)}
        following += [(after, asyncio.ensure_future(follow(after))) for after in places]
        await asyncio.sleep(0.1)
    await sending
    for after, told in following:
        assert await asyncio.wait_for(told, 60) == list(range(after + 1, last + 1))


async def test_a_gap_is_told_when_events_are_no_longer_kept(
    settings: Settings, secrets: Secrets, tmp_path: Path, graph: tuple[GraphServer, str]
) -> None:
    graph[0].behaviour = Behaviour(latency_ms=60_000)
    path, who = tmp_path / "inboxd.sqlite3", Conversationalist(ACCOUNT, ANA, T0)
    async with daemon(settings, secrets, path) as client:
        await client.deliver(who.says("old"))
        await client.settled()
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("DELETE FROM events")
        file.execute("UPDATE event_log SET pruned_to = 3")
    async with daemon(settings, secrets, path) as client:
        reader, writer, _ = await listen(client, more="Last-Event-ID: 1\r\n")
        ((name, id_, data),) = await events(reader, 1)
        assert (name, id_, data) == ("gap", "3", {"oldestCursor": "3"}), "a gap is told once"
        await client.deliver(who.says("new"))
        ((name, id_, data),) = await events(reader, 1)
        assert (name, id_, data["data"]["message"]["content"]) == ("message.received", "4", "new")
        await close(writer)


async def test_an_id_beyond_the_end_of_the_log_is_told_as_a_gap_and_what_happens_is_told(
    client: Client, graph: tuple[GraphServer, str]
) -> None:
    """A file was copied into place without `inboxd restore`: the log ends before what the client has read."""
    graph[0].behaviour = Behaviour(latency_ms=60_000)
    await client.deliver(Conversationalist(ACCOUNT, ANA, T0).says("kept"))
    await client.settled()
    reader, writer, _ = await listen(client, more="Last-Event-ID: 4711\r\n")
    told = await events(reader, 4)
    await close(writer)
    assert (told[0][0], told[0][2]) == ("gap", {"oldestCursor": "0"})
    assert [name for name, _, _ in told[1:]] == ["account.updated", "conversation.created", "message.received"]


async def test_dashboards_and_programs_do_not_take_each_others_places(client: Client) -> None:
    """The browser has a session; programs have a token."""
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
        form = {"token": ADMIN_TOKEN}
        async with browser.post(client.admin_url + "/sign-in", data=form, headers=OWN_PAGE) as response:
            assert response.status == 200
        programs = await fill(client)
        pages = [await browser.get(client.admin_url + STREAM) for _ in range(MAX_STREAMS)]
        assert {page.status for page in pages} == {200}
        assert (await browser.get(client.admin_url + STREAM)).status == 503
        await close(programs.pop())
        await eventually(lambda: is_free(client, STREAM))
        for page in pages:
            page.close()
        await close(*programs)


async def test_streams_are_chosen_by_type(client: Client, graph: tuple[GraphServer, str]) -> None:
    graph[0].behaviour = Behaviour(latency_ms=60_000)
    who = Conversationalist(ACCOUNT, ANA, T0)
    reader, writer, _ = await listen(client, f"{STREAM}?types=message.reaction_added,conversation.*")
    said = who.says("hi")
    await client.deliver(said, who.reacts(said))
    assert [name for name, _, _ in await events(reader, 2)] == ["conversation.created", "message.reaction_added"]
    await close(writer)
    await client.get(f"{STREAM}?types=message.recieved", status=400)
