"""Webhook endpoints over the admin API: created, shown, changed, tested and removed; secrets are shown once."""

import asyncio
import socket
from typing import Any

import msgspec
import pytest
from aiohttp import web
from inboxd.config.secrets import NamedToken, Secrets
from inboxd.runtime.secret import Secret
from inboxd.simulator.payloads import Conversationalist
from standardwebhooks import Webhook

from tests.forwarding.receivers import Receiver, receiving
from tests.support import ACCOUNT, ADMIN_TOKEN, ANA, T0, Client, Json, eventually

PATH = "/api/webhook-endpoints"
READER = "a-token-that-reads"
HOOK = "https://127.0.0.1:9/hook"


async def create(client: Client, url: str = HOOK, status: int = 201, **more: Any) -> Json:
    found: Json = await client.send("POST", PATH, {"url": url, **more}, status=status)
    return found


async def test_an_endpoint_is_created_with_a_secret_that_is_shown_once(client: Client) -> None:
    made = await create(client, eventTypes=["message.*"], description="CRM", rateLimit=5, timeoutSeconds=3)

    assert made["id"].startswith("we_")
    assert made["secret"].startswith("whsec_")
    assert (made["kind"], made["state"], made["eventTypes"], made["rateLimit"]) == ("standard", "ok", ["message.*"], 5)
    shown = await client.get(f"{PATH}/{made['id']}")
    listed = await client.get(PATH)
    assert shown == {name: value for name, value in made.items() if name != "secret"}
    assert listed == {"endpoints": [shown], "total": 1}
    stored = client.database.read_bytes() + client.database.with_name("inboxd.sqlite3-wal").read_bytes()
    assert made["secret"].encode() not in stored


async def test_an_endpoint_gets_what_happens_from_now_on(client: Client) -> None:
    ana = Conversationalist(ACCOUNT, ANA, T0)
    await client.deliver(ana.says("before"))
    await client.settled()
    async with receiving() as receiver:
        made = await create(client, receiver.url, eventTypes=["message.received"])
        await client.deliver(ana.says("hello"), ana.says("anybody there?"))

        await eventually_delivered(receiver, 2)
        assert [event["data"]["message"]["content"] for event in receiver.delivered] == ["hello", "anybody there?"]
        for body, headers in zip(receiver.bodies, receiver.headers, strict=True):
            verified = Webhook(made["secret"]).verify(body, headers)
            assert verified["id"] == headers["webhook-id"]
            assert headers["content-type"] == "application/json"

        async def told() -> bool:
            shown = await client.get(f"{PATH}/{made['id']}")
            return bool(shown["behindBy"] == 0 and shown["lastSuccessAt"])

        await eventually(told)
        attempts = await client.get(f"{PATH}/{made['id']}/attempts")
        assert [one["eventId"] for one in reversed(attempts["attempts"])] == receiver.ids
        assert {(one["status"], one["delivered"], one["response"]) for one in attempts["attempts"]} == {
            (200, True, "fine")
        }


async def eventually_delivered(receiver: Receiver, count: int) -> None:
    async def there() -> bool:
        return len(receiver.delivered) >= count

    await eventually(there)


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("ftp://example.com/hook", "begins with https"),
        ("https://", "begins with https"),
        ("nothing", "begins with https"),
        ("http://user:password@example.com/", "user name"),
        ("http://[::1", "not a URL"),
        ("http://169.254.169.254/latest/meta-data", "link-local"),
        ("http://169.254.1.1/", "link-local"),
        ("http://[fe80::1]/", "link-local"),
        ("http://[fd00:ec2::254]/", "link-local"),
        ("http://[::ffff:169.254.169.254]/", "link-local"),
        ("http://[64:ff9b::a9fe:a9fe]/", "link-local"),
        ("http://100.100.100.200/", "link-local"),
        ("http://2852039166/", "neither a name"),
        ("http://0.0.0.0:8080/", "link-local"),
        ("http://[::]/", "link-local"),
        ("http://224.0.0.1/", "link-local"),
        ("http://example.com/" + "a" * 2048, "length"),
    ],
)
async def test_addresses_that_are_no_receivers_are_refused(client: Client, url: str, said: str) -> None:
    problem = await create(client, url, status=422)
    assert said in problem["detail"]
    assert (await client.get(PATH))["total"] == 0


async def test_a_name_that_leads_to_a_metadata_address_is_refused(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    lead_to(monkeypatch, "metadata.example", "169.254.169.254")
    problem = await create(client, "http://metadata.example/hook?token=very-secret", status=422)
    assert "name of this host leads" in problem["detail"]
    assert "very-secret" not in problem["detail"]


def lead_to(monkeypatch: pytest.MonkeyPatch, name: str, address: str) -> None:
    """DNS says that `name` is at `address`."""
    real = asyncio.get_running_loop().getaddrinfo

    async def lie(host: Any, port: Any, **more: Any) -> Any:
        if host != name:
            return await real(host, port, **more)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port or 0))]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", lie, raising=False)


