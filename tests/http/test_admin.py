"""The admin API as its users meet it: who may, search, cursors, caching, streams."""

import asyncio
import json
import sqlite3
from contextlib import closing

import msgspec
import pytest
from aiohttp.test_utils import make_mocked_request
from inboxd.config.secrets import NamedToken, Secrets
from inboxd.conversations.search_store import MATCHES
from inboxd.http.auth import COOKIE, AccessToken, Gate
from inboxd.http.problems import ProblemError
from inboxd.runtime.secret import Secret
from inboxd.simulator.graph_server import Behaviour, GraphServer
from inboxd.simulator.payloads import Conversationalist
from inboxd.simulator.people import igsid, person

from tests.support import ACCOUNT, ADMIN_TOKEN, ANA, BRUNO, OWN_PAGE, T0, Client, Json, ManualClock, eventually

LIST = "/api/messaging/conversations"
HEADERS = {"Authorization": f"Bearer {ADMIN_TOKEN}"}


async def talk(client: Client, count: int) -> None:
    for number in range(count):
        who = Conversationalist(ACCOUNT, igsid(number), T0 + number * 1000)
        await client.deliver(who.says(f"Número {number}: café crème"), who.says("ok"))
    await client.settled()


class TestTokens:
    @pytest.fixture
    def secrets(self, secrets: Secrets) -> Secrets:
        named = (
            NamedToken("grafana", ("read",), Secret("read-only")),
            NamedToken("importer", ("write",), Secret("write-only")),
        )
        return msgspec.structs.replace(secrets, named_tokens=named)

    async def test_a_token_does_what_its_scopes_allow(self, client: Client) -> None:
        await client.get("/api/budget", token="read-only")
        problem = await client.send("POST", "/api/workers/retry-failed-deliveries", token="read-only", status=403)
        assert "'grafana' has no scope 'write'" in problem["detail"]
        await client.send("POST", "/api/workers/retry-failed-deliveries", token="write-only", status=202)
        await client.get("/api/budget", token="write-only", status=403)

    async def test_guessing_is_slowed_down(self, client: Client) -> None:
        for _ in range(10):
            await client.get("/api/budget", token="guess", status=401)
        await client.get("/api/budget", token="guess", status=429)
        await client.get("/api/budget", token=None, status=401)
        await client.get("/readyz", token=None)

    async def test_a_token_that_is_right_passes_whoever_else_is_at_its_address(self, client: Client) -> None:
        for number in range(12):
            await client.send("GET", "/api/budget", token="stale", status=401 if number < 10 else 429)
        for token in (ADMIN_TOKEN, "read-only"):
            await client.get("/api/budget", token=token)
        async with client.session.get(client.admin_url + "/metrics", headers=HEADERS) as response:
            assert response.status == 200
        await client.get("/api/budget", token="stale", status=429)

    @pytest.mark.parametrize("authorization", ["Basic dXNlcjpwYXNz", "Negotiate x", ""])
    async def test_what_a_proxy_adds_does_not_stand_in_the_way_of_a_session(
        self, client: Client, authorization: str
    ) -> None:
        form, url = {"token": ADMIN_TOKEN, "next": "/"}, client.admin_url + "/sign-in"
        async with client.session.post(url, data=form, headers=OWN_PAGE, allow_redirects=False) as response:
            cookie = response.cookies[COOKIE].value
        headers = {"Cookie": f"{COOKIE}={cookie}", "Authorization": authorization}
        for _ in range(12):
            async with client.session.get(client.admin_url + "/api/budget", headers=headers) as response:
                assert response.status == 200

    async def test_now_and_then_a_wrong_token_shuts_nobody_out(self) -> None:
        clock = ManualClock()
        gate = Gate([AccessToken("admin", ("read",), Secret("right"))], (), clock, max_failures=3)
        request = make_mocked_request("GET", "/")
        for _ in range(10):
            with pytest.raises(ProblemError, match="Send the admin token"):
                gate.sign_in(request, "wrong")
            assert gate.sign_in(request, "right")
            await clock.sleep(40)

    async def test_tokens_in_the_address_open_nothing(self, client: Client) -> None:
        await client.get(f"/api/budget?access_token={ADMIN_TOKEN}&token={ADMIN_TOKEN}", token=None, status=401)


