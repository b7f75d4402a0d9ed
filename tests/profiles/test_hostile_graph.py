"""The daemon against a Graph API whose answers are absurd: it records that, goes on, and can show everybody."""

import json
import random
from collections.abc import AsyncIterator

import aiohttp
import msgspec
import pytest
from inboxd.config.schema import BudgetSettings, Settings
from inboxd.simulator.payloads import Conversationalist
from inboxd.simulator.people import igsid
from inboxd.simulator.serving import serving

from tests.hostile import ODD, PROFILE, HostileGraph, encoded, replaced
from tests.support import ACCOUNT, ADMIN_TOKEN, OWN_PAGE, T0, Client, eventually

SEED = 20261124
NORMAL = igsid(9999)


@pytest.fixture
async def hostile() -> AsyncIterator[tuple[HostileGraph, str]]:
    server = HostileGraph()
    async with serving(server.application()) as url:
        yield server, url


@pytest.fixture
def settings(settings: Settings, hostile: tuple[HostileGraph, str]) -> Settings:
    asked = msgspec.structs.replace(settings.instagram, graph_url=hostile[1], facebook_graph_url=hostile[1])
    return msgspec.structs.replace(
        settings, instagram=asked, budget=BudgetSettings(calls_per_hour=100_000, calls_per_second=1000)
    )


async def named(client: Client, who: str) -> None:
    async def has_name() -> bool:
        found = await client.get(f"/api/participants/{ACCOUNT}/{who}")
        return bool(found["username"])

    await client.deliver(Conversationalist(ACCOUNT, who, T0).says("hi"))
    await client.settled()
    await eventually(has_name)


async def everything_can_be_shown(client: Client, people: int) -> None:
    """Every list that holds a person, and every page; all of it valid JSON and valid UTF-8."""
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    paths = ["/api/accounts", "/api/budget", "/api/workers", "/metrics"]
    for offset in range(0, people + 1, 200):
        paths.append(f"/api/participants?limit=200&offset={offset}")
        paths.append(f"/api/messaging/conversations?limit=200&offset={offset}")
    for path in paths:
        async with client.session.get(client.admin_url + path, headers=headers) as response:
            body = await response.read()
            assert response.status == 200, (path, body[:500])
            if path.startswith("/api"):
                json.loads(body.decode())
    jar = aiohttp.CookieJar(unsafe=True)
    async with aiohttp.ClientSession(cookie_jar=jar) as browser:
        form = {"token": ADMIN_TOKEN}
        async with browser.post(f"{client.admin_url}/sign-in", data=form, headers=OWN_PAGE) as response:
            assert response.status == 200
        conversations = (await client.conversations("?limit=200"))[:20]
        for path in ["/", "/inbox", "/accounts", *(f"/inbox/{one['id']}" for one in conversations)]:
            async with browser.get(client.admin_url + path, headers={"Accept": "text/html"}) as response:
                assert response.status == 200, path
                (await response.read()).decode()


async def crashes(client: Client) -> float:
    async with client.session.get(
        f"{client.admin_url}/metrics", headers={"Authorization": f"Bearer {ADMIN_TOKEN}"}
    ) as response:
        lines = (await response.text()).splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("inboxd_worker_restarts_total{"))


async def test_no_value_in_a_profile_stops_anything(client: Client, hostile: tuple[HostileGraph, str]) -> None:
    server, _ = hostile
    chance = random.Random(SEED)
    profiles = [replaced(PROFILE, name, value) for name in PROFILE for value in ODD]
    for _ in range(60):  # several members at once
        odd = dict(PROFILE)
        for name in chance.sample(sorted(PROFILE), 4):
            odd = replaced(odd, name, chance.choice(ODD))
        profiles.append(odd)
    bodies = [encoded(profile) for profile in profiles]
    bodies += [b'{"username":"deep","name":' + b"[" * 50_000 + b"]" * 50_000 + b"}"]
    bodies += [b'{"username":"raw","name":"\xff\xfe"}', b'{"username":"twice","username":"second"}']
    people = [igsid(number) for number in range(len(bodies))]
    for who, body in zip(people, bodies, strict=True):
        server.answers[who] = body
    for start in range(0, len(people), 40):
        await client.deliver(*(Conversationalist(ACCOUNT, who, T0).says("hi") for who in people[start : start + 40]))
    await client.settled()
    await named(client, NORMAL)

    async def nobody_waits() -> bool:
        found = await client.get("/api/participants?profileState=pending&limit=200")
        return all(one["attempts"] for one in found["participants"])

    await eventually(nobody_waits, within_s=60)
    assert await crashes(client) == 0
    await everything_can_be_shown(client, len(people))
    known = await client.get(f"/api/participants/{ACCOUNT}/{people[0]}")
    assert known["profileState"] in {"pending", "failed"}, "there is no name without a username"
    huge = next(i for i, one in enumerate(profiles) if one.get("follower_count") == 10**30)
    found = await client.get(f"/api/participants/{ACCOUNT}/{people[huge]}")
    assert (found["username"], found["name"], found["followerCount"]) == ("ana_x", "Ana X", None)
    long = next(i for i, one in enumerate(profiles) if one.get("name") == "x" * 300_000)
    found = await client.get(f"/api/participants/{ACCOUNT}/{people[long]}")
    assert (found["username"], found["name"]) == ("ana_x", None)
    raw = await client.get(f"/api/participants/{ACCOUNT}/{people[len(profiles) + 1]}")
    assert (raw["username"], raw["name"]) == ("raw", None)
    await named(client, igsid(10_000))
