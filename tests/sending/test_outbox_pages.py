"""The list of all outbound messages in the dashboard, as a browser without scripts shows it."""

import asyncio
import re
import sqlite3
from contextlib import closing
from html import unescape
from pathlib import Path

import aiohttp
import msgspec
import pytest
from inboxd import app
from inboxd.config.schema import Settings
from inboxd.config.secrets import NamedToken, Secrets
from inboxd.runtime.clock import Clock
from inboxd.runtime.secret import Secret
from inboxd.sending import outbox_pages
from inboxd.simulator.graph_server import Behaviour, GraphServer
from inboxd.simulator.payloads import Conversationalist, delivery
from inboxd.simulator.sender import WebhookSender

from tests.sending.test_composer import conversation_with_ana, outbound, posted, shown, signed_in
from tests.support import ACCOUNT, ANA, APP_SECRET, OWN_PAGE, Client, Json


@pytest.fixture
def server(graph: tuple[GraphServer, str]) -> GraphServer:
    graph[0].behaviour = Behaviour(latency_ms=1, echo_after_ms=50)
    return graph[0]


async def customer_writes(client: Client, server: GraphServer) -> str:
    """Somebody writes, on the simulated Instagram too. Returns the conversation's id."""
    now = Clock().now_ms()
    sender = WebhookSender(client.session, f"{client.public_url}/webhooks/instagram", APP_SECRET, instagram=server)
    await sender.send(delivery(ACCOUNT, now, [Conversationalist(ACCOUNT, ANA, now).says("Do you have it in blue?")]))
    await client.settled()
    (one,) = await client.conversations()
    return str(one["id"])


async def write(client: Client, conversation: str, text: str) -> Json:
    status, _ = await posted(client, f"/inbox/{conversation}/messages", text=text, key=text)
    assert status == 303
    return (await outbound(client))[0]


async def reached(client: Client, outbound_id: str, *states: str) -> Json:
    async with asyncio.timeout(30):
        while True:
            one: Json = await client.get(f"/api/messaging/outbound/{outbound_id}")
            if one["state"] in states:
                return one
            await asyncio.sleep(0.02)


def failing(server: GraphServer, code: int) -> None:
    server.behaviour = msgspec.structs.replace(server.behaviour, send_error_code=code, send_error_subcode=1545041)


async def test_an_empty_outbox_says_how_to_answer(client: Client) -> None:
    await signed_in(client)
    assert "inboxd send" in await shown(client, "/outbox")
    assert "Nothing is like that" in await shown(client, "/outbox?state=failed")


async def test_it_lists_what_was_sent_and_what_was_not_with_its_reason(client: Client, server: GraphServer) -> None:
    one = await customer_writes(client, server)
    await signed_in(client)
    sent = await write(client, one, "Yes, in <b>blue</b>")
    await reached(client, sent["id"], "sent", "delivered", "read")
    failing(server, 551)
    await reached(client, (await write(client, one, "and in green"))["id"], "failed")
    text = await shown(client, "/outbox")
    assert text.index("and in green") < text.index("Yes, in &lt;b&gt;blue&lt;/b&gt;")
    assert f'href="/inbox/{one}"' in text
    assert "The participant cannot be reached" in text
    assert text.count("551/1545041") == 1
    assert text.count("1 attempt") == 2
    only = await shown(client, "/outbox?state=failed")
    assert ("and in green" in only, "in &lt;b&gt;" in only) == (True, False)
    assert "and in green" not in await shown(client, "/outbox?account=17841499999999999")


@pytest.mark.parametrize("page", ["/outbox/{outbound}/retry", "/inbox/{conversation}/outbound/{outbound}/retry"])
async def test_a_page_that_is_old_sends_nothing_twice(client: Client, server: GraphServer, page: str) -> None:
    """It still says that a message failed, which was tried again elsewhere and is unknown now."""
    one = await customer_writes(client, server)
    await signed_in(client)
    failing(server, 551)
    failed = await write(client, one, "hello")
    await reached(client, failed["id"], "failed")
    with closing(sqlite3.connect(client.database)) as database, database:
        database.execute("UPDATE outbound_messages SET state = 'unknown'")
        database.execute("UPDATE outbound_parts SET state = 'unknown'")
    again = page.format(outbound=failed["id"], conversation=one)
    status, text = await posted(client, again)
    assert (status, "It may have been sent" in text) == (409, True)
    failing(server, 0)
    await posted(client, again + "?force=true")
    await reached(client, failed["id"], "sent", "delivered", "read")


