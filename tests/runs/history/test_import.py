"""History imports over the admin API: a real daemon, a simulated Instagram with a mailbox and its quirks."""

import asyncio
import json
import sqlite3
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from aiohttp import web
from inboxd import app
from inboxd.config.schema import AccountSettings, ReconciliationSettings, Settings
from inboxd.config.secrets import Secrets
from inboxd.conversations.read_back import Sides, read_conversation
from inboxd.conversations.read_back_store import ReadConversation
from inboxd.domain.retry import RetryPolicy
from inboxd.runtime.backoff import Backoff
from inboxd.simulator.errors import graph_error
from inboxd.simulator.graph_server import Behaviour, GraphServer, Token
from inboxd.simulator.mailbox import NewMessage
from inboxd.simulator.payloads import Conversationalist, mid_of
from inboxd.simulator.people import igsid

from tests.support import ACCOUNT, ADMIN_TOKEN, ANA, OWN_PAGE, T0, TOKEN, Client, Json, eventually

PATH = "/api/workers/import-history"
PAGE = "100200300400500"
DAY_MS = 86_400_000
Simulated = tuple[GraphServer, str]
QUIET = Behaviour(latency_ms=1, conversation_calls_per_s=0, visible_after_s=0)


@pytest.fixture(autouse=True)
def nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two calls a second are too few for tests; the pace has tests of its own."""
    monkeypatch.setattr("inboxd.meta.account_graph.CONVERSATION_CALLS", 1000)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """No calls but those of imports."""
    return msgspec.structs.replace(settings, reconciliation=ReconciliationSettings(every_minutes=0))


@pytest.fixture
def server(graph: Simulated) -> GraphServer:
    graph[0].behaviour = QUIET
    return graph[0]


def fill(server: GraphServer, people: int, messages: int, *, since: int = T0 - 400 * DAY_MS) -> None:
    """So many conversations of so many messages; one in three is the account's."""
    for who in range(people):
        for number in range(messages):
            server.mailbox.add(
                NewMessage(
                    account_id=ACCOUNT,
                    participant_id=igsid(who),
                    text=f"message {number} of {who}",
                    outbound=number % 3 == 2,
                    created_ms=since + who * DAY_MS + number * 60_000,
                )
            )


def behave(server: GraphServer, **more: Any) -> None:
    server.behaviour = msgspec.structs.replace(server.behaviour, **more)


async def start(client: Client, status: int = 202, **more: Any) -> Json:
    found: Json = await client.send("POST", PATH, {"accountId": ACCOUNT, **more}, status=status)
    return found


async def look(client: Client, run: Json) -> Json:
    return await client.get(run["links"]["self"])


async def finished(client: Client, run: Json) -> Json:
    async def done() -> bool:
        return (await look(client, run))["status"] in {"completed", "failed", "cancelled"}

    await eventually(done, within_s=60)
    return await look(client, run)


async def everything(client: Client) -> dict[str, list[Json]]:
    """The messages of every conversation, by participant, oldest first."""
    return {
        one["participantPlatformId"]: await client.messages(one) for one in await client.conversations("?limit=200")
    }


def reads(server: GraphServer) -> list[str]:
    """The calls of the Conversations API: `list`, or the id of the conversation whose messages were read."""
    found = []
    for call in server.calls:
        path = call.partition("?")[0].removeprefix("GET ").strip("/").split("/")
        if path[-1] == "conversations":
            found.append("list")
        elif path[-1] == "messages":
            found.append(path[-2])
    return found


def people_asked(server: GraphServer) -> int:
    """Calls for profiles."""
    people = {igsid(number) for number in range(50)}
    return sum(call.rpartition("/")[2] in people for call in server.calls)