async def test_words_of_messages_and_names_are_found(client: Client) -> None:
    await talk(client, 5)

    async def found() -> bool:
        return len((await client.get("/api/messaging/messages?q=cafe"))["results"]) == 5

    await eventually(found)
    results = (await client.get("/api/messaging/messages?q=CAF%C3%89+cr*"))["results"]
    assert [one["message"]["content"][:8] for one in results] == [f"Número {number}" for number in (4, 3, 2, 1, 0)]
    assert results[0]["conversation"]["participantPlatformId"] == igsid(4)
    first = await client.get("/api/messaging/messages?q=cafe&limit=2")
    rest = await client.get(f"/api/messaging/messages?q=cafe&limit=200&cursor={first['nextCursor']}")
    assert len(first["results"]) + len(rest["results"]) == 5
    assert (await client.get("/api/messaging/messages?q=cafe&clientAccountId=1"))["results"] == []

    known = person(igsid(2))
    assert known is not None

    async def named() -> bool:
        return bool((await client.get(f"{LIST}?q={known.username}&clientAccountId={ACCOUNT}"))["total"])

    await eventually(named)
    by_word = await client.get(f"{LIST}?q=cafe&clientAccountId={ACCOUNT}&limit=3")
    assert by_word["total"] == 5
    more = await client.get(f"{LIST}?q=cafe&clientAccountId={ACCOUNT}&limit=3&cursor={by_word['nextCursor']}")
    assert len(more["conversations"]) == 2
    for odd in ("%22", "*", "NEAR(", "a%00b", "-", "%F0%9F%98%8D"):
        await client.get(f"{LIST}?q={odd}")


async def test_what_was_unsent_or_edited_is_not_found_by_its_old_words(client: Client) -> None:
    who = Conversationalist(ACCOUNT, ANA, T0)
    regretted, wrong = who.says("regrettable"), who.says("wrongword")
    await client.deliver(regretted, wrong)

    async def indexed(word: str, count: int) -> None:
        async def there() -> bool:
            return len((await client.get(f"/api/messaging/messages?q={word}"))["results"]) == count

        await eventually(there)

    async def in_the_file(word: str, count: int) -> None:
        async def there() -> bool:
            with closing(sqlite3.connect(client.database)) as connection:
                query = "SELECT count(*) FROM message_search WHERE text MATCH ?"
                return bool(connection.execute(query, (word,)).fetchone() == (count,))

        await eventually(there)

    await indexed("regrettable", 1)
    await client.deliver(who.unsends(regretted))
    await indexed("regrettable", 0)
    await in_the_file("regrettable", 0)
    await client.deliver(who.edits(wrong, "rightword"))
    await indexed("wrongword", 0)
    await indexed("rightword", 1)
    await in_the_file("wrongword", 0)


async def test_pages_follow_by_cursor_and_by_link(client: Client) -> None:
    await talk(client, 7)
    for number in range(3):
        body = {"clientAccountId": ACCOUNT, "participantPlatformId": igsid(100 + number)}
        await client.send("POST", LIST, body, status=201)

    seen: list[Json] = []
    cursor = ""
    while True:
        page = await client.get(f"{LIST}?limit=3{cursor}")
        seen += page["conversations"]
        if page["nextCursor"] is None:
            break
        cursor = f"&cursor={page['nextCursor']}"
    whole = await client.conversations("?limit=200")
    assert [one["id"] for one in seen] == [one["id"] for one in whole]
    assert [one["lastMessageAt"] for one in seen[-3:]] == [None] * 3

    async with client.session.get(f"{client.admin_url}{LIST}?limit=4&offset=4", headers=HEADERS) as response:
        links = response.links
    assert str(links["next"]["url"]).endswith("limit=4&offset=8")
    assert str(links["prev"]["url"]).endswith("limit=4&offset=0")
    conversation = next(one for one in whole if one["lastMessageAt"])
    first = await client.get(f"{LIST}/{conversation['id']}/messages?limit=1")
    second = await client.get(f"{LIST}/{conversation['id']}/messages?limit=1&cursor={first['nextCursor']}")
    assert first["messages"][0]["content"] == "ok"
    assert second["messages"][0]["content"].startswith("Número")
    await client.get(f"{LIST}?cursor=nonsense", status=400)


async def walked(client: Client, path: str, name: str, *, limit: int) -> list[Json]:
    """Everything in a list, page by page."""
    seen: list[Json] = []
    page = await client.get(f"{path}?limit={limit}")
    while True:
        assert len(page[name]) <= limit
        seen += page[name]
        if page["nextCursor"] is None:
            return seen
        page = await client.get(f"{path}?limit={limit}&cursor={page['nextCursor']}")


