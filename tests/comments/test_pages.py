"""The pages of comments over HTTP: the list, a thread, its forms, and what stays text."""

import re
import time
from html import unescape
from typing import Self

import aiohttp
import pytest
from inboxd.simulator.graph_server import Behaviour

from tests.comments.rig import CLERK_TOKEN, Shop, threads
from tests.support import ACCOUNT, ADMIN_TOKEN, BRUNO, OWN_PAGE, Client, eventually

HTML = {"Accept": "text/html"}
EVIL = "<script>alert(1)</script>"


class Person:
    """Somebody with a browser that is signed in."""

    def __init__(self, client: Client) -> None:
        self.session = aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True))
        self.url = client.admin_url
        self.path = ""

    async def __aenter__(self) -> Self:
        await self.post("/sign-in", token=ADMIN_TOKEN)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()

    async def get(self, path: str, *, mode: str = "navigate", status: int = 200) -> str:
        headers = {**HTML, "Sec-Fetch-Mode": mode}
        async with self.session.get(self.url + path, headers=headers) as response:
            text = await response.text()
            assert response.status == status, text
            return unescape(text)

    async def post(self, path: str, *, status: int = 200, **form: str) -> str:
        async with self.session.post(self.url + path, data=form, headers=HTML | OWN_PAGE) as response:
            text = await response.text()
            assert response.status == status, text
            self.path = response.url.path
            return unescape(text)


def key_of(text: str) -> str:
    found = re.search(r'name="key" value="([0-9a-f]+)"', text)
    assert found is not None
    return found[1]


async def test_the_list_shows_who_wrote_what_under_which_post(client: Client, shop: Shop) -> None:
    written = await shop.comment(client, EVIL)
    await shop.comment(client, "20 €", from_id=ACCOUNT, username="the.shop", parent_id=written.id)
    await shop.comment(client, None, from_id=BRUNO, username="bruno")

    async def has_post() -> bool:
        return all(one["post"]["caption"] for one in await threads(client))

    await eventually(has_post)
    async with Person(client) as person:
        page = await person.get("/comments")
        assert "@ana_x" in page
        assert "@bruno" in page
        assert "The new blue one" in page
        assert "a GIF, a sticker or a picture" in page
        raw = await (await person.session.get(f"{client.admin_url}/comments", headers=HTML)).text()
        assert EVIL not in raw
        assert "&lt;script&gt;" in raw
        assert "@ana_x" not in await person.get("/comments?open=1")
        assert "@bruno" not in await person.get("/comments?q=alert")
        assert "Nothing is like that" in await person.get("/comments?state=hidden")
        await person.get("/comments?before=nonsense", status=400)
        await person.get("/comments/999", status=404)


async def test_who_opens_a_thread_sees_it_as_it_is_now_and_who_only_watches_costs_nothing(
    client: Client, shop: Shop
) -> None:
    written = await shop.comment(client)
    number = (await threads(client))[0]["id"]
    async with Person(client) as person:
        for _ in range(3):
            await person.get(f"/comments/{number}", mode="cors")
        assert shop.count("GET", written.id) == 0
        written.text = "precio del azul?"
        assert "precio del azul?" in await person.get(f"/comments/{number}")
        assert shop.count("GET", written.id) == 1


async def test_a_reply_is_written_once_however_often_its_form_is_sent(client: Client, shop: Shop) -> None:
    written = await shop.comment(client)
    number = (await threads(client))[0]["id"]
    async with Person(client) as person:
        key = key_of(await person.get(f"/comments/{number}"))
        for _ in range(2):
            await person.post(f"/comments/{number}/reply", text="20 €\r\nor 18 €", key=key)
            assert person.path == f"/comments/{number}"

        async def is_there() -> bool:
            return "20 €\nor 18 €" in await person.get(f"/comments/{number}")

        await eventually(is_there)
        await person.post(f"/comments/{number}/reply", text="  ", status=422)
        assert shop.count("POST", f"{written.id}/replies") == 1
        (kept,) = shop.server.posts.truth(ACCOUNT)[1:]
        assert kept.text == "20 €\nor 18 €"


