"""Whatever Meta's own signature brings, every page of the API is JSON that a strict decoder reads."""

import asyncio
import json
import re
from typing import Any
from urllib.parse import quote

import pytest
from inboxd.domain.payload import MAX_DEPTH, PayloadForm, readable, shown
from yarl import URL

from tests.support import ACCOUNT, ADMIN_TOKEN, ANA, T0, Client, strict

HEADERS = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
PARTIES = b'"sender":{"id":"%s"},"recipient":{"id":"%s"},"timestamp":%d' % (ANA.encode(), ACCOUNT.encode(), T0)


def nested(depth: int) -> bytes:
    return b"[" * depth + b"]" * depth


ODD = [
    b'"\xff\xfe"',
    b'"caf\xe9"',
    b'{"\xff": 1}',
    b"NaN",
    b'{"a": [NaN, Infinity, -Infinity]}',
    b"1e999",
    b"-1e400000",
    b"1" * 5000,
    b"123456789012345678901234567890",
    b'"\\ud800"',
    b'"\\udc00 and \\ud83d\\ude00"',
    b'"\\u0000"',
    nested(60),
    nested(900),
    *(nested(depth) for depth in range(960, 1000, 3)),
    nested(5000),
    b'"' + b"\xff" * 20_000 + b'"',
    b'"\x01"',
    b"{",
]


def deliveries(value: bytes) -> list[bytes]:
    """Deliveries that have `value` in places where anything may stand."""
    items = [
        b'{%s,"optin":%s}' % (PARTIES, value),
        b'{%s,"pass_thread_control":{"metadata":%s}}' % (PARTIES, value),
        b'{%s,"something_new":%s}' % (PARTIES, value),
        b'{%s,"message":{"mid":"m%d","text":"hi","referral":{"ref":%s}}}' % (PARTIES, hash(value) & 0xFFFF, value),
        b'{%s,"message":{"mid":"a%d","attachments":[{"type":"image","payload":{"url":%s}}]}}'
        % (PARTIES, hash(value) & 0xFFFF, value),
    ]
    entries = [b'{"id":"%s","time":%d,"messaging":[%s]}' % (ACCOUNT.encode(), T0, item) for item in items]
    entries.append(b'{"id":"%s","time":%d,"changes":[{"field":"comments","value":%s}]}' % (ACCOUNT.encode(), T0, value))
    entries.append(b'{"id":%s,"time":%s,"changed_fields":[%s]}' % (value, value, value))
    bodies = [b'{"object":"instagram","entry":[%s]}' % entry for entry in entries]
    return [*bodies, b'{"object":%s,"entry":[{}]}' % value, value]


async def text_of(client: Client, path: str) -> str:
    async with client.session.get(client.admin_url + path, headers=HEADERS) as response:
        assert response.status == 200, path
        return (await response.read()).decode("utf-8")


async def page(client: Client, path: str) -> Any:
    return strict(await text_of(client, path))


async def test_every_page_stays_valid(client: Client) -> None:
    for value in ODD:
        for body in deliveries(value):
            assert (await client.post(body))[0] == 200
    await client.settled()

    cursor: str | None = ""
    events: list[Any] = []
    while cursor is not None:
        found = await page(client, f"/api/webhook-events?limit=50{cursor and f'&cursor={cursor}'}")
        events += found["webhookEvents"]
        cursor = found["nextCursor"]
    assert len(events) > len(ODD)
    assert {one["payloadForm"] for one in events} == {form.value for form in PayloadForm}
    for one in events:
        async with client.session.get(
            f"{client.admin_url}/api/webhook-events/{one['id']}/payload", headers=HEADERS
        ) as raw:
            assert len(await raw.read()) == one["sizeBytes"]
    for path in (
        "/api/deliveries?limit=200",
        "/api/messaging/conversations",
        "/api/participants",
        "/api/workers",
        "/api/accounts",
        "/api/messaging/messages?q=hi",
    ):
        await page(client, path)
    for conversation in await client.conversations():
        await page(client, f"/api/messaging/conversations/{conversation['id']}/messages?limit=200")
        assert "<html" in await text_of(client, f"/inbox/{conversation['id']}")
    for one in (await client.get("/api/deliveries?limit=200"))["deliveries"]:
        await page(client, f"/api/deliveries/{one['id']}")
    for delivery_id in range(1, len(ODD) * 9, 7):
        assert "<html" in await text_of(client, f"/deliveries/{delivery_id}")
    for path in ("/", "/inbox", "/deliveries"):
        assert "<html" in await text_of(client, path)


async def test_what_is_streamed_is_valid_too(client: Client) -> None:
    told: list[Any] = []

    async def listen() -> None:
        async with client.session.get(client.admin_url + "/api/events/stream", headers=HEADERS) as stream:
            began.set()
            async for line in stream.content:
                if line.startswith(b"data: "):
                    data = strict(line.removeprefix(b"data: ").decode("utf-8"))
                    if "cursor" in data:  # where the stream begins
                        continue
                    told.append(data)
                    if data["data"].get("platformMessageId") == "the-last":
                        return

    began = asyncio.Event()
    listening = asyncio.ensure_future(listen())
    await asyncio.wait_for(began.wait(), 20)
    for value in ODD:
        for body in deliveries(value):
            await client.post(body)
    last = b'{%s,"message":{"mid":"the-last","text":"x"}}' % PARTIES
    await client.post(b'{"object":"instagram","entry":[{"id":"%s","messaging":[%s]}]}' % (ACCOUNT.encode(), last))
    await asyncio.wait_for(listening, 20)
    assert len(told) > len(ODD)
    assert any(one["type"] == "delivery.failed" for one in told)


