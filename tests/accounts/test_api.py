"""Accounts, budgets, participants and avatars over the admin API, and Meta's callbacks about app users."""

import asyncio
import json

import pytest
from inboxd.meta.signed_request import sign_request
from inboxd.simulator.graph_server import Behaviour, GraphServer, Token
from inboxd.simulator.payloads import Conversationalist
from inboxd.simulator.people import igsid, person

from tests.support import ACCOUNT, ADMIN_TOKEN, ANA, APP_SECRET, BRUNO, T0, TOKEN, Client, Json, eventually

OTHER = "17841400000000002"
CALM = Behaviour(latency_ms=1)
Simulated = tuple[GraphServer, str]


async def participant(client: Client, who: str = ANA) -> Json:
    return await client.get(f"/api/participants/{ACCOUNT}/{who}")


async def completed(client: Client, who: str = ANA) -> Json:
    async def has_name() -> bool:
        found = [one for one in await client.conversations() if one["participantPlatformId"] == who]
        return bool(found and found[0]["metadata"]["profileState"] == "complete")

    await eventually(has_name)
    return await participant(client, who)


async def test_adding_an_account_may_take_longer_than_its_request_may_take_to_arrive(
    client: Client, graph: Simulated
) -> None:
    graph[0].tokens["other-token"] = Token(OTHER)
    graph[0].behaviour = Behaviour(latency_ms=700)

    added = await client.send("POST", "/api/accounts", {"token": "other-token"}, status=201)

    assert added["account"]["state"] == "active"


async def test_an_account_is_added_checked_served_and_removed(client: Client, graph: Simulated) -> None:
    graph[0].tokens["other-token"] = Token(OTHER)

    added = await client.send("POST", "/api/accounts", {"token": "other-token", "name": "second shop"}, status=201)
    assert added["account"]["id"] == OTHER
    assert added["account"]["state"] == "active"
    assert "other-token" not in json.dumps(added)
    assert {finding["check"] for finding in added["findings"]} == {"token", "messages", "subscription", "webhooks"}

    listed = (await client.get("/api/accounts"))["accounts"]
    assert [(one["id"], one["configured"]) for one in listed] == [(ACCOUNT, True), (OTHER, False)]

    who = Conversationalist(OTHER, igsid(5), T0)
    await client.deliver(who.says("hi"), account_id=OTHER)

    async def named() -> bool:
        found = await client.conversations(f"?clientAccountId={OTHER}")
        return bool(found and found[0]["participantUsername"])

    await eventually(named)
    checked = await client.send("POST", f"/api/accounts/{OTHER}/check")
    assert {finding["outcome"] for finding in checked["findings"]} == {"ok"}

    await client.send("DELETE", f"/api/accounts/{OTHER}", status=204)
    assert len((await client.get("/api/accounts"))["accounts"]) == 1
    assert len(await client.conversations(f"?clientAccountId={OTHER}")) == 1, "its conversations stay"
    await client.send("DELETE", f"/api/accounts/{OTHER}", status=404)
    await client.send("DELETE", f"/api/accounts/{ACCOUNT}", status=409)


async def test_an_account_that_was_removed_has_no_metrics(client: Client, graph: Simulated) -> None:
    """Else its alert goes on for ever."""

    async def metrics() -> str:
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        async with client.session.get(client.admin_url + "/metrics", headers=headers) as response:
            return await response.text()

    graph[0].tokens["other-token"] = Token(OTHER)
    await client.send("POST", "/api/accounts", {"token": "other-token"}, status=201)
    assert f'inboxd_account_callable{{account="{OTHER}"}} 1.0' in await metrics()
    await client.send("DELETE", f"/api/accounts/{OTHER}", status=204)
    assert OTHER not in await metrics()


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"token": "wrong"}, 422, "190/467"),
        ({"token": "  "}, 422, "access token"),
        ({"token": "né"}, 422, "access token"),
        ({"token": 5}, 422, "'token': Expected text"),
        ({"tokens": "x"}, 422, "tokens"),
        ({}, 422, "token"),
        ({"token": "x", "flavour": "whatsapp"}, 422, "flavour"),
        ({"token": "x", "loginType": "whatsapp"}, 422, "loginType"),
        ({"token": "x", "loginType": "instagram", "flavour": "facebook"}, 422, "give one of them"),
    ],
)
async def test_a_token_that_cannot_be_used_is_refused_with_the_reason(
    client: Client, body: Json, status: int, told: str
) -> None:
    problem = await client.send("POST", "/api/accounts", body, status=status)
    assert told in problem["detail"]