async def test_a_mailbox_is_imported_as_it_is(client: Client, server: GraphServer) -> None:
    fill(server, 5, 4)
    run = await start(client)
    assert (run["status"], run["accountId"], run["emitEvents"]) == ("queued", ACCOUNT, False)
    done = await finished(client, run)
    assert (done["status"], done["success"], done["total"], done["successCount"]) == ("completed", True, 5, 5)
    assert (done["messagesAdded"], done["messagesKnown"], done["messagesUnavailable"]) == (20, 0, 0)
    found = await everything(client)
    truth = server.mailbox.truth(ACCOUNT)
    assert {one["platformMessageId"] for several in found.values() for one in several} == {one.id for one in truth}
    by_id = {one["platformMessageId"]: one for several in found.values() for one in several}
    for one in truth:
        shown = by_id[one.id]
        assert (shown["content"], shown["senderType"]) == (one.text, "user" if one.outbound else "customer")
        assert shown["source"] == "history"
    for conversation in await client.conversations():
        assert conversation["unreadCount"] == 0
        assert conversation["participantUsername"], "the list names them"
    assert people_asked(server) == 0, "nobody's profile was fetched"
    assert all(one["profileState"] == "complete" for one in (await client.get("/api/participants"))["participants"])


async def test_with_all_of_metas_oddities_each_message_is_there_once(client: Client, server: GraphServer) -> None:
    fill(server, 4, 28)
    picture = {"type": "image", "payload": {"url": "https://cdn.example/a.jpg"}}
    server.mailbox.add(
        NewMessage(account_id=ACCOUNT, participant_id=igsid(0), attachments=(picture,), created_ms=T0 - DAY_MS)
    )
    behave(
        server, unordered=True, empty_pages=True, conversation_error_rate=0.1, most_listed=7, own_id="app_scoped",
        old_details="error", unix_times=True, unknown_message_fields=("story",),
    )  # fmt: skip
    done = await finished(client, await start(client))
    assert (done["status"], done["successCount"], done["errorCount"]) == ("completed", 4, 0), done
    assert (done["messagesAdded"], done["messagesUnavailable"]) == (4 * 20, 4 * 8 + 1)
    found = await everything(client)
    truth = server.mailbox.truth(ACCOUNT)
    ids = Counter(one["platformMessageId"] for several in found.values() for one in several)
    assert ids == Counter(one.id for one in truth)
    readable = [one for several in found.values() for one in several if one["content"]]
    assert {one["platformMessageId"]: one["content"] for one in readable}.items() <= {
        one.id: one.text for one in truth
    }.items()
    assert [one["senderType"] for one in found[igsid(1)]][-4:] == ["customer", "customer", "user", "customer"]
    assert {one["unreadCount"] for one in await client.conversations()} == {0}


@pytest.fixture
async def facebook(settings: Settings, secrets: Secrets, server: GraphServer, tmp_path: Path) -> AsyncIterator[Client]:
    """A daemon whose account has Facebook Login, and a Page."""
    server.tokens[TOKEN] = Token(ACCOUNT, PAGE)
    account = AccountSettings(id=ACCOUNT, name="shop", login_type="facebook", page_id=PAGE)
    settings = msgspec.structs.replace(settings, accounts=(account,))
    path = tmp_path / "facebook.sqlite3"
    async with (
        app.run_daemon(settings, secrets, path, on_give_up=pytest.fail) as daemon,
        aiohttp.ClientSession() as session,
    ):
        yield Client(session, daemon.public_url, daemon.admin_url, path)


async def test_with_facebook_login_attachments_come_too(facebook: Client, server: GraphServer) -> None:
    behave(server, own_id="page")
    for kind in ("image", "video", "audio", "file", "share"):
        url = f"https://cdn.example/{kind}"
        attachment = {"type": kind, "payload": {"url": url}}
        new = NewMessage(
            account_id=ACCOUNT, participant_id=igsid(0), attachments=(attachment,), outbound=kind == "video"
        )
        server.mailbox.add(new)
    server.mailbox.react(server.mailbox.truth(ACCOUNT)[0].id, igsid(0), "❤️")
    done = await finished(facebook, await start(facebook))
    assert (done["success"], done["messagesAdded"]) == (True, 5)
    (messages,) = (await everything(facebook)).values()
    assert {one["messageType"]: one["mediaUrl"] for one in messages} == {
        kind: f"https://cdn.example/{kind}" for kind in ("image", "video", "audio", "file", "share")
    }
    assert Counter(one["senderType"] for one in messages) == {"customer": 4, "user": 1}
    assert [one["by"] for message in messages for one in message["reactions"]] == [igsid(0)]