async def test_types_that_do_not_exist_are_refused_with_those_that_do(client: Client) -> None:
    problem = await create(client, eventTypes=["message.*", "massage.received"], status=422)
    assert "'massage.received'" in problem["detail"]
    assert "message.received" in problem["detail"]
    assert (await create(client, eventTypes=[], status=422))["title"] == "Unprocessable Entity"
    meta = await create(client, kind="meta", eventTypes=["message.*"], status=422)
    assert "kind 'meta'" in meta["detail"]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"eventTypes": "message.received"}, "'eventTypes': Expected a list or null, got text."),
        ({"url": ""}, "'url': Expected text of length >= 1."),
        ({"kind": "special"}, "'kind': Expected 'standard' or 'meta', got 'special'."),
        ({"rateLimit": "9"}, "'rateLimit': Expected a number, got text."),
        ({"accountIds": [ACCOUNT, 5]}, "'accountIds[1]': Expected text, got a whole number."),
    ],
)
async def test_a_wrong_member_is_said_in_words(client: Client, wrong: dict[str, Any], said: str) -> None:
    problem = await client.send("POST", PATH, {"url": "http://127.0.0.1:9/", **wrong}, status=422)
    assert problem["detail"] == said


async def test_a_cursor_must_be_text(client: Client) -> None:
    made = await create(client)
    problem = await client.send("POST", f"{PATH}/{made['id']}/replay", {"after": 4}, status=422)
    assert problem["detail"] == "'after': Expected text or null, got a whole number."


async def test_redirects_are_not_followed_and_that_is_said(client: Client) -> None:
    async with receiving() as receiver:
        receiver.respond = lambda _request, _event: web.Response(status=307, headers={"Location": receiver.url})
        made = await create(client, receiver.url, enabled=False)
        tested = await client.send("POST", f"{PATH}/{made['id']}/test")
        assert (tested["delivered"], tested["status"], len(receiver.bodies)) == (False, 307, 1)
        assert "redirects are not followed" in tested["error"]


async def test_only_what_is_given_is_changed(client: Client) -> None:
    made = await create(client, eventTypes=["message.*"], description="CRM")
    changed = await client.send("PATCH", f"{PATH}/{made['id']}", {"accountIds": [ACCOUNT], "timeoutSeconds": 2})

    assert (changed["accountIds"], changed["timeoutSeconds"]) == ([ACCOUNT], 2)
    assert (changed["eventTypes"], changed["description"], changed["url"]) == (["message.*"], "CRM", HOOK)
    refused = await client.send("PATCH", f"{PATH}/{made['id']}", {"url": "http://169.254.169.254/"}, status=422)
    assert "link-local" in refused["detail"]
    assert (await client.get(f"{PATH}/{made['id']}"))["url"] == HOOK


async def test_a_disabled_endpoint_goes_on_where_it_was(client: Client) -> None:
    ana = Conversationalist(ACCOUNT, ANA, T0)
    async with receiving() as receiver:
        made = await create(client, receiver.url, eventTypes=["message.received"])
        await client.deliver(ana.says("one"))
        await eventually_delivered(receiver, 1)
        off = await client.send("PATCH", f"{PATH}/{made['id']}", {"enabled": False})
        assert (off["state"], off["disabledReason"]) == ("disabled", None)
        await client.deliver(ana.says("two"))
        await client.settled()
        assert (await client.get(f"{PATH}/{made['id']}"))["behindBy"] > 0
        assert len(receiver.bodies) == 1

        await client.send("PATCH", f"{PATH}/{made['id']}", {"enabled": True})
        await eventually_delivered(receiver, 2)
        assert [event["data"]["message"]["content"] for event in receiver.events] == ["one", "two"]


async def test_what_is_removed_gets_nothing_more(client: Client) -> None:
    async with receiving() as receiver:
        made = await create(client, receiver.url)
        await client.send("DELETE", f"{PATH}/{made['id']}", status=204)
        await client.deliver(Conversationalist(ACCOUNT, ANA, T0).says("hello"))
        await client.settled()
        assert receiver.bodies == []
        for path in ("", "/attempts", "/failures"):
            await client.get(f"{PATH}/{made['id']}{path}", status=404)
        await client.send("DELETE", f"{PATH}/{made['id']}", status=404)


async def test_both_secrets_are_valid_for_a_time_after_a_rotation(client: Client) -> None:
    async with receiving() as receiver:
        made = await create(client, receiver.url, eventTypes=["message.received"])
        rotated = await client.send("POST", f"{PATH}/{made['id']}/rotate-secret?keepSeconds=3600")
        assert rotated["secret"] != made["secret"]
        await client.deliver(Conversationalist(ACCOUNT, ANA, T0).says("hello"))
        await eventually_delivered(receiver, 1)

        for secret in (made["secret"], rotated["secret"]):
            assert Webhook(secret).verify(receiver.bodies[0], receiver.headers[0])
        assert len(receiver.headers[0]["webhook-signature"].split(" ")) == 2

        again = await client.send("POST", f"{PATH}/{made['id']}/rotate-secret?keepSeconds=0")
        await client.send("POST", f"{PATH}/{made['id']}/test")
        assert Webhook(again["secret"]).verify(receiver.bodies[1], receiver.headers[1])
        assert len(receiver.headers[1]["webhook-signature"].split(" ")) == 1
        meta = await create(client, receiver.url, kind="meta")
        assert meta["secret"] is None
        refused = await client.send("POST", f"{PATH}/{meta['id']}/rotate-secret", status=422)
        assert "no secret" in refused["detail"]


