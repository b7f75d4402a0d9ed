import asyncio
import sqlite3
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest
from inboxd.config.schema import Settings
from inboxd.config.secrets import Secrets
from inboxd.domain.conversation import ConversationStatus
from inboxd.simulator.graph_server import GraphServer
from inboxd.simulator.payloads import Conversationalist, mid_of
from inboxd.simulator.people import person

from tests.support import ACCOUNT, ADMIN_TOKEN, ANA, BRUNO, T0, Client, eventually

LIST = "/api/messaging/conversations"
CONVERSATION = {
    "id": str,
    "clientAccountId": str,
    "platformConversationId": str,
    "participantPlatformId": str,
    "participantUsername": str | None,
    "participantProfilePic": str | None,
    "lastMessageAt": str | None,
    "unreadCount": int,
    "status": str,
    "metadata": dict,
    "createdAt": str,
    "updatedAt": str,
}
MESSAGE = {
    "id": str,
    "conversationId": str,
    "platformMessageId": str,
    "senderType": str,
    "senderPlatformId": str,
    "messageType": str,
    "content": str | None,
    "mediaUrl": str | None,
    "mediaType": str | None,
    "attachments": list,
    "isRead": bool,
    "sentAt": str,
}


def assert_shape(found: dict[str, Any], shape: dict[str, Any]) -> None:
    for name, kind in shape.items():
        assert isinstance(found[name], kind), name


@pytest.fixture
def ana() -> Conversationalist:
    return Conversationalist(ACCOUNT, ANA, T0)


@pytest.fixture
def bruno() -> Conversationalist:
    return Conversationalist(ACCOUNT, BRUNO, T0 + 1_000_000)


async def test_conversations_read_as_the_contract_says(client: Client, ana: Conversationalist) -> None:
    hi, image, answer = ana.says("hi"), ana.sends("image"), ana.answers("hello")
    await client.deliver(hi, image, answer, ana.sees(answer), ana.reacts(answer), ana.says("thanks"))
    await client.settled()

    (conversation,) = await client.conversations()
    assert_shape(conversation, CONVERSATION)
    assert conversation["clientAccountId"] == ACCOUNT
    assert conversation["unreadCount"] == 1
    assert conversation["status"] == "open"
    assert conversation["lastMessageAt"] == "2026-09-21T14:13:26.000Z"
    one = await client.get(f"{LIST}/{conversation['id']}")
    assert one.keys() == conversation.keys()
    assert one["id"] == conversation["id"]

    messages = await client.messages(conversation)
    for message in messages:
        assert_shape(message, MESSAGE)
    assert [message["senderType"] for message in messages] == ["customer", "customer", "user", "customer"]
    assert [message["isRead"] for message in messages] == [True, True, True, False]
    assert messages[1]["mediaType"] == "image"
    assert messages[1]["mediaUrl"].startswith("https://lookaside.fbsbx.com/")
    assert messages[2]["platformMessageId"] == mid_of(answer)
    assert [reaction["emoji"] for reaction in messages[2]["reactions"]] == ["❤️"]


async def test_what_led_a_participant_here_is_told_with_the_message(client: Client, ana: Conversationalist) -> None:
    link = {"ref": "qr7", "source": "SHORTLINKS", "type": "OPEN_THREAD"}
    first, clicked, tap = ana.says("hi"), ana.comes_from_ad("how much?"), ana.taps("Hours?", "HOURS")
    tap["postback"]["referral"] = link
    odd = ana.says("odd", referral={"ref": ["r"], "ad_id": {"id": 1}})
    gone = ana.comes_from_ad("never mind")
    await client.deliver(first, clicked, tap, odd, gone, ana.unsends(gone))
    await client.settled()

    (conversation,) = await client.conversations()
    hi, ad, tapped, strange, unsent = await client.messages(conversation)
    unknown = dict.fromkeys(ad["referral"])
    assert hi["referral"] is strange["referral"] is unsent["referral"] is None
    assert strange["metadata"]["referral"] == {"ref": ["r"], "ad_id": {"id": 1}}
    assert ad["metadata"]["referral"]["ad_id"] == 6_000_000_001
    assert ad["referral"] == {
        **unknown,
        "source": "ADS",
        "type": "OPEN_THREAD",
        "ref": "spring",
        "adId": "6000000001",
        "adTitle": "Spring sale",
        "photoUrl": ad["metadata"]["referral"]["ads_context_data"]["photo_url"],
    }
    assert tapped["referral"] == {**unknown, **link}