@pytest.mark.parametrize("odd", ["{x}", "}{", "a/b", "../b", "%s%2F", "?a=b#c", "a b", "<b>", "+"])
async def test_whoever_has_an_odd_id_can_be_found_exported_and_forgotten(client: Client, odd: str) -> None:
    item = {"sender": {"id": odd}, "recipient": {"id": f"of {odd}"}, "message": {"mid": "m1", "text": "hi"}}
    await client.deliver(item)
    await client.settled()
    (one,) = (await client.get("/api/participants"))["participants"]
    assert (one["clientAccountId"], one["participantPlatformId"]) == (f"of {odd}", odd)
    url = URL(f"{client.admin_url}/api/participants/{quote(f'of {odd}', safe='')}/{quote(odd, safe='')}", encoded=True)
    async with client.session.get(url, headers=HEADERS) as response:
        assert await response.json() == one
    async with client.session.get(URL(f"{url}/export", encoded=True), headers=HEADERS) as response:
        assert [message["content"] for message in (await response.json())["messages"]] == ["hi"]
    async with client.session.delete(url, headers=HEADERS) as response:
        assert (await response.json())["messages"] == 1


async def test_a_delivery_without_a_body_is_shown(client: Client) -> None:
    assert (await client.post(b""))[0] == 200
    await client.settled()
    assert (await client.get("/api/deliveries/1"))["sizeBytes"] == 0
    for path in ("/deliveries", "/deliveries/1"):
        assert "<html" in await text_of(client, path)
    assert await text_of(client, "/api/deliveries/1/raw") == ""


async def test_what_cannot_be_shown_as_json_is_said(client: Client) -> None:
    await client.post(deliveries(b'"caf\xe9"')[0])
    await client.settled()
    (event,) = (await page(client, "/api/webhook-events"))["webhookEvents"]
    assert (event["payload"]["optin"], event["payloadForm"]) == ("caf\ufffd", "mended")
    async with client.session.get(
        f"{client.admin_url}/api/webhook-events/{event['id']}/payload", headers=HEADERS
    ) as raw:
        assert b"caf\xe9" in await raw.read()
    await client.get("/api/webhook-events/999/payload", status=404)


@pytest.mark.parametrize(
    ("payload", "form", "value"),
    [
        (b'{"a": 1}', "json", {"a": 1}),
        (b'["\\ud83d\\ude00", "\\\\ud83d"]', "json", ["😀", "\\ud83d"]),
        (b'["\\ud83d"]', "mended", ["\ufffd"]),
        (b'["NaN", NaN, 1e999, 1e308]', "mended", ["NaN", None, None, 1e308]),
        (b'["\xff"]', "mended", ["\ufffd"]),
        (b"\xff", "text", "\ufffd"),
        (nested(MAX_DEPTH), "json", json.loads(nested(MAX_DEPTH))),
        (nested(MAX_DEPTH + 1), "text", nested(MAX_DEPTH + 1).decode()),
        (b'["' + b"[" * 100 + b'"]', "json", ["[" * 100]),
        (b"", "text", ""),
    ],
)
def test_a_payload_is_shown_as_near_to_what_it_was_as_json_allows(payload: bytes, form: str, value: object) -> None:
    found = shown(payload)
    assert (found.form, strict(found.json.decode())) == (PayloadForm(form), value)


def test_a_body_is_laid_out_as_far_as_it_is_shown() -> None:
    whole = b'{"a": [1, {}, "x,{"], "b": null}'
    assert json.loads(readable(whole, limit=1000)) == json.loads(whole)
    assert readable(whole, limit=1000).splitlines()[1:3] == ['  "a": [', "    1,"]
    assert readable(whole[:13], limit=1000).splitlines()[3] == "    {},"
    assert len(readable(b"[1," * 40 + b"1," * 10_000, limit=1000)) == 1000
    assert readable(nested(60), limit=10_000) == nested(60).decode()
    assert readable(b"\xff", limit=1000) == "\\xff"


@pytest.mark.parametrize("piece", [b'\\"', b"\\", b'"', b"\\ud800", b"1,", b"[", b"{}", b" ", b"-", b"\xff"])
def test_nothing_takes_longer_than_its_size(piece: bytes) -> None:
    """Twice as much takes about twice the steps, counted in what the regular expressions match, not in seconds."""
    for start in (b"", b'["'):
        payload = start + piece * (60_000 // len(piece))
        assert len(shown(payload).json) <= 6 * len(payload) + 2
        assert re.sub(r"\s", "", readable(payload, limit=200_000)) is not None


async def test_metadata_is_bounded(client: Client) -> None:
    new = {"clientAccountId": ACCOUNT, "participantPlatformId": ANA}
    path = "/api/messaging/conversations"
    for metadata in ({"a": "x" * 70_000}, {"a": json.loads(nested(60))}):
        answer = await client.send("POST", path, {**new, "metadata": metadata}, status=422)
        assert "'metadata' is" in answer["detail"]
    created = await client.send("POST", path, {**new, "metadata": {"a": "x" * 60_000}}, status=201)
    await client.send("PATCH", f"{path}/{created['id']}", {"metadata": {"a": "x" * 70_000}}, status=422)