@pytest.mark.parametrize(
    "said",
    [{}, {"loginType": "instagram"}, {"flavour": "instagram"}, {"loginType": "instagram", "flavour": "instagram"}],
)
async def test_the_login_type_goes_by_its_older_name_too(client: Client, graph: Simulated, said: Json) -> None:
    graph[0].tokens["other-token"] = Token(OTHER)
    added = await client.send("POST", "/api/accounts", {"token": "other-token", **said}, status=201)
    assert (added["account"]["loginType"], added["account"]["flavour"]) == ("instagram", "instagram")


async def test_a_silent_platform_is_told_from_a_bad_token(client: Client, graph: Simulated) -> None:
    graph[0].behaviour = Behaviour(latency_ms=1, outage=True)
    problem = await client.send("POST", "/api/accounts", {"token": TOKEN}, status=502)
    assert "Try again later" in problem["detail"]


async def test_the_budget_tells_what_is_left_and_why_it_stops(client: Client, graph: Simulated) -> None:
    async def subscribed() -> bool:
        return (await client.get("/api/accounts"))["accounts"][0]["subscribedFields"] is not None

    await eventually(subscribed)
    (before,) = (await client.get("/api/budget"))["budgets"]
    assert before["used"] + before["remaining"] == before["allowancePerHour"] == 200
    assert before["pausedUntil"] is None

    graph[0].behaviour = Behaviour(latency_ms=1, throttled=True)
    await client.deliver(Conversationalist(ACCOUNT, ANA, T0).says("hi"))

    async def paused() -> bool:
        (budget,) = (await client.get("/api/budget"))["budgets"]
        return bool(budget["pausedUntil"] and "Graph error 4" in budget["pausedReason"])

    await eventually(paused)
    calls = len(graph[0].calls)
    await client.deliver(Conversationalist(ACCOUNT, igsid(7), T0).says("hi"))
    await client.settled()
    await asyncio.sleep(0.2)
    assert len(graph[0].calls) == calls, "no call is made while throttled"


async def test_what_waits_for_a_login_goes_on_by_itself_when_there_is_a_new_token(
    client: Client, graph: Simulated
) -> None:
    server, _ = graph
    server.behaviour = Behaviour(latency_ms=1, token_expired=True)
    await client.deliver(Conversationalist(ACCOUNT, ANA, T0).says("hi"))

    async def stopped() -> bool:
        return bool((await client.get(f"/api/accounts/{ACCOUNT}"))["state"] == "needs_login")

    await eventually(stopped)
    await client.settled()
    assert (await participant(client))["profileState"] == "pending"
    server.behaviour = CALM
    server.tokens["new-token"] = Token(ACCOUNT)
    await client.send("POST", "/api/accounts", {"token": "new-token"}, status=201)
    known = person(ANA)
    assert known is not None
    assert (await completed(client))["username"] == known.username


async def test_participants_show_how_their_profile_stands(client: Client, graph: Simulated) -> None:
    server, _ = graph
    server.behaviour = Behaviour(latency_ms=1, no_consent=(ANA,))
    who = Conversationalist(ACCOUNT, ANA, T0)
    await client.deliver(who.answers("Hello, you commented"))

    async def refused() -> bool:
        return bool((await client.conversations())[0]["metadata"]["profileState"] == "no_consent")

    await client.settled()
    await eventually(refused)
    waiting = await participant(client)
    assert "consent" in waiting["reason"]
    assert waiting["nextAttemptAt"] is None
    (listed,) = (await client.get("/api/participants?profileState=no_consent"))["participants"]
    assert listed == waiting

    async with client.session.put(f"{graph[1]}/_simulator/consent/{ANA}") as response:
        assert response.status == 204
    await client.deliver(who.says("hi!"))
    assert (await completed(client))["previousUsernames"] == []
    await client.get(f"/api/participants/{ACCOUNT}/42", status=404)


async def test_somebody_to_whom_the_account_writes_first_is_asked_about_at_once(
    client: Client, graph: Simulated
) -> None:
    graph[0].behaviour = Behaviour(latency_ms=1, no_consent=(ANA,))
    await client.deliver(Conversationalist(ACCOUNT, BRUNO, T0).says("hi"))
    await completed(client, BRUNO)
    await client.deliver(Conversationalist(ACCOUNT, ANA, T0).answers("Hello, you commented"))
    await client.settled()

    async def refused() -> bool:
        return bool((await participant(client))["profileState"] == "no_consent")

    await eventually(refused, within_s=5)