@pytest.mark.parametrize("limit", [1, 2, 3, 200])
async def test_what_is_of_the_same_instant_is_on_one_page_each_the_newest_first(client: Client, limit: int) -> None:
    """Meta's times of one delivery are often equal; a page may end between any two of them."""
    order = [3, 0, 4, 1, 2]
    for number in order:
        await client.deliver(Conversationalist(ACCOUNT, igsid(number), T0 + 500).says("hola"))
        await client.settled()
    await client.deliver(Conversationalist(ACCOUNT, igsid(8), T0).says("before"))
    who = Conversationalist(ACCOUNT, igsid(9), T0 + 5_000_000)
    await client.deliver(who.says("after"))
    await client.settled()

    people = [one["participantPlatformId"] for one in await walked(client, LIST, "conversations", limit=limit)]
    assert people == [igsid(number) for number in (9, *reversed(order), 8)]

    items = [who.says(str(number)) for number in range(6)]
    for item in items[1:5]:
        item["timestamp"] = items[1]["timestamp"]
    await client.deliver(*items)
    await client.settled()
    (conversation,) = (await client.get(f"{LIST}?limit=1"))["conversations"]
    assert conversation["participantPlatformId"] == igsid(9)
    messages = await walked(client, f"{LIST}/{conversation['id']}/messages", "messages", limit=limit)
    assert [one["content"] for one in messages] == ["5", "4", "3", "2", "1", "0", "after"]


async def test_lists_begin_with_the_newest(client: Client) -> None:
    who = Conversationalist(ACCOUNT, ANA, T0)
    for word in ("first", "second", "third"):
        await client.deliver(who.says(word), who.opens_link(f"link-{word}"))
        await client.settled()
    newest_first = ["3", "2", "1"]
    assert [one["id"] for one in (await client.get("/api/deliveries"))["deliveries"]] == newest_first
    assert [one["id"] for one in (await client.get("/api/deliveries?state=done"))["deliveries"]] == newest_first
    told = [one["payload"]["referral"]["ref"] for one in (await client.get("/api/webhook-events"))["webhookEvents"]]
    assert told == ["link-third", "link-second", "link-first"]
    async with client.session.get(f"{client.admin_url}/inbox", headers=HEADERS) as response:
        page = await response.text()
    assert "third" in page, "the latest message is what a conversation is shown with"
    assert "second" not in page


async def test_a_search_of_many_matches_begins_with_the_latest(client: Client) -> None:
    """Of a word that everybody uses, the latest matches are looked at: what was said today is what is searched for."""
    often = Conversationalist(ACCOUNT, ANA, T0)
    for _ in range(0, MATCHES, 500):
        await client.deliver(*(often.says("gracias") for _ in range(500)))
    await client.settled()
    await client.deliver(Conversationalist(ACCOUNT, BRUNO, T0 + 9_000_000).says("gracias"))

    async def found() -> bool:
        (latest,) = (await client.get("/api/messaging/messages?q=gracias&limit=1"))["results"] or [None]
        return latest is not None and latest["conversation"]["participantPlatformId"] == BRUNO

    await eventually(found)
    people = {one["participantPlatformId"] for one in await client.conversations("?q=gracias")}
    assert people == {ANA, BRUNO}
    pages: list[Json] = []
    page = await client.get("/api/messaging/messages?q=gracias&limit=200")
    while page["nextCursor"] is not None:
        pages += page["results"]
        page = await client.get(f"/api/messaging/messages?q=gracias&limit=200&cursor={page['nextCursor']}")
    ids = [int(one["message"]["id"]) for one in [*pages, *page["results"]]]
    assert ids == sorted(set(ids), reverse=True)
    assert len(ids) == MATCHES + 1


async def test_conversations_are_read_closed_and_deleted(client: Client) -> None:
    await talk(client, 1)
    (conversation,) = await client.conversations()
    address = f"{LIST}/{conversation['id']}"
    assert conversation["unreadCount"] == 2

    assert (await client.send("PATCH", address + "/read"))["unreadCount"] == 0
    messages = await client.get(address + "/messages")
    assert all(message["isRead"] for message in messages["messages"])

    changed = await client.send("PATCH", address, {"status": "archived", "metadata": {"crm": 7}})
    assert (changed["status"], changed["metadata"]["crm"]) == ("archived", 7)
    assert changed["updatedAt"] > conversation["updatedAt"]
    await client.send("PATCH", address, {"status": "lost"}, status=422)
    await client.send("PATCH", address, {"colour": "red"}, status=422)

    await client.send("DELETE", address, status=204)
    await client.send("DELETE", address, status=404)
    await client.get(address, status=404)
    await client.deliver(Conversationalist(ACCOUNT, igsid(0), T0 + 10**6).says("again"))
    await client.settled()
    assert [one["unreadCount"] for one in await client.conversations()] == [1]


