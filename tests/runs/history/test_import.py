"""History imports over the admin API: a real daemon, a simulated Instagram with a mailbox and its quirks."""

import asyncio
from collections import Counter
from typing import Any

import msgspec
import pytest
from inboxd.simulator.graph_server import Behaviour, GraphServer
from inboxd.simulator.mailbox import NewMessage
from inboxd.simulator.payloads import Conversationalist, mid_of
from inboxd.simulator.people import igsid

from tests.support import ACCOUNT, T0, Client, Json, eventually, told

PATH = "/api/workers/import-history"
DAY_MS = 86_400_000
Simulated = tuple[GraphServer, str]
QUIET = Behaviour(latency_ms=1, conversation_calls_per_s=0, visible_after_s=0)


@pytest.fixture(autouse=True)
def nobody_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two calls a second are too few for tests; the pace has tests of its own."""
    monkeypatch.setattr("inboxd.meta.account_graph.CONVERSATION_CALLS", 1000)


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
    assert not [call for call in server.calls if "igsid" in call or any(igsid(n) in call.split("?")[0] for n in range(5)) and "conversations" not in call and "messages" not in call]