async def test_avatars_are_served_with_long_cache_headers(client: Client) -> None:
    number = next(n for n in range(50) if (one := person(igsid(n))) is not None and one.has_picture)
    who = igsid(number)
    await client.deliver(Conversationalist(ACCOUNT, who, T0).says("hi"))
    await completed(client, who)

    async def has_avatar() -> bool:
        return (await participant(client, who))["avatar"] is not None

    await eventually(has_avatar)
    (conversation,) = await client.conversations()
    address = conversation["participantAvatar"]
    assert conversation["participantProfilePic"].startswith("http")

    headers = {"Authorization": "Bearer the-admin-token"}
    async with client.session.get(client.admin_url + address, headers=headers) as response:
        assert response.status == 200
        assert response.content_type == "image/webp"
        assert "immutable" in response.headers["Cache-Control"]
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert (await response.read())[8:12] == b"WEBP"
        etag = response.headers["ETag"]
    async with client.session.get(client.admin_url + address, headers={**headers, "If-None-Match": etag}) as response:
        assert response.status == 304
    await client.get(address, token=None, status=401)
    await client.get("/avatars/" + "0" * 64, status=404)
    await client.get("/avatars/..%2fstorage.key", status=404)


async def callback(client: Client, name: str, signed: str, *, status: int = 200) -> Json:
    url = f"{client.public_url}/webhooks/instagram/{name}"
    async with client.session.post(url, data={"signed_request": signed}) as response:
        assert response.status == status, await response.text()
        text = await response.text()
        found: Json = json.loads(text) if text else {}
        return found


def signed(user_id: str, secret: str = APP_SECRET) -> str:
    payload = {"user_id": user_id, "algorithm": "HMAC-SHA256", "issued_at": 1_790_000_000}
    return sign_request(json.dumps(payload).encode(), secret)


async def test_who_removes_the_app_is_not_called_for_any_more(client: Client, graph: Simulated) -> None:
    await client.send("POST", f"/api/accounts/{ACCOUNT}/check")
    for _ in range(2):
        await callback(client, "deauthorize", signed(f"9{ACCOUNT}"))
    account = await client.get(f"/api/accounts/{ACCOUNT}")
    assert account["state"] == "deauthorized"
    assert account["username"] is None

    calls = len(graph[0].calls)
    await client.deliver(Conversationalist(ACCOUNT, ANA, T0).says("hi"))
    await client.settled()
    assert len(graph[0].calls) == calls

    await callback(client, "deauthorize", signed("12345"))
    await callback(client, "deauthorize", signed(ACCOUNT, "wrong"), status=401)
    await callback(client, "deauthorize", "nonsense", status=401)
    async with client.session.post(f"{client.public_url}/webhooks/instagram/deauthorize") as response:
        assert response.status == 415


async def test_a_deletion_request_deletes_everything_of_the_account_and_tells_when(client: Client) -> None:
    for number in range(30):
        await client.deliver(Conversationalist(ACCOUNT, igsid(number), T0).says("hi"))
    await client.deliver(Conversationalist(OTHER, igsid(1), T0).says("hi"), account_id=OTHER)
    await client.settled()

    answer = await callback(client, "data-deletion", signed(ACCOUNT))
    assert await callback(client, "data-deletion", signed(ACCOUNT)) == answer, "asking twice is asking once"
    assert answer["url"].endswith(f"/webhooks/instagram/data-deletion/{answer['confirmation_code']}")
    page = client.public_url + "/webhooks/instagram/data-deletion/" + answer["confirmation_code"]

    async def finished() -> bool:
        async with client.session.get(page) as response:
            assert response.status == 200
            assert response.content_type == "text/html"
            assert "default-src 'none'" in response.headers["Content-Security-Policy"]
            return "completed at" in await response.text()

    await eventually(finished, within_s=40)
    (left,) = await client.conversations()
    assert left["clientAccountId"] == OTHER
    assert (await client.get("/api/participants"))["total"] == 1
    assert (await client.get("/api/deliveries"))["total"] == 1
    (account,) = (await client.get("/api/accounts"))["accounts"]
    assert account["state"] == "deauthorized", "no calls are made with a token that was taken back"

    async with client.session.get(page[:-1] + ("0" if page[-1] != "0" else "1")) as response:
        assert response.status == 404


async def test_somebody_unknown_asks_for_deletion_and_gets_a_receipt(client: Client) -> None:
    answer = await callback(client, "data-deletion", signed("12345"))
    async with client.session.get(
        client.public_url + "/webhooks/instagram/data-deletion/" + answer["confirmation_code"]
    ) as response:
        assert "nothing of this person is kept here" in await response.text()


async def test_the_log_says_that_a_check_found_an_account_well_again(
    client: Client, graph: Simulated, capsys: pytest.CaptureFixture[str]
) -> None:
    graph[0].behaviour = Behaviour(latency_ms=1, token_expired=True)
    await client.send("POST", f"/api/accounts/{ACCOUNT}/check")
    assert (await client.get(f"/api/accounts/{ACCOUNT}"))["state"] == "needs_login"
    graph[0].behaviour = Behaviour(latency_ms=1)
    capsys.readouterr()
    for _ in range(2):
        await client.send("POST", f"/api/accounts/{ACCOUNT}/check")
    logged = [line for line in capsys.readouterr().out.splitlines() if "account_state" in line]
    assert len(logged) == 1
    assert "state=active" in logged[0]
