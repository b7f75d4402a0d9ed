"""Answering in the dashboard, as a browser without scripts does it."""

import re
from pathlib import Path

import aiohttp
import msgspec
import pytest
from inboxd import app
from inboxd.config.schema import Settings
from inboxd.config.secrets import NamedToken, Secrets
from inboxd.runtime.clock import Clock
from inboxd.runtime.secret import Secret
from inboxd.simulator.payloads import Conversationalist

from tests.support import ACCOUNT, ADMIN_TOKEN, ANA, OWN_PAGE, Client, Json

DAY_MS = 86_400_000


async def signed_in(client: Client, token: str = ADMIN_TOKEN) -> None:
    """Sign in, and keep the cookie. aiohttp's jar keeps none of an address that is a number."""
    async with client.session.post(
        client.admin_url + "/sign-in", data={"token": token}, headers=OWN_PAGE, allow_redirects=False
    ) as response:
        assert response.status == 303
        client.session.headers["Cookie"] = response.headers["Set-Cookie"].partition(";")[0]


async def conversation_with_ana(client: Client, *, ago_ms: int = 0) -> str:
    at = Clock().now_ms() - ago_ms
    await client.deliver(Conversationalist(ACCOUNT, ANA, at).says("Do you have it in blue?"))
    await client.settled()
    (one,) = await client.conversations()
    return str(one["id"])


async def shown(client: Client, path: str) -> str:
    async with client.session.get(client.admin_url + path, headers={"Accept": "text/html"}) as response:
        assert response.status == 200
        return await response.text()


async def posted(client: Client, path: str, **fields: str) -> tuple[int, str]:
    async with client.session.post(
        client.admin_url + path, data=fields, headers={**OWN_PAGE, "Accept": "text/html"}, allow_redirects=False
    ) as response:
        return response.status, await response.text()


async def outbound(client: Client) -> list[Json]:
    found: list[Json] = (await client.get("/api/messaging/outbound"))["outbound"]
    return found


def key_in(text: str) -> str:
    found = re.search(r'name="key" value="([^"]+)"', text)
    assert found is not None
    return found[1]


async def test_an_answer_is_put_into_the_outbox_once_however_often_the_form_is_sent(client: Client) -> None:
    one = await conversation_with_ana(client)
    await signed_in(client)
    text = await shown(client, f"/inbox/{one}")
    assert "Can be answered until" in text
    for _ in range(2):
        status, _ = await posted(client, f"/inbox/{one}/messages", text="Yes,\r\nwe do", key=key_in(text))
        assert status == 303
    (sent,) = await outbound(client)
    assert (sent["text"], sent["sentBy"], sent["requestedBy"]) == ("Yes,\nwe do", "human", "admin")


async def test_what_cannot_be_sent_is_said_and_the_text_is_kept(client: Client) -> None:
    one = await conversation_with_ana(client)
    await signed_in(client)
    status, text = await posted(client, f"/inbox/{one}/messages", text="", key="k")
    assert status == 422
    status, text = await posted(client, f"/inbox/{one}/messages", text="<b>" * 9000, key="k")
    assert (status, "&lt;b&gt;&lt;b&gt;" in text, "<b><b>" in text) == (422, True, False)
    assert 'role="alert"' in text
    assert await outbound(client) == []
    assert (await posted(client, "/inbox/999/messages", text="hello"))[0] == 404
    assert (await posted(client, f"/inbox/{one}/outbound/999/retry"))[0] == 404
    assert (await posted(client, f"/inbox/{one}/outbound/x/cancel"))[0] == 404


async def test_a_closed_window_is_said_in_words_and_takes_the_form_away(client: Client) -> None:
    one = await conversation_with_ana(client, ago_ms=2 * DAY_MS)
    await signed_in(client)
    text = await shown(client, f"/inbox/{one}")
    assert "The reply window closed at" in text
    assert "<textarea" not in text
    status, text = await posted(client, f"/inbox/{one}/messages", text="too late", key="k")
    assert (status, "The reply window closed at" in text, "too late" in text) == (422, True, True)


@pytest.mark.parametrize(("scopes", "may"), [(("read",), False), (("read", "write"), False), (("read", "send"), True)])
async def test_only_a_token_with_the_scope_send_answers(
    settings: Settings, secrets: Secrets, tmp_path: Path, scopes: tuple[str, ...], *, may: bool
) -> None:
    named = NamedToken("reader", scopes, Secret("a-token-of-somebody"))
    async with (
        app.run_daemon(
            settings,
            msgspec.structs.replace(secrets, named_tokens=(named,)),
            tmp_path / "inboxd.sqlite3",
            on_give_up=lambda: None,
        ) as daemon,
        aiohttp.ClientSession() as session,
    ):
        client = Client(session, daemon.public_url, daemon.admin_url, tmp_path / "inboxd.sqlite3")
        one = await conversation_with_ana(client)
        await signed_in(client, "a-token-of-somebody")
        assert ("no scope 'send'" in await shown(client, f"/inbox/{one}")) is not may
        status, _ = await posted(client, f"/inbox/{one}/messages", text="hello", key="k")
        assert status == (303 if may else 403)
        assert len(await outbound(client)) == may
