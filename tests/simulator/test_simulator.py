import asyncio
import io
import json
from typing import Any

import aiohttp
from aiohttp import web
from inboxd.meta.signature import HEADER, SignatureVerifier, Verdict
from inboxd.simulator.avatars import avatar
from inboxd.simulator.graph_server import CONTROL_PATH, Behaviour, GraphServer, Token
from inboxd.simulator.limits import RateLimit
from inboxd.simulator.people import igsid, person
from inboxd.simulator.sender import Unreliability, WebhookSender
from inboxd.simulator.serving import serving
from inboxd.simulator.standalone import TRAFFIC_PATH, Traffic, serve
from inboxd.simulator.story import PEOPLE, story
from PIL import Image

from tests.e2e.conftest import free_port
from tests.support import ACCOUNT, ANA, APP_SECRET, T0, TOKEN, decoded, eventually


def test_people_are_the_same_every_time_and_of_every_kind() -> None:
    people = [person(igsid(number)) for number in range(500)]
    known = [one for one in people if one is not None]

    assert known == [person(igsid(number)) for number in range(500)]
    assert len({one.username for one in known}) == 500
    assert any(one.name is None for one in known)
    assert any(not one.has_picture for one in known)
    assert any(one.name is not None and not one.name.isascii() for one in known)
    assert person("42") is None


def test_pictures_are_pictures() -> None:
    assert avatar(ANA) == avatar(ANA)
    assert Image.open(io.BytesIO(avatar(ANA))).size == (320, 320)


def test_the_story_has_every_kind_of_event() -> None:
    kinds = {event.kind for payload in story(ACCOUNT, T0) for event in decoded(json.dumps(payload).encode())}

    assert kinds >= {
        "message", "echo", "self_message", "delete", "unsupported", "edit", "reaction", "seen", "postback",
        "referral", "optin", "pass_thread_control", "comment", "test", "edit_companion",
    }  # fmt: skip
    assert "unknown" not in kinds


async def test_behaviour_can_be_switched_over_http(graph: tuple[GraphServer, str]) -> None:
    server, url = graph
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(headers=headers) as session:
        async with session.put(url + CONTROL_PATH, data=b'{"throttled": true, "latency_ms": 0}') as response:
            assert response.status == 200
        async with session.get(f"{url}/v25.0/{ANA}") as response:
            assert (await response.json())["error"]["code"] == 4
            assert '"call_count": 100' in response.headers["X-App-Usage"]
        async with session.put(url + CONTROL_PATH, data=b'{"thortled": true}') as response:
            assert response.status == 400
        async with session.put(url + CONTROL_PATH, data=b'{"latency_ms": 0}') as response:
            assert response.status == 200
        async with session.get(f"{url}/v25.0/me") as response:
            assert (await response.json())["user_id"] == ACCOUNT
        async with session.get(f"{url}/v25.0/{ANA}?fields=profile_picture_url") as response:
            assert (await response.json())["error"]["code"] == 100
    assert len(server.calls) == 3


def test_no_two_messages_of_a_story_have_one_id() -> None:
    items = [
        item for payload in story(ACCOUNT, T0) for entry in payload["entry"] for item in entry.get("messaging", [])
    ]
    items += [item for payload in story(ACCOUNT, T0) for item in payload["entry"][0].get("standby", [])]
    mids = [one["message"]["mid"] for one in items if "message" in one and not one["message"].get("is_deleted")]
    assert len(mids) == len(set(mids)) > 50


async def test_the_sender_signs_repeats_and_retries() -> None:
    got: list[bytes] = []
    verdicts: list[Verdict] = []

    async def receive(request: web.Request) -> web.Response:
        body = await request.read()
        verdicts.append(SignatureVerifier([APP_SECRET]).check(request.headers.get(HEADER), body))
        got.append(body)
        return web.Response(status=503 if len(got) % 3 == 1 else 200)

    app = web.Application()
    app.router.add_post("/", receive)
    payloads = story(ACCOUNT, T0, people=5)
    async with serving(app) as url, aiohttp.ClientSession() as session:
        sender = WebhookSender(session, f"{url}/", APP_SECRET)
        assert await sender.send_all(payloads, Unreliability(duplicates=0.5, late=0.5)) == 0

    assert set(verdicts) == {Verdict.VALID}
    assert sender.acknowledged > len(payloads)
    assert {len(set(got))} == {len(payloads)}


async def test_traffic_is_sent_again_as_the_switches_say() -> None:
    got: list[str] = []

    async def receive(request: web.Request) -> web.Response:
        for entry in (await request.json())["entry"]:
            got.extend(one["sender"]["id"] for one in entry.get("messaging", ()) if "sender" in one)
        return web.Response()

    app = web.Application()
    app.router.add_post("/", receive)
    instagram = GraphServer({TOKEN: ACCOUNT})
    async with serving(app) as hook, aiohttp.ClientSession() as session:
        traffic = Traffic(ACCOUNT, WebhookSender(session, f"{hook}/", APP_SECRET, instagram=instagram))
        acknowledged, given_up = await traffic.send()
        first = set(got) - {ACCOUNT}
        assert (acknowledged > 50, given_up, len(first)) == (True, 0, PEOPLE)
        got.clear()
        await traffic.send()
        assert len(set(got) - first - {ACCOUNT}) == PEOPLE, "other people"
        got.clear()
        instagram.behaviour = Behaviour(webhooks_dropped=1)
        assert await traffic.send() == (0, 0)
    assert got == []
    people = {one.participant_id for one in instagram.mailbox.truth()} - {ACCOUNT}
    assert len(people) == 3 * PEOPLE, "what no webhook told of happened all the same"


async def test_without_an_address_there_is_no_traffic() -> None:
    port = free_port()
    running = asyncio.ensure_future(serve(port=port, account_id=ACCOUNT, webhook_url=None, app_secret=""))
    async with aiohttp.ClientSession() as session:

        async def status() -> bool:
            try:
                async with session.post(f"http://127.0.0.1:{port}{TRAFFIC_PATH}") as response:
                    return response.status == 409 and "--webhook-url" in await response.text()
            except aiohttp.ClientError:
                return False

        await eventually(status)
    running.cancel()


async def test_tokens_end_after_sixty_days_unless_they_are_refreshed() -> None:
    now = [1_790_000_000.0]
    server = GraphServer({TOKEN: Token(ACCOUNT, issued_at=now[0])}, now=lambda: now[0])
    server.behaviour = Behaviour(latency_ms=0)
    async with serving(server.application()) as url, aiohttp.ClientSession() as session:

        async def ask(path: str, token: str = TOKEN) -> tuple[int, dict[str, Any]]:
            async with session.get(url + path, headers={"Authorization": f"Bearer {token}"}) as response:
                return response.status, await response.json()

        now[0] += 59 * 86_400
        assert (await ask("/v25.0/me"))[0] == 200
        _, refreshed = await ask("/refresh_access_token")
        now[0] += 2 * 86_400
        assert (await ask("/v25.0/me", refreshed["access_token"]))[0] == 200
        now[0] += 60 * 86_400
        assert (await ask("/v25.0/me", refreshed["access_token"]))[1]["error"]["error_subcode"] == 463


async def test_whoever_goes_on_calling_beyond_the_limit_waits_longer() -> None:
    now = [0.0]
    limit = RateLimit(ACCOUNT, 5, 60.0, lambda: now[0])
    assert [limit.admit() for _ in range(7)] == [True] * 5 + [False] * 2
    now[0] = 70
    assert not limit.admit(), "half a window was added for the call that was made while blocked"
    now[0] = 170
    assert limit.admit()
    assert limit.violations == 3