async def test_registering_twice_is_a_conflict(client: Client) -> None:
    body = {
        "clientAccountId": ACCOUNT, "participantPlatformId": ANA, "platformConversationId": f"{ACCOUNT}_{ANA}",
        "participantUsername": "ana_x", "participantProfilePic": None, "unreadCount": 2, "status": "closed",
        "metadata": {"crm": 1},
    }  # fmt: skip
    created = await client.send("POST", LIST, body, status=201)
    assert created["metadata"]["crm"] == 1
    assert (created["participantUsername"], created["unreadCount"], created["status"]) == ("ana_x", 2, "closed")
    await client.send("POST", LIST, body, status=409)
    await client.send("POST", LIST, {**body, "platformConversationId": "1_2"}, status=422)
    await client.send("POST", LIST, {**body, "participantUsername": " "}, status=422)


@pytest.mark.parametrize(
    "wrong",
    [
        {"participantPlatformId": "7\n"},
        {"clientAccountId": "7\n"},
        {"participantUsername": "ana\n"},
        {"platformConversationId": "1_2"},
        {"platformConversationId": "x" * 2000},
        {"unreadCount": -1},
    ],
)
async def test_what_no_conversation_can_be_is_unprocessable(client: Client, wrong: dict[str, object]) -> None:
    body = {"clientAccountId": ACCOUNT, "participantPlatformId": ANA}
    await client.send("POST", LIST, body | wrong, status=422)
    assert await client.conversations() == []


async def test_a_cursor_ends_where_it_ends(client: Client) -> None:
    await client.get(f"{LIST}?cursor=1.1%0A", status=400)
    await client.get(f"{LIST}?cursor=1.1")


async def test_an_import_takes_either_case_and_names_what_it_left_out(client: Client) -> None:
    rows = [
        {"client_account_id": ACCOUNT, "participantPlatformId": igsid(0), "colour": 1, "platformConversationId": "x"},
        {"client_account_id": ACCOUNT, "participantPlatformId": igsid(1), "colour": 2},
    ]
    report = await client.send("POST", "/api/messaging/imports", {"conversations": rows})
    assert report == {"imported": 2, "errors": [], "ignored": ["colour"]}
    kept = {one["metadata"].get("importedConversationId") for one in await client.conversations()}
    assert kept == {"x", None}


async def test_one_resource_is_fetched_conditionally_and_large_answers_are_compressed(client: Client) -> None:
    await talk(client, 10)

    async def calm() -> bool:
        return all(one["participantUsername"] and one["participantAvatar"] for one in await client.conversations())

    await eventually(calm)
    (conversation, *_) = await client.conversations()
    address = f"{client.admin_url}{LIST}/{conversation['id']}"
    async with client.session.get(address, headers=HEADERS) as response:
        etag = response.headers["ETag"]
    async with client.session.get(address, headers={**HEADERS, "If-None-Match": etag}) as response:
        assert response.status == 304
        assert await response.read() == b""
    await client.send("PATCH", f"{LIST}/{conversation['id']}", {"status": "closed"})
    async with client.session.get(address, headers={**HEADERS, "If-None-Match": etag}) as response:
        assert response.status == 200

    async with client.session.get(client.admin_url + LIST, headers={**HEADERS, "Accept-Encoding": "gzip"}) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert len((await response.json())["conversations"]) == 10
        assert response.headers["X-Content-Type-Options"] == "nosniff"
    async with client.session.get(
        client.admin_url + LIST, headers={**HEADERS, "Accept-Encoding": "zstd;q=1, gzip"}
    ) as response:
        assert response.headers["Content-Encoding"] == "zstd"
        assert len((await response.json())["conversations"]) == 10
    for refused in ("identity", "zstd;q=0, gzip;q=0"):
        headers = {**HEADERS, "Accept-Encoding": refused}
        async with client.session.get(client.admin_url + LIST, headers=headers) as response:
            assert "Content-Encoding" not in response.headers


async def test_many_are_imported_at_once_and_bad_ones_reported(client: Client) -> None:
    good = [{"clientAccountId": ACCOUNT, "participantPlatformId": igsid(number)} for number in range(3)]
    rows = [good[0], {"clientAccountId": "x"}, good[1], good[0], good[2]]
    report = await client.send("POST", "/api/messaging/imports", {"conversations": rows})
    assert report["imported"] == 3
    assert [problem["row"] for problem in report["errors"]] == [2, 4]
    await client.send("POST", "/api/messaging/imports", {"conversations": []}, status=422)


