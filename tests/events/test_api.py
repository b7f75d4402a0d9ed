"""`GET /api/events`: reading the log page by page, and waiting for what comes next."""

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import pytest
from inboxd import app
from inboxd.config.schema import Settings
from inboxd.config.secrets import Secrets
from inboxd.events import store
from inboxd.events.api import MAX_WAITING
from inboxd.events.log import EventLog
from inboxd.simulator.graph_server import Behaviour, GraphServer
from inboxd.simulator.payloads import Conversationalist

from tests.support import ACCOUNT, ADMIN_TOKEN, ANA, BRUNO, T0, Client, Json, eventually

EVENTS = "/api/events"


@pytest.fixture(autouse=True)
def silent_meta(graph: tuple[GraphServer, str]) -> None:
    """Nothing but what the tests do is recorded: no profile arrives."""
    graph[0].behaviour = Behaviour(latency_ms=60_000)


Waits = Callable[[int], Callable[[], Awaitable[bool]]]


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> Waits:
    """Whether so many requests wait for events. Nothing that a client sees tells that a request waits already."""
    logs: list[EventLog] = []
    before = EventLog.__init__

    def noted(self: EventLog, *arguments: Any, **options: Any) -> None:
        before(self, *arguments, **options)
        logs.append(self)

    def waits(number: int) -> Callable[[], Awaitable[bool]]:
        async def check() -> bool:
            return len(logs[-1]._readers) == number

        return check

    monkeypatch.setattr(EventLog, "__init__", noted)
    return waits


@asynccontextmanager
async def daemon(settings: Settings, secrets: Secrets, path: Path) -> AsyncIterator[Client]:
    async with (
        app.run_daemon(settings, secrets, path, on_give_up=pytest.fail) as running,
        aiohttp.ClientSession() as session,
    ):
        yield Client(session, running.public_url, running.admin_url, path)


@pytest.fixture
def ana() -> Conversationalist:
    return Conversationalist(ACCOUNT, ANA, T0)


async def types(client: Client, query: str = "") -> list[str]:
    """The types of what the tests make happen: the daemon records its accounts at its first start."""
    found = [event["type"] for event in (await client.get(EVENTS + query))["events"]]
    return [kind for kind in found if kind != "account.updated"]


async def end(client: Client) -> str:
    await client.settled()
    cursor: str = (await client.get(EVENTS + "?after=latest"))["nextCursor"]
    return cursor


async def texts(client: Client, query: str = "") -> list[str]:
    found = (await client.get(EVENTS + query))["events"]
    return [event["data"]["message"]["content"] for event in found if event["type"] == "message.received"]


async def test_everything_that_is_kept_is_read_from_the_beginning(client: Client, ana: Conversationalist) -> None:
    (added,) = (await client.get(EVENTS))["events"]
    assert added["type"] == "account.updated"
    await client.deliver(ana.says("one"), ana.says("two"))
    await client.settled()
    page = await client.get(EVENTS)
    assert [event["type"] for event in page["events"]] == [
        "account.updated",
        "conversation.created",
        "message.received",
        "message.received",
    ]
    assert (page["nextCursor"], page["hasMore"]) == ("4", False)
    assert await client.get(f"{EVENTS}?after=4") == {"events": [], "nextCursor": "4", "hasMore": False}


async def test_pages_follow_each_other(client: Client, ana: Conversationalist) -> None:
    await client.deliver(*(ana.says(str(number)) for number in range(10)))
    await client.settled()
    found: list[Json] = []
    cursor, more = "0", True
    while more:
        page = await client.get(f"{EVENTS}?after={cursor}&limit=4")
        found += page["events"]
        cursor, more = page["nextCursor"], page["hasMore"]
    assert found == (await client.get(EVENTS))["events"]
    assert len({event["id"] for event in found}) == 12


async def test_latest_begins_now(client: Client, ana: Conversationalist) -> None:
    await client.deliver(ana.says("before"))
    cursor = await end(client)
    assert (await client.get(f"{EVENTS}?after=latest"))["events"] == []
    await client.deliver(ana.says("after"))
    await client.settled()
    assert await texts(client, f"?after={cursor}") == ["after"]


async def test_events_are_chosen_by_type_account_and_conversation(client: Client, ana: Conversationalist) -> None:
    said = ana.says("hi")
    bruno = Conversationalist(ACCOUNT, BRUNO, T0)
    await client.deliver(said, ana.reacts(said), bruno.says("hello"))
    await client.settled()
    assert await types(client, "?types=message.reaction_added") == ["message.reaction_added"]
    assert await types(client, "?types=conversation.*,message.reaction_added") == [
        "conversation.created",
        "conversation.created",
        "message.reaction_added",
    ]
    assert len(await types(client, "?types=*")) == 5
    assert len(await types(client, f"?accountId={ACCOUNT}")) == 5
    assert await types(client, "?accountId=17841400000000002") == []
    assert len(await types(client, f"?accountId=17841400000000002,{ACCOUNT}")) == 5
    (conversation,) = [one for one in await client.conversations() if one["participantPlatformId"] == BRUNO]
    assert await texts(client, f"?conversationId={conversation['id']}") == ["hello"]
    assert await types(client, f"?conversationId={conversation['id']}&types=message.reaction_added") == []


async def test_a_filter_that_leaves_nothing_of_a_stretch_goes_on_behind_it(
    client: Client, ana: Conversationalist, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "SCAN", 5)
    said = ana.says("hi")
    await client.deliver(said, *(ana.says(str(number)) for number in range(20)), ana.reacts(said))
    await client.settled()
    cursor, more, found, empty = "0", True, [], 0
    while more:
        page = await client.get(f"{EVENTS}?after={cursor}&types=message.reaction_added")
        assert int(page["nextCursor"]) > int(cursor)
        cursor, more = page["nextCursor"], page["hasMore"]
        found += page["events"]
        empty += not page["events"]
    assert len(found) == 1
    assert empty >= 4
    waited = await client.get(f"{EVENTS}?after=0&types=message.reaction_added&wait=20&limit=1")
    assert waited["hasMore"], "a page with more behind it is no reason to wait"