async def test_what_webhooks_should_have_brought_is_left_to_reconciliation(client: Client, server: GraphServer) -> None:
    fill(server, 2, 2)
    server.mailbox.add(NewMessage(account_id=ACCOUNT, participant_id=igsid(0), text="missed", created_ms=T0))
    server.mailbox.add(NewMessage(account_id=ACCOUNT, participant_id=igsid(7), text="first", created_ms=T0))
    with closing(sqlite3.connect(client.database, timeout=10)) as connection:
        values = (ACCOUNT, T0 - DAY_MS, T0 - DAY_MS, 2**52)
        sql = "INSERT OR REPLACE INTO reconciled_accounts (account_id, since, checked_to, checked_at, next_check_at)"
        connection.execute(f"{sql} VALUES (?, ?, ?, {2**51}, ?)", values)
        connection.commit()
    done = await finished(client, await start(client))
    assert (done["status"], done["successCount"], done["messagesAdded"]) == ("completed", 3, 4)
    found = await everything(client)
    assert set(found) == {igsid(0), igsid(1)}
    assert "missed" not in {one["content"] for one in found[igsid(0)]}, "it would be silent, and not unread"
    with closing(sqlite3.connect(client.database, timeout=10)) as connection:  # reconciliation is switched off
        connection.execute("UPDATE reconciled_accounts SET checked_at = 1")
        connection.commit()
    assert (await finished(client, await start(client)))["messagesAdded"] == 2


async def test_what_webhooks_brought_stays_as_it_is_and_is_counted(client: Client, server: GraphServer) -> None:
    ana = Conversationalist(ACCOUNT, igsid(0), T0)
    said, sent = ana.says("hello"), ana.sends("image")
    server.mailbox.apply({"entry": [{"id": ACCOUNT, "messaging": [said, sent, ana.says("missed")]}]})
    await client.deliver(said, sent)
    await client.settled()
    done = await finished(client, await start(client))
    assert (done["messagesAdded"], done["messagesKnown"]) == (1, 2)
    ((_, messages),) = (await everything(client)).items()
    assert [(one["messageType"], one["source"]) for one in messages] == [
        ("text", "webhook"), ("image", "webhook"), ("text", "history"),
    ]  # fmt: skip
    assert messages[1]["platformMessageId"] == mid_of(sent)
    (conversation,) = await client.conversations()
    assert conversation["unreadCount"] == 2, "those of webhooks"


@pytest.mark.parametrize("emit", [False, True])
async def test_events_are_told_only_when_asked(client: Client, server: GraphServer, *, emit: bool) -> None:
    fill(server, 2, 3)
    await finished(client, await start(client, emitEvents=emit))
    events = (await client.get("/api/events?limit=200"))["events"]
    kinds = Counter(one["type"] for one in events if one["type"].startswith(("message.", "conversation.")))
    wanted = {"conversation.created": 2, "message.received": 4, "message.sent": 2} if emit else {}
    assert kinds == Counter(wanted)
    told = [one for one in events if one["type"].startswith("message.") and one["data"]["participantPlatformId"] == ANA]
    assert [one["data"]["message"]["content"] for one in told] == [
        f"message {number} of 1" for number in range(3 * emit)
    ]
    runs = [one for one in events if one["type"].startswith("run.")]
    assert {one["data"]["kind"] for one in runs} == {"history"}
    assert (runs[-1]["type"], runs[-1]["data"]["successCount"]) == ("run.completed", 2)