async def test_profiles_arrive_behind_the_webhook(client: Client, ana: Conversationalist) -> None:
    await client.deliver(ana.says("hi"))

    async def named() -> bool:
        return bool((await client.conversations()) and (await client.conversations())[0]["participantUsername"])

    await eventually(named)
    known = person(ANA)
    assert known is not None
    (conversation,) = await client.conversations()
    assert conversation["participantUsername"] == known.username
    assert conversation["metadata"]["participantName"] == known.name
    assert conversation["metadata"]["accountConfigured"] is True


async def test_a_profile_is_fetched_once_however_often_they_write(
    client: Client, ana: Conversationalist, graph: tuple[GraphServer, str]
) -> None:
    for _ in range(20):
        await client.deliver(ana.says("hi"))
    await client.settled()

    async def fetched() -> bool:
        return len(graph[0].calls) > 0 and bool((await client.conversations())[0]["participantUsername"])

    await eventually(fetched)
    await client.deliver(ana.says("again"))
    await client.settled()
    assert [call for call in graph[0].calls if call.endswith(ANA)] == [f"/v25.0/{ANA}"]


async def test_traffic_of_an_unconfigured_account_is_shown_as_such(client: Client) -> None:
    stranger = Conversationalist("17841499999999999", ANA, T0)
    await client.deliver(stranger.says("hi"), account_id="17841499999999999")
    await client.settled()

    (conversation,) = await client.conversations()
    assert conversation["metadata"]["accountConfigured"] is False
    assert conversation["clientAccountId"] == "17841499999999999"


async def test_lists_are_filtered_and_paged(client: Client, ana: Conversationalist, bruno: Conversationalist) -> None:
    await client.deliver(ana.says("one"), ana.answers("hello"), bruno.says("two"))
    await client.settled()

    everything = await client.get(LIST)
    assert [one["participantPlatformId"] for one in everything["conversations"]] == [BRUNO, ANA]
    assert (everything["total"], everything["limit"], everything["offset"]) == (2, 50, 0)
    second = await client.get(f"{LIST}?limit=1&offset=1")
    assert [one["participantPlatformId"] for one in second["conversations"]] == [ANA]
    assert (second["total"], second["limit"], second["offset"]) == (2, 1, 1)
    for query, expected in {
        "?hasUnread=true": [BRUNO],
        "?hasUnread=false": [ANA],
        "?status=open": [BRUNO, ANA],
        "?status=closed": [],
        f"?clientAccountId={ACCOUNT}": [BRUNO, ANA],
        "?clientAccountId=1": [],
        f"?clientAccountId={ACCOUNT}&status=open&hasUnread=true": [BRUNO],
    }.items():
        assert [one["participantPlatformId"] for one in await client.conversations(query)] == expected, query


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=201", "limit=x", "limit=-1", "limit=", "offset=-1", "offset=1e3", "limit=١",
        "status=new", "hasUnread=1", "colour=red", "limit=1&limit=2",
    ],
)  # fmt: skip
async def test_bad_parameters_are_explained(client: Client, query: str) -> None:
    problem = await client.get(f"{LIST}?{query}", status=400)

    assert problem["title"] == "Bad Request"
    assert query.split("=", maxsplit=1)[0] in problem["detail"]


@pytest.mark.parametrize("path", ["/999", "/x", "/-1", "/99999999999999999999999", "/1/messages", "/1/nothing"])
async def test_what_is_not_there_is_404(client: Client, path: str) -> None:
    assert (await client.get(LIST + path, status=404))["status"] == 404


@pytest.mark.parametrize("path", [LIST, "/api/deliveries", "/metrics", "/nowhere", "/"])
@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", f"Basic {ADMIN_TOKEN}", ADMIN_TOKEN, "Bearer é"])
async def test_without_the_token_there_is_nothing(client: Client, path: str, header: str) -> None:
    async with client.session.get(client.admin_url + path, headers={"Authorization": header}) as response:
        problem = await response.json(content_type="application/problem+json")
    assert (response.status, problem["title"]) == (401, "Unauthorized")
    assert response.headers["WWW-Authenticate"].startswith("Bearer")