async def test_a_profile_is_refreshed_on_request(client: Client, graph: tuple[GraphServer, str]) -> None:
    await talk(client, 1)
    address = f"/api/participants/{ACCOUNT}/{igsid(0)}"

    async def asked(times: int) -> None:
        async def enough() -> bool:
            return sum(call.endswith(igsid(0)) for call in graph[0].calls) == times

        await eventually(enough)

    async def has_a_name() -> bool:
        return bool((await client.get(address))["username"])

    await asked(1)
    await eventually(has_a_name)  # a refresh during the call would be answered by that call
    await client.send("POST", address + "/refresh", status=202)
    await asked(2)
    await client.send("POST", f"/api/participants/{ACCOUNT}/42/refresh", status=404)


async def test_numbers_workers_and_kept_events(client: Client) -> None:
    await talk(client, 3)
    who = Conversationalist(ACCOUNT, igsid(0), T0)
    await client.deliver(who.opts_in(), who.hands_over())
    await client.post(b"not json")
    await client.settled()

    statistics = await client.get(f"/api/accounts/{ACCOUNT}/statistics")
    assert (statistics["conversations"], statistics["unreadMessages"]) == (3, 6)
    workers = await client.get("/api/workers")
    assert {"ingest", "search", "avatars", f"backfill:{ACCOUNT}"} <= set(workers["running"])
    assert workers["deliveriesFailed"] == 1
    assert (await client.send("POST", "/api/workers/retry-failed-deliveries", status=202)) == {"retried": 1}
    events = await client.get("/api/webhook-events")
    assert sum(events["kinds"].values()) == len(events["webhookEvents"]) == 2
    kind = events["webhookEvents"][0]["kind"]
    assert [one["kind"] for one in (await client.get(f"/api/webhook-events?kind={kind}"))["webhookEvents"]] == [kind]
    assert "sender" in events["webhookEvents"][0]["payload"]


async def read_stream(
    client: Client, until: int, began: asyncio.Event | None = None, /, **headers: str
) -> list[dict[str, str]]:
    """Events of the stream, until there are so many. `began` is set when it begins."""
    events: list[dict[str, str]] = []
    async with client.session.get(client.admin_url + "/api/events/stream", headers={**HEADERS, **headers}) as response:
        assert response.status == 200, await response.text()
        event: dict[str, str] = {}
        async for raw in response.content:
            name, _, value = raw.decode().strip().partition(": ")
            if name:
                event[name] = value
            elif event:
                if event["event"] != "begin":
                    events.append(event)
                elif began is not None:
                    began.set()
                event = {}
            if len(events) == until:
                break
    return events


async def test_what_happens_is_streamed_and_resumed(client: Client, graph: tuple[GraphServer, str]) -> None:
    graph[0].behaviour = Behaviour(latency_ms=1)
    began = asyncio.Event()
    listening = asyncio.ensure_future(read_stream(client, 2, began))
    await asyncio.wait_for(began.wait(), 10)
    await client.deliver(Conversationalist(ACCOUNT, ANA, T0).says("hi"))
    first, second = await asyncio.wait_for(listening, 10)
    assert (first["event"], second["event"]) == ("conversation.created", "message.received")
    assert json.loads(first["data"])["data"]["participantPlatformId"] == ANA

    await client.deliver(Conversationalist(ACCOUNT, igsid(9), T0).says("hi"))
    missed = await asyncio.wait_for(read_stream(client, 3, **{"Last-Event-ID": second["id"]}), 10)
    assert sorted(event["event"] for event in missed) == [
        "conversation.created",
        "message.received",
        "profile.completed",
    ]
    (gap, *_) = await asyncio.wait_for(read_stream(client, 1, **{"Last-Event-ID": "999999"}), 10)
    assert gap["event"] == "gap"
    async with client.session.get(
        client.admin_url + "/api/events/stream", headers={**HEADERS, "Last-Event-ID": "x"}
    ) as response:
        assert response.status == 400


async def test_the_documentation_page_is_served_from_here(client: Client) -> None:
    for path, kind in (("", "text/html"), ("/swagger-ui.css", "text/css"), ("/initializer.js", "text/javascript")):
        async with client.session.get(client.admin_url + "/api/docs" + path) as response:
            assert (response.status, response.content_type) == (200, kind)
            text = await response.text()
            assert "https://" not in text or path == "/swagger-ui.css"