async def test_an_import_has_limits(client: Client, server: GraphServer) -> None:
    fill(server, 6, 2)
    since = "2025-08-20T00:00:00Z"
    total = sum(one.created_ms >= 1_755_648_000_000 for one in server.mailbox.truth(ACCOUNT))
    assert 0 < total < 12
    counted = await finished(client, await start(client, since=since, dryRun=True))
    assert (counted["total"], counted["success"], counted["messagesAdded"]) == (total / 2, None, 0)
    assert await client.conversations() == []
    done = await finished(client, await start(client, since=since))
    assert (done["messagesAdded"], done["since"]) == (total, "2025-08-20T00:00:00.000Z")
    first = await finished(client, await start(client, maxConversations=4))
    assert (first["totalProcessed"], first["total"]) == (4, 4)
    rest = await finished(client, await start(client))
    assert len(await client.conversations()) == 6
    assert (rest["totalProcessed"], rest["messagesAdded"]) == (6, 12 - total - first["messagesAdded"])


async def test_an_import_takes_of_a_conversation_only_what_is_wanted(client: Client, server: GraphServer) -> None:
    for text, at in (("before", "2025-08-19T23:59:59Z"), ("after", "2025-08-20T00:00:00Z")):
        created_ms = int(datetime.fromisoformat(at).timestamp() * 1000)
        server.mailbox.add(NewMessage(account_id=ACCOUNT, participant_id=igsid(0), text=text, created_ms=created_ms))
    done = await finished(client, await start(client, since="2025-08-20T00:00:00Z"))
    assert done["messagesAdded"] == 1
    assert [one["content"] for one in (await everything(client))[igsid(0)]] == ["after"]


async def test_what_was_imported_is_not_read_again(client: Client, server: GraphServer) -> None:
    fill(server, 5, 2)
    await finished(client, await start(client))
    server.calls.clear()
    server.mailbox.add(NewMessage(account_id=ACCOUNT, participant_id=igsid(3), text="new", created_ms=T0))
    done = await finished(client, await start(client))
    assert (done["successCount"], done["messagesAdded"], done["messagesKnown"]) == (5, 1, 2)
    assert Counter(reads(server))["list"] == 2, "and once more to see that nothing moved"
    assert len(reads(server)) == 3


async def test_what_is_done_is_never_more_than_what_was_found(client: Client, server: GraphServer) -> None:
    fill(server, 5, 2)
    await finished(client, await start(client))
    for who in (1, 3):
        server.mailbox.add(NewMessage(account_id=ACCOUNT, participant_id=igsid(who), text="more"))
    server.behaviour = msgspec.structs.replace(QUIET, latency_ms=500)
    run = await start(client)

    async def passed_over() -> bool:
        return int((await look(client, run))["successCount"]) >= 3

    await eventually(passed_over)
    seen = await look(client, run)
    assert (seen["status"], seen["total"]) == ("running", 5)
    assert (await finished(client, run))["successCount"] == 5


async def test_an_import_is_paused_resumed_and_cancelled(client: Client, server: GraphServer) -> None:
    fill(server, 12, 1)
    behave(server, latency_ms=60)
    run = await start(client)

    async def under_way() -> bool:
        return bool((await look(client, run))["totalProcessed"] >= 2)

    await eventually(under_way)
    assert (await start(client, 409))["detail"].count(run["jobId"]) == 2
    paused = await client.send("POST", run["links"]["pause"])
    assert paused["status"] == "paused"
    await asyncio.sleep(0.3)
    calls = len(server.calls)
    await asyncio.sleep(0.3)
    assert len(server.calls) == calls, "a paused import makes no calls"
    done_before = (await look(client, run))["totalProcessed"]
    behave(server, latency_ms=1)
    await client.send("POST", run["links"]["resume"])
    done = await finished(client, run)
    assert (done["status"], done["successCount"], done["messagesAdded"]) == ("completed", 12, 12)
    assert done_before < 12
    per_conversation = Counter(one for one in reads(server) if one != "list")
    assert sum(per_conversation.values()) <= 13, "only the one that was being read is read again"

    behave(server, latency_ms=200)
    fill(server, 12, 2)
    second = await start(client)
    await client.send("POST", second["links"]["cancel"])
    assert (await finished(client, second))["status"] == "cancelled"
    await client.send("POST", second["links"]["resume"], status=409)