async def test_what_arrives_meanwhile_ends_the_wait(client: Client, ana: Conversationalist, waits: Waits) -> None:
    waiting = asyncio.ensure_future(client.get(f"{EVENTS}?after=0&wait=60&types=message.*"))
    await eventually(waits(1))
    await client.deliver(ana.says("at last"))
    page = await asyncio.wait_for(waiting, 20)
    assert [event["data"]["message"]["content"] for event in page["events"]] == ["at last"]
    assert await texts(client, f"?after={page['nextCursor']}") == []


async def test_what_is_not_wanted_does_not_end_the_wait(client: Client, ana: Conversationalist, waits: Waits) -> None:
    waiting = asyncio.ensure_future(client.get(f"{EVENTS}?after=0&wait=60&types=message.reaction_added"))
    await eventually(waits(1))
    said = ana.says("hi")
    await client.deliver(said)
    await client.settled()
    assert not waiting.done()
    await client.deliver(ana.reacts(said))
    page = await asyncio.wait_for(waiting, 20)
    assert [event["type"] for event in page["events"]] == ["message.reaction_added"]


async def test_a_wait_in_which_nothing_happens_ends_with_an_empty_page(
    client: Client, ana: Conversationalist, waits: Waits
) -> None:
    await client.deliver(ana.says("hi"))
    cursor = await end(client)
    page = await client.get(f"{EVENTS}?after={cursor}&wait=1")
    assert page == {"events": [], "nextCursor": cursor, "hasMore": False}
    assert await waits(0)()


async def test_cursors_that_were_pruned_or_never_given_are_gone(client: Client, ana: Conversationalist) -> None:
    await client.deliver(ana.says("hi"))
    await client.settled()
    beyond = await client.get(f"{EVENTS}?after=999", status=410)
    assert (beyond["status"], beyond["oldestCursor"]) == (410, "0")
    assert "another database" in beyond["detail"]


async def test_a_client_that_was_away_for_too_long_is_told_where_to_go_on(
    settings: Settings, secrets: Secrets, tmp_path: Path, ana: Conversationalist, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "inboxd.sqlite3"
    async with daemon(settings, secrets, path) as client:
        await client.deliver(ana.says("old"))
        await client.settled()
    with closing(sqlite3.connect(path)) as file, file:
        file.execute("DELETE FROM events")
        file.execute("UPDATE event_log SET pruned_to = 3")
    async with daemon(settings, secrets, path) as client:
        for query in ("after=0", "after=1", "after=1&wait=30"):
            assert (await client.get(f"{EVENTS}?{query}", status=410))["oldestCursor"] == "3"
        await client.deliver(ana.says("new"))
        await client.settled()
        assert await texts(client, "?after=3") == ["new"]


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("types=message.recieved", "message.recieved"),
        ("types=", "'types' is empty"),
        ("accountId=shop", "GET /api/accounts"),
        ("after=evt_01a22dbc28c000000000000003", "`nextCursor` of an earlier answer"),
        ("conversationId=x", "a string of digits"),
        ("types=message.received,nothing.*", "nothing.*"),
        ("types=message.recieved", "message.received"),
        ("types=,", "'types' is empty"),
        ("accountId=%20", "'accountId' is empty"),
        ("after=-1", "after"),
        ("after=x", "after"),
        ("after=1234567890123456789", "after"),
        ("limit=0", "limit"),
        ("limit=501", "limit"),
        ("wait=61", "wait"),
        ("conversationId=x", "conversationId"),
        ("type=message.received", "types"),
    ],
)
async def test_bad_questions_are_told_what_is_wrong(client: Client, query: str, told: str) -> None:
    problem = await client.get(f"{EVENTS}?{query}", status=400)
    assert told in problem["detail"]


async def ask(client: Client, query: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    url = urlsplit(client.admin_url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(f"GET {EVENTS}?{query} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\r\n".encode())
    return reader, writer


@pytest.mark.parametrize("how", ["close", "reset", "half"])
async def test_whoever_hangs_up_during_the_wait_frees_the_place_at_once(client: Client, how: str, waits: Waits) -> None:
    for _ in range(2):
        asked = [await ask(client, "after=latest&wait=60") for _ in range(MAX_WAITING)]
        await eventually(waits(MAX_WAITING))
        refused = await client.get(f"{EVENTS}?after=latest&wait=60", status=503)
        assert str(MAX_WAITING) in refused["detail"]
        assert (await client.get(f"{EVENTS}?after=latest"))["events"] == [], "who does not wait needs no place"
        for _, writer in asked:
            if how == "half":
                writer.write_eof()
            elif how == "reset":
                writer.transport.abort()
            else:
                writer.close()
        await eventually(waits(0))
        for _, writer in asked:
            writer.close()


async def test_waiting_requests_are_answered_when_the_daemon_stops(
    settings: Settings, secrets: Secrets, tmp_path: Path, waits: Waits
) -> None:
    """Not cut off: each gets the page that it would have got at the end of its time."""
    async with daemon(settings, secrets, tmp_path / "inboxd.sqlite3") as client:
        asked = [await ask(client, "after=latest&wait=60") for _ in range(5)]
        await eventually(waits(5))
    for reader, writer in asked:
        answer = await asyncio.wait_for(reader.read(), 20)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert json.loads(answer.partition(b"\r\n\r\n")[2]) == {"events": [], "nextCursor": "1", "hasMore": False}
        writer.close()