async def test_a_sample_is_sent_at_once_and_its_answer_told(client: Client) -> None:
    async with receiving() as receiver:
        made = await create(client, receiver.url, enabled=False)
        tested = await client.send("POST", f"{PATH}/{made['id']}/test?type=message.received")
        assert (tested["delivered"], tested["status"], tested["response"]) == (True, 200, "fine")
        assert Webhook(made["secret"]).verify(receiver.bodies[0], receiver.headers[0])["id"] == tested["eventId"]
        assert receiver.events[0]["type"] == "message.received"
        assert receiver.events[0]["data"]

        receiver.respond = lambda _request, _event: 503
        failed = await client.send("POST", f"{PATH}/{made['id']}/test")
        assert (failed["delivered"], failed["status"]) == (False, 503)
        assert "503" in failed["error"]
        refused = await client.send("POST", f"{PATH}/{made['id']}/test?type=no.such", status=422)
        assert "message.received" in refused["detail"]
    nobody = await client.send("POST", f"{PATH}/{made['id']}/test")
    assert (nobody["delivered"], nobody["status"]) == (False, None)


async def test_a_replay_sends_the_same_events_again(client: Client) -> None:
    ana = Conversationalist(ACCOUNT, ANA, T0)
    async with receiving() as receiver:
        made = await create(client, receiver.url, eventTypes=["message.received"])
        for text in ("one", "two", "three"):
            await client.deliver(ana.says(text))
        await eventually_delivered(receiver, 3)
        first = receiver.ids[:3]
        replayed = await client.send("POST", f"{PATH}/{made['id']}/replay", {"after": made["cursor"]})
        assert int(replayed["cursor"]) == int(made["cursor"])
        await eventually_delivered(receiver, 6)
        assert receiver.ids[3:] == first

        await client.send("POST", f"{PATH}/{made['id']}/replay", {"since": "2020-01-01T00:00:00+00:00"})
        await eventually_delivered(receiver, 9)
        assert receiver.ids[6:] == first
        for wrong in ({}, {"after": "1", "since": "2020-01-01T00:00:00Z"}, {"since": "yesterday"}, {"after": "999999"}):
            await client.send("POST", f"{PATH}/{made['id']}/replay", wrong, status=422)
        later = await client.send("POST", f"{PATH}/{made['id']}/replay", {"since": "2999-01-01T00:00:00Z"}, status=422)
        assert "in the future" in later["detail"]


async def test_there_are_no_more_endpoints_than_can_be_looked_after(client: Client) -> None:
    for _ in range(100):
        await create(client, enabled=False)
    problem = await create(client, status=409)
    assert "Delete one first" in problem["detail"]


@pytest.fixture
def secrets(secrets: Secrets) -> Secrets:
    return msgspec.structs.replace(secrets, named_tokens=(NamedToken("reader", ("read",), Secret(READER)),))


async def test_reading_needs_the_read_scope_and_changing_the_write_scope(client: Client) -> None:
    made = await create(client)
    one = f"{PATH}/{made['id']}"
    assert (await client.get(one, token=READER))["id"] == made["id"]
    await client.send("POST", PATH, {"url": HOOK}, token=READER, status=403)
    for method, path in (("PATCH", one), ("DELETE", one), ("POST", f"{one}/test"), ("POST", f"{one}/rotate-secret")):
        await client.send(method, path, {}, token=READER, status=403)


async def test_the_overview_shows_each_endpoint_and_names_no_secret(client: Client) -> None:
    async with receiving() as receiver:
        receiver.respond = lambda _request, _event: 410
        made = await create(client, f"{receiver.url}?token=very-secret", description="<CRM>")
        await client.deliver(Conversationalist(ACCOUNT, ANA, T0).says("hello"))

        async def disabled() -> bool:
            return bool((await client.get(f"{PATH}/{made['id']}"))["state"] == "disabled")

        await eventually(disabled)
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}", "Accept": "text/html"}
    async with client.session.get(client.admin_url + "/", headers=headers) as response:
        page = await response.text()
    assert "The webhook endpoint &lt;CRM&gt; is disabled" in page
    assert "Webhook endpoints" in page
    assert "very-secret" not in page
    async with client.session.get(client.admin_url + "/metrics", headers=headers) as response:
        metrics = await response.text()
    assert f'inboxd_forwarding_disabled{{endpoint="{made["id"]}"}} 1.0' in metrics
    assert "very-secret" not in metrics