async def test_a_conversation_that_cannot_be_read_costs_the_others_nothing(
    client: Client, server: GraphServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(server, 3, 1)
    broken = server.mailbox.conversation_with(ACCOUNT, igsid(1)).id
    edge = server.conversations.edge

    def failing(request: Any, caller: Any, node: str) -> Any:
        return graph_error(500, 2, "Service temporarily unavailable") if node == broken else edge(request, caller, node)

    monkeypatch.setattr(server.conversations, "edge", failing)
    done = await finished(client, await start(client))
    assert (done["status"], done["success"], done["successCount"], done["errorCount"]) == ("completed", False, 2, 1)
    (problem,) = done["errors"]
    assert (problem["participantPlatformId"], problem["code"], problem["attempts"]) == (igsid(1), 2, 4)
    assert reads(server).count(broken) == 4, "and not again in the same import"
    monkeypatch.undo()
    again = await finished(client, await start(client))
    assert (again["success"], again["messagesAdded"]) == (True, 1), "it was not done"


async def test_a_dead_token_is_waited_for_and_said(client: Client, server: GraphServer) -> None:
    fill(server, 2, 1)
    behave(server, token_expired=True)
    run = await start(client)

    async def waits() -> bool:
        return bool((await look(client, run))["status"] == "paused")

    await eventually(waits)
    assert (await look(client, run))["reason"]
    behave(server, token_expired=False)
    await client.send("POST", "/api/accounts", {"token": TOKEN, "loginType": "instagram"}, status=201)
    assert (await finished(client, run))["successCount"] == 2


async def test_a_refusal_of_the_owner_is_waited_for(client: Client, server: GraphServer) -> None:
    fill(server, 2, 1)
    behave(server, tools_off=True)
    run = await start(client)

    async def waits() -> bool:
        return bool((await look(client, run))["status"] == "waiting-for-budget")

    await eventually(waits)
    assert "the owner switched off message access" in (await look(client, run))["reason"]
    calls = len(reads(server))
    assert calls <= 2
    await asyncio.sleep(0.3)
    assert len(reads(server)) == calls, "it is not asked again and again"
    await client.send("POST", run["links"]["cancel"])


async def test_who_was_erased_does_not_come_back(client: Client, server: GraphServer) -> None:
    fill(server, 2, 2)
    await finished(client, await start(client))
    await client.send("DELETE", f"/api/participants/{ACCOUNT}/{igsid(0)}")
    for since in (None, "2020-01-01"):
        assert (await finished(client, await start(client, since=since)))["status"] == "completed"
        assert [one["participantPlatformId"] for one in await client.conversations()] == [igsid(1)]
    soon = int(time.time() * 1000) + 2000
    server.mailbox.add(NewMessage(account_id=ACCOUNT, participant_id=igsid(0), text="me again", created_ms=soon))
    await finished(client, await start(client))
    assert [one["content"] for one in (await everything(client))[igsid(0)]] == ["me again"]


async def test_who_was_erased_before_the_first_import_does_not_come_with_it(
    client: Client, server: GraphServer
) -> None:
    fill(server, 2, 2)
    await client.deliver(Conversationalist(ACCOUNT, igsid(0), T0).says("hello"))
    await client.settled()
    await client.send("DELETE", f"/api/participants/{ACCOUNT}/{igsid(0)}")
    done = await finished(client, await start(client))
    assert (done["status"], done["successCount"], done["messagesAdded"]) == ("completed", 2, 2)
    assert [one["participantPlatformId"] for one in await client.conversations()] == [igsid(1)]
    with closing(sqlite3.connect(client.database)) as connection:
        for table in ("imported_conversations", "run_items"):
            rows = connection.execute(f"SELECT participant_id FROM {table}").fetchall()
            assert (igsid(0),) not in rows


async def test_who_is_erased_while_an_import_reads_them_stays_erased(client: Client, server: GraphServer) -> None:
    fill(server, 2, 2)
    await client.deliver(Conversationalist(ACCOUNT, igsid(0), T0).says("hello"))
    await client.settled()
    behave(server, latency_ms=2000)
    run = await start(client)
    node = server.mailbox.conversation_with(ACCOUNT, igsid(0)).id

    async def is_read() -> bool:
        return node in reads(server)

    await eventually(is_read)
    await client.send("DELETE", f"/api/participants/{ACCOUNT}/{igsid(0)}")
    behave(server, latency_ms=1)
    assert (await finished(client, run))["successCount"] == 2
    assert [one["participantPlatformId"] for one in await client.conversations()] == [igsid(1)]


@pytest.mark.parametrize("cursors", [["A", "B"], [f"c{number}" for number in range(5000)]], ids=["circle", "endless"])
async def test_a_list_without_an_end_ends_the_import(client: Client, server: GraphServer, cursors: list[str]) -> None:
    fill(server, 3, 2)
    listed = server.conversations.listed

    def endless(request: Any, caller: Any) -> Any:
        after = request.query.get("after")
        found = listed(request.clone(rel_url=request.rel_url.without_query_params("after")), caller)
        cursor = cursors[(cursors.index(after) + 1) % len(cursors)] if after else cursors[0]
        paging = {"cursors": {"after": cursor}, "next": "https://graph.example/next"}
        return web.json_response({**json.loads(str(found.text)), "paging": paging})

    server.conversations.listed = endless  # type: ignore[method-assign]
    done = await finished(client, await start(client))
    assert (done["status"], done["successCount"]) == ("failed", 3)
    assert "goes on" in done["reason"]
    assert reads(server).count("list") < 40


async def test_messages_without_an_end_are_read_once(client: Client, server: GraphServer) -> None:
    fill(server, 2, 2)
    edge = server.conversations.edge

    def endless(request: Any, caller: Any, node: str) -> Any:
        after = request.query.get("after")
        found = edge(request.clone(rel_url=request.rel_url.without_query_params("after")), caller, node)
        paging = {"cursors": {"after": "B" if after == "A" else "A"}, "next": "https://graph.example/next"}
        return web.json_response({**json.loads(str(found.text)), "paging": paging})

    server.conversations.edge = endless  # type: ignore[method-assign]
    done = await finished(client, await start(client))
    assert (done["status"], done["messagesAdded"]) == ("completed", 4)
    assert len(reads(server)) < 12


async def test_a_cursor_that_has_ended_costs_a_walk_from_the_top(
    client: Client, server: GraphServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inboxd.runs.history.mailbox.CONVERSATIONS", 2)
    monkeypatch.setattr("inboxd.runs.history.mailbox.LIST", RetryPolicy(2, Backoff(base_s=0.01), 0, 0))
    fill(server, 6, 1)
    listed, ended = server.conversations.listed, 0

    def forgetful(request: Any, caller: Any) -> Any:
        nonlocal ended
        if "after" in request.query and len(set(reads(server))) >= 5 and ended < 2:
            ended += 1
            return graph_error(400, 100, "Invalid cursors values")
        return listed(request, caller)

    server.conversations.listed = forgetful  # type: ignore[method-assign]
    done = await finished(client, await start(client))
    assert ended == 2
    assert (done["status"], done["successCount"], done["total"]) == ("completed", 6, 6)
    assert max(Counter(one for one in reads(server) if one != "list").values()) == 1


async def test_a_conversation_for_which_meta_breaks_down_costs_the_others_nothing(
    client: Client, server: GraphServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inboxd.runs.history.mailbox.HOST_BACKOFF", Backoff(base_s=0.01))
    monkeypatch.setattr("inboxd.meta.throttle.FIRST_REST_S", 0.01)
    fill(server, 4, 1)
    node, edge = server.mailbox.conversation_with(ACCOUNT, igsid(2)).id, server.conversations.edge

    def breaks_down(request: Any, caller: Any, of: str) -> Any:
        return web.Response(status=502, text="<html>Sorry</html>") if of == node else edge(request, caller, of)

    server.conversations.edge = breaks_down  # type: ignore[assignment, method-assign]
    done = await finished(client, await start(client))
    assert (done["status"], done["successCount"], done["errorCount"]) == ("completed", 3, 1)


async def test_a_conversation_that_cannot_be_stored_costs_the_others_nothing(
    client: Client, server: GraphServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def store(sides: Sides, *arguments: Any, **more: Any) -> ReadConversation:
        if sides.key.participant_id == igsid(1):
            msg = "something that nobody thought of"
            raise ValueError(msg)
        return read_conversation(sides, *arguments, **more)

    monkeypatch.setattr("inboxd.runs.history.worker.read_conversation", store)
    fill(server, 3, 1)
    done = await finished(client, await start(client))
    assert (done["status"], done["successCount"], done["errorCount"]) == ("completed", 2, 1)


async def test_a_conversation_that_moves_up_meanwhile_is_found(
    client: Client, server: GraphServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("inboxd.runs.history.mailbox.CONVERSATIONS", 2)
    fill(server, 6, 1)
    edge = server.conversations.edge
    moved: list[str] = []

    def edge_that_moves(request: Any, caller: Any, node: str) -> Any:
        if not moved:  # the oldest one, which is on the last page, becomes the first
            new = NewMessage(account_id=ACCOUNT, participant_id=igsid(0), text="new", created_ms=T0)
            moved.append(server.mailbox.add(new))
        return edge(request, caller, node)

    monkeypatch.setattr(server.conversations, "edge", edge_that_moves)
    done = await finished(client, await start(client))
    assert (done["status"], done["successCount"], done["messagesAdded"]) == ("completed", 6, 7)


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({"accountId": "1"}, 404, "No account 1 is served"),
        ({"accountId": ACCOUNT, "since": "yesterday"}, 422, "ISO 8601"),
        ({"accountId": ACCOUNT, "since": "2099-01-01"}, 422, "in the past"),
        ({"accountId": ACCOUNT, "maxConversations": 0}, 422, "maxConversations"),
        ({"accountId": ACCOUNT, "unknown": 1}, 422, "unknown"),
    ],
)
async def test_bad_requests_say_what_is_wrong(client: Client, body: Json, status: int, said: str) -> None:
    problem = await client.send("POST", PATH, body, status=status)
    assert said in problem["detail"]


async def test_both_kinds_run_at_the_same_time_and_know_their_own(client: Client, server: GraphServer) -> None:
    fill(server, 2, 1)
    run = await finished(client, await start(client))
    await client.get(f"/api/workers/backfill-profiles/{run['jobId']}", status=404)
    assert (await client.get("/api/workers/backfill-profiles"))["total"] == 0
    assert (await client.get(f"{PATH}?status=completed"))["total"] == 1
    backfill = await client.send("POST", "/api/workers/backfill-profiles", {"accountId": ACCOUNT}, status=202)
    assert backfill["total"] == 2, "who was imported has a name, and no profile yet"
    await client.get(f"{PATH}/{backfill['jobId']}", status=404)


async def test_the_pages_show_and_start_imports(client: Client, server: GraphServer) -> None:
    fill(server, 2, 1)
    jar = aiohttp.CookieJar(unsafe=True)  # cookies of addresses that are numbers
    async with aiohttp.ClientSession(cookie_jar=jar, headers=OWN_PAGE | {"Accept": "text/html"}) as browser:
        await browser.post(f"{client.admin_url}/sign-in", data={"token": ADMIN_TOKEN})
        async with browser.post(f"{client.admin_url}/history", data={"account": ACCOUNT, "since": "x"}) as response:
            assert response.status == 400
        async with browser.post(f"{client.admin_url}/history", data={"account": ACCOUNT, "since": ""}) as response:
            assert response.status == 200, await response.text()
            address = response.url.path
        await see_pages(client, browser, address)


async def see_pages(client: Client, browser: aiohttp.ClientSession, address: str) -> None:
    run = await finished(client, {"links": {"self": f"{PATH}/{address.rpartition('/')[2]}"}})
    assert run["successCount"] == 2
    for path, said in (("/history", "Import history"), (address, "2 added"), ("/accounts", "/history?account=")):
        async with browser.get(client.admin_url + path) as response:
            assert said in await response.text()