async def test_bytes_that_are_no_text_are_no_token(client: Client) -> None:
    url = urlsplit(client.admin_url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(
        b"GET /api/deliveries HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\nConnection: close\r\n\r\n"
    )
    answer = await reader.read()
    writer.close()
    assert answer.startswith((b"HTTP/1.1 401 ", b"HTTP/1.1 400 "))


async def test_the_token_is_not_taken_from_the_query(client: Client) -> None:
    await client.get(f"{LIST}?token={ADMIN_TOKEN}", token=None, status=401)


async def test_health_needs_no_token(client: Client) -> None:
    assert await client.get("/healthz", token=None) == {"alive": True}
    assert await client.get("/readyz", token=None) == {"ready": True, "problems": [], "degraded": []}


async def test_metrics_are_told(client: Client, ana: Conversationalist) -> None:
    await client.deliver(ana.says("hi"))
    await client.settled()

    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    async with client.session.get(client.admin_url + "/metrics", headers=headers) as response:
        text = await response.text()
    assert 'inboxd_deliveries_total{result="stored"} 1.0' in text
    assert 'inboxd_webhook_events_total{kind="message"} 1.0' in text
    assert "inboxd_backlog 0.0" in text


async def test_deliveries_can_be_looked_at_and_retried(client: Client) -> None:
    await client.post(b"no json")
    await client.settled()
    (failed,) = (await client.get("/api/deliveries?state=failed"))["deliveries"]
    path = f"/api/deliveries/{failed['id']}"
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}

    assert (await client.get(path))["state"] == "failed"
    async with client.session.get(client.admin_url + path + "/raw", headers=headers) as response:
        assert await response.read() == b"no json"
    async with client.session.post(client.admin_url + path + "/retry", headers=headers) as response:
        assert response.status == 202
    await client.settled()
    assert (await client.get(path))["attempts"] == 1
    async with client.session.post(client.admin_url + "/api/deliveries/99/retry", headers=headers) as response:
        assert response.status == 404


async def test_a_full_disk_is_503_and_unready_until_it_has_room(client: Client, ana: Conversationalist) -> None:
    await client.deliver(ana.says("hi"))
    await client.settled()
    with sqlite3.connect(client.database) as blocker:  # holds the write lock, as a stuck disk would
        blocker.execute("PRAGMA busy_timeout = 5000")
        blocker.execute("BEGIN IMMEDIATE")
        status, _, content_type = await client.post(b"{}")
        assert (status, content_type) == (503, "application/problem+json")
        assert not (await client.get("/readyz", token=None, status=503))["ready"]
        blocker.execute("ROLLBACK")
    blocker.close()

    async def ready() -> bool:
        async with client.session.get(client.admin_url + "/readyz") as response:
            return response.status == 200

    await eventually(ready)
    assert (await client.post(b"{}"))[0] == 200


class TestWithoutAdminToken:
    @pytest.fixture
    def secrets(self, secrets: Secrets) -> Secrets:
        return Secrets(
            app_secrets=secrets.app_secrets,
            verify_token=secrets.verify_token,
            account_tokens=secrets.account_tokens,
        )

    async def test_the_api_is_off_and_health_stays(self, client: Client) -> None:
        assert "no admin_token" in (await client.get(LIST, status=503))["detail"]
        assert (await client.get("/healthz"))["alive"]


async def test_the_views_carry_the_same_fields(client: Client, ana: Conversationalist, settings: Settings) -> None:
    deleted = ana.says("regretted")
    await client.deliver(ana.says("hi"), deleted, ana.unsends(deleted), ana.sends("image"))
    await client.settled()
    (conversation,) = await client.conversations()
    messages = await client.messages(conversation)

    def snake(name: str) -> str:
        return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)

    with sqlite3.connect(f"file:{client.database}?mode=ro", uri=True) as connection:
        connection.row_factory = sqlite3.Row
        (row,) = connection.execute("SELECT * FROM v1_conversations").fetchall()
        rows = connection.execute("SELECT * FROM v1_messages ORDER BY sent_at").fetchall()
    connection.close()
    for name in CONVERSATION.keys() - {"metadata", "updatedAt", "participantUsername", "participantProfilePic"}:
        assert row[snake(name)] == conversation[name], name
    for message, stored in zip(messages, rows, strict=True):
        for name in MESSAGE.keys() - {"attachments"}:
            assert stored[snake(name)] == message[name], name
        assert (stored["deleted_at"] is None) == (message["deletedAt"] is None)
    assert ConversationStatus(row["status"]) is ConversationStatus.OPEN


class TestOneMayWait:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return msgspec.structs.replace(settings, public=msgspec.structs.replace(settings.public, max_waiting=1))

    async def test_a_delivery_that_cannot_wait_for_the_disk_is_not_acknowledged(self, client: Client) -> None:
        with closing(sqlite3.connect(client.database, isolation_level=None)) as blocker:
            blocker.execute("BEGIN IMMEDIATE")
            posts = [asyncio.ensure_future(client.post(b"{}")) for _ in range(2)]
            (refused,), (waiting,) = await asyncio.wait(posts, return_when=asyncio.FIRST_COMPLETED)
            assert refused.result()[0] == 503
            blocker.execute("ROLLBACK")
            assert (await waiting)[0] == 200
        assert (await client.get("/api/deliveries"))["total"] == 1