async def test_a_reply_that_failed_holds_back_no_longer_than_somebody_wants(client: Client, shop: Shop) -> None:
    written = await shop.comment(client)
    (found,) = await threads(client)
    path = f"/comments/{found['id']}"
    refusal = {"send_error_code": 100, "send_error_next": 2}
    shop.server.behaviour = Behaviour(latency_ms=1, **refusal)  # type: ignore[arg-type]
    async with Person(client) as person:
        await person.post(f"{path}/reply", text="first", key="1")

        async def has_failed() -> bool:
            return "Try again" in await person.get(path)

        await eventually(has_failed)
        await person.post(f"{path}/outbound/1/retry")
        assert person.path == path
        await eventually(has_failed)
        await person.post(f"{path}/reply", text="second", key="2")
        assert shop.count("POST", f"{written.id}/replies") == 2
        await person.post(f"{path}/outbound/1/cancel")

        async def is_there() -> bool:
            return [one.text for one in shop.server.posts.truth(ACCOUNT)] == ["precio?", "second"]

        await eventually(is_there)
        assert "canceled" in await person.post(f"{path}/outbound/1/retry", status=409)
        await person.post(f"{path}/outbound/99/cancel", status=404)
        await person.post(f"{path}/outbound/x/cancel", status=404)


async def test_comments_are_hidden_shown_and_deleted_by_buttons(client: Client, shop: Shop) -> None:
    written = await shop.comment(client)
    number = (await threads(client))[0]["id"]
    async with Person(client) as person:
        page = await person.post(f"/comments/{number}/hide")
        states = [written.hidden]
        assert "Show again" in page
        assert "Nothing can be written here: it is hidden" in page
        await person.post(f"/comments/{number}/show")
        assert [*states, written.hidden] == [True, False]
        page = await person.post(f"/comments/{number}/delete")
        assert written.deleted
        assert "deleted" in page
        assert "This comment cannot be hidden: it was deleted." in await person.post(
            f"/comments/{number}/hide", status=409
        )


async def test_a_comment_is_answered_in_private_once(client: Client, shop: Shop) -> None:
    written = await shop.comment(client, created_ms=int(time.time() * 1000))
    number = (await threads(client))[0]["id"]
    async with Person(client) as person:
        thread = await person.get(f"/comments/{number}")
        assert " outbound.sent outbound.delivered outbound.read " in thread, "the page says what became of it"
        page = await person.get(f"/comments/{number}/private")
        for _ in range(2):
            await person.post(f"/comments/{number}/private", text="in private", key=key_of(page))

        async def is_sent() -> bool:
            return "answered in private" in await person.get(f"/comments/{number}")

        await eventually(is_sent)
        assert "It was answered in private" in await person.get(f"/comments/{number}/private")
        assert "one, ever" in await person.post(f"/comments/{number}/private", text="more", status=409)
    assert shop.count("POST", "me/messages") == 1
    assert written.private_reply is not None


@pytest.mark.parametrize(
    "action", ["reply", "private", "hide", "show", "delete", "outbound/1/retry", "outbound/1/cancel"]
)
async def test_who_may_only_read_and_write_cannot_speak(client: Client, shop: Shop, action: str) -> None:
    await shop.comment(client)
    number = (await threads(client))[0]["id"]
    headers = {"Authorization": f"Bearer {CLERK_TOKEN}"}
    async with client.session.post(f"{client.admin_url}/comments/{number}/{action}", headers=headers) as response:
        assert response.status == 403
    for method, path in (("PATCH", ""), ("DELETE", ""), ("POST", "/replies")):
        await client.send(method, f"/api/comments/{number}{path}", {}, token=CLERK_TOKEN, status=403)
    assert (await client.get(f"/api/comments/{number}", token=CLERK_TOKEN))["id"] == number


async def test_the_outbox_leads_from_a_reply_to_its_comment(client: Client, shop: Shop) -> None:
    now = int(time.time() * 1000)
    written = await shop.comment(client, created_ms=now)
    await shop.comment(client, "me too", parent_id=written.id, from_id=BRUNO, username="bruno", created_ms=now)
    (found,) = await threads(client)
    whole = await client.get(f"/api/comments/{found['id']}")
    (under,) = whole["replies"]
    await client.send("POST", f"/api/comments/{found['id']}/replies", {"text": "for all"}, status=202)
    private = {"accountId": ACCOUNT, "commentId": under["platformCommentId"], "text": "for Bruno"}
    await client.send("POST", "/api/messaging/messages", private, status=202)
    async with Person(client) as person:
        page = await person.get("/outbox")
        for kind, number in (("public", found["id"]), ("private", under["id"])):
            assert f'{kind} reply to <a href="/comments/{found["id"]}#c{number}">a comment</a>' in page
            assert f'id="c{number}"' in await person.get(f"/comments/{found['id']}")