async def test_what_failed_is_tried_again_and_dismissed_in_place(client: Client, server: GraphServer) -> None:
    one = await customer_writes(client, server)
    await signed_in(client)
    failing(server, 551)
    failed = await write(client, one, "hello")
    await reached(client, failed["id"], "failed")
    text = await shown(client, "/outbox?state=failed")
    (again,) = re.findall(r'action="(/outbox/\d+/retry[^"]*)"', unescape(text))
    assert again.endswith("?state=failed")
    failing(server, 0)
    async with client.session.post(
        client.admin_url + again, headers={**OWN_PAGE, "Accept": "text/html"}, allow_redirects=False
    ) as response:
        assert (response.status, response.headers["Location"]) == (303, "/outbox?state=failed")
    await reached(client, failed["id"], "sent", "delivered", "read")
    status, text = await posted(client, f"/outbox/{failed['id']}/cancel")
    assert (status, "already." in text, "hello" in text) == (409, True, True)
    assert (await posted(client, "/outbox/999/cancel"))[0] == 404
    assert (await posted(client, "/outbox/999/cancel?before=x"))[0] == 400, "it is looked at before anything is changed"
    assert (await posted(client, "/outbox/x/retry"))[0] == 404
    failing(server, 551)
    other = await write(client, one, "other")
    await reached(client, other["id"], "failed")
    assert (await posted(client, f"/outbox/{other['id']}/cancel"))[0] == 303
    assert (await reached(client, other["id"], "canceled"))["state"] == "canceled"


async def test_pages_follow_each_other_without_a_gap(
    client: Client, server: GraphServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_pages, "LIMIT", 2)
    one = await customer_writes(client, server)
    await signed_in(client)
    for number in range(5):
        await write(client, one, f"text number {number}")
    path, seen = "/outbox", list[str]()
    while path:
        text = unescape(await shown(client, path))
        seen += re.findall(r"text number \d", text)
        older = re.search(r'<a href="([^"]+)">Older messages', text)
        path = older[1] if older else ""
    assert seen == [f"text number {number}" for number in (4, 3, 2, 1, 0)]
    async with client.session.get(client.admin_url + "/outbox?before=x") as response:
        assert response.status == 400


async def test_the_overview_leads_to_what_failed(client: Client, server: GraphServer) -> None:
    one = await customer_writes(client, server)
    await signed_in(client)
    failing(server, 551)
    await reached(client, (await write(client, one, "hello"))["id"], "failed")
    text = unescape(await shown(client, "/"))
    assert f'href="/outbox?state=failed&account={ACCOUNT}"' in text


async def test_a_token_without_the_scope_send_sees_it_and_changes_nothing(
    settings: Settings, secrets: Secrets, tmp_path: Path
) -> None:
    named = (
        NamedToken("reader", ("read", "write"), Secret("a-token-of-somebody")),
        NamedToken("seller", ("read", "send"), Secret("a-token-of-a-seller")),
    )
    path = tmp_path / "inboxd.sqlite3"
    async with (
        app.run_daemon(
            settings, msgspec.structs.replace(secrets, named_tokens=named), path, on_give_up=lambda: None
        ) as daemon,
        aiohttp.ClientSession() as session,
    ):
        client = Client(session, daemon.public_url, daemon.admin_url, path)
        one = await conversation_with_ana(client)
        await signed_in(client, "a-token-of-a-seller")
        waiting = await write(client, one, "hello")
        await reached(client, waiting["id"], "failed")  # nothing answers there for Meta that knows the conversation
        assert f"/outbox/{waiting['id']}/cancel" in await shown(client, "/outbox")
        await signed_in(client, "a-token-of-somebody")
        text = await shown(client, "/outbox")
        assert ("hello" in text, "no scope 'send'" in text, "/cancel" in text) == (True, True, False)
        assert (await posted(client, f"/outbox/{waiting['id']}/cancel"))[0] == 403
        assert (await posted(client, f"/outbox/{waiting['id']}/retry"))[0] == 403


@pytest.mark.parametrize(
    "query",
    [
        {"before": "1" * 30},
        {"before": "\x00"},
        {"before": "é" * 9000},
        {"before": "-1.-1"},
        {"state": "\x00", "account": "\x00"},
        {"state": "sending'--", "account": "<b>" * 2000},
        {"account": "\ud7ff" * 100},
    ],
)
async def test_an_odd_address_shows_a_page_or_says_what_is_wrong(client: Client, query: dict[str, str]) -> None:
    await signed_in(client)
    async with client.session.get(
        f"{client.admin_url}/outbox", params=query, headers={"Accept": "text/html"}
    ) as response:
        text = await response.text()
        assert response.status in {200, 400, 422}, text
        assert "<b><b>" not in text
