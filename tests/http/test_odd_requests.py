"""Odd bytes in every part of a request: errors of the sender, never of ours."""

import asyncio
import json
from urllib.parse import quote, urlsplit

import msgspec
import pytest
from inboxd.config.schema import Logs, Settings
from inboxd.http.auth import COOKIE
from inboxd.simulator.payloads import Conversationalist

from tests.support import ACCOUNT, ADMIN_TOKEN, T0, VERIFY_TOKEN, Client

BEARER = f"Authorization: Bearer {ADMIN_TOKEN}\r\n"
ODD = ["%ff", "%ed%b2%80", "%00", "\xff", "\xed\xb2\x80", "é", "%F0%9F%92%99", "%", "%zz", "'", "<", "%2e%2e", "%0d%0a"]
IDS = ["0", "-1", "00", "9" * 18, "9" * 19, "9" * 40, "1e3", "１", "²", "0x1"]


async def answer_to(client: Client, request: str, *, public: bool = False) -> tuple[int, bytes]:
    """Status and body of what comes back."""
    url = urlsplit(client.public_url if public else client.admin_url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        writer.write(request.encode("latin-1", errors="surrogateescape"))
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
        length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b": 0")
        body = await reader.readexactly(int(length.split(b":")[1]))
        return int(head.split()[1]), body
    finally:
        writer.close()


async def test_a_large_body_behind_a_broken_address_does_not_lose_the_answer(client: Client) -> None:
    """A connection that is closed while the client still sends is reset, and the answer is lost with it."""
    url, size = urlsplit(client.admin_url), 600_000
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    head = f"PATCH /api/conversa\xb5\x86ons/ HTTP/1.1\r\nHost: a\r\n{BEARER}Content-Length: {size}\r\n\r\n"
    writer.write(head.encode("latin-1"))
    for _ in range(12):
        await asyncio.sleep(0.05)
        writer.write(b"x" * (size // 12))
        await writer.drain()
    assert (await asyncio.wait_for(reader.readline(), 10)).split()[1] == b"400"
    writer.close()


async def test_a_broken_request_is_answered_to_the_end_while_more_may_still_come(client: Client) -> None:
    """Who reads to the end does not wait until we have stopped to listen; what they send meanwhile resets nothing."""
    url = urlsplit(client.admin_url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    writer.write(b"GET /\xb5 HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await asyncio.wait_for(reader.read(), 10)).split()[1] == b"400"
    for _ in range(3):
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)
    writer.close()


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, logs=Logs(access_sample=1.0))


@pytest.mark.parametrize("odd", ["{", "}", "{odd}", "a/b", "50%", "%7B", "é ?#;", "..."])
async def test_whoever_has_an_odd_id_can_be_asked_for_and_forgotten(client: Client, odd: str) -> None:
    await client.deliver(Conversationalist(ACCOUNT, odd, T0).says("hi"))
    await client.settled()
    path = f"/api/participants/{ACCOUNT}/{quote(odd, safe='')}"
    assert (await client.get(path))["participantPlatformId"] == odd
    assert [message["content"] for message in (await client.get(path + "/export"))["messages"]] == ["hi"]
    assert (await client.send("DELETE", path))["messages"] == 1
    await client.get(path, status=404)


@pytest.mark.parametrize(
    "path",
    [
        "/api/messaging/conversations/{}",
        "/api/messaging/conversations/{}/messages",
        "/api/messaging/conversations?q={}",
        "/api/messaging/conversations?{}=1",
        "/api/messaging/conversations?cursor={}",
        "/api/messaging/conversations?clientAccountId={}",
        "/api/messaging/conversations?limit={}",
        "/api/messaging/messages?q={}",
        "/api/messaging/messages?q=a&cursor={}",
        "/api/messaging/messages?after={}",
        "/api/messaging/conversations?updatedSince={}",
        "/api/messaging/conversations?participantPlatformId={}",
        "/api/participants?clientAccountId={}",
        "/api/participants/{}",
        "/api/participants/{}/avatar",
        "/api/accounts/{}",
        "/api/deliveries/{}",
        "/api/deliveries/{}/raw",
        "/api/deliveries?state={}",
        "/api/webhook-events?kind={}",
        "/api/webhook-events?cursor={}",
        "/api/workers/backfill-profiles/{}",
        "/api/workers/backfill-profiles/{}/events",
        "/api/workers/backfill-profiles?accountId={}",
        "/api/{}",
        "/{}",
        "/static/{}",
        "/inbox?q={}",
        "/inbox/{}",
        "/inbox?cursor={}",
        "/inbox?offset={}",
        "/backfill/{}",
        "/deliveries/{}",
        "/deliveries?state={}",
        "/sign-in?next=/{}",
        "/sign-in?next={}",
    ],
)
async def test_addresses(client: Client, path: str) -> None:
    found = {}
    for odd in ODD + IDS:
        for accept in ("text/html", "*/*"):
            head = f"GET {path.format(odd)} HTTP/1.1\r\nHost: x\r\nAccept: {accept}\r\n{BEARER}\r\n"
            found[odd, accept] = (await answer_to(client, head.encode().decode("latin-1") if odd in "é１²" else head))[
                0
            ]
    assert not {name: status for name, status in found.items() if status >= 500}


@pytest.mark.parametrize(
    "header",
    [
        "Authorization: Bearer {}",
        "Authorization: {}",
        "Cookie: {}",
        "Cookie: " + COOKIE + "={}",
        "Accept: {}",
        "Accept-Encoding: {}",
        "If-None-Match: {}",
        'If-None-Match: "{}"',
        "Last-Event-ID: {}",
        "Idempotency-Key: {}",
        "Content-Type: {}",
        "Content-Type: application/json; charset={}",
        "X-CSRF-Token: {}",
        "Sec-Fetch-Site: {}",
        "Origin: {}",
        "Origin: http://{}",
        "X-Forwarded-Proto: {}",
        "Expect: {}",
        "Content-Encoding: {}",
        "Range: {}",
        "If-Modified-Since: {}",
        "X-Hub-Signature-256: {}",
        "Content-Type: multipart/form-data; boundary={}",
    ],
)
async def test_headers(client: Client, header: str) -> None:
    found = {}
    for odd in [*ODD, "=", ",", ";", '"', '"é', "é; q=x", "*;q=9", "gzip;q=é"]:
        line = header.format(odd)
        own = "" if line.startswith("Authorization") else BEARER
        for request in (
            f"GET /api/messaging/conversations HTTP/1.1\r\nHost: x\r\n{own}{line}\r\n\r\n",
            f"GET /metrics HTTP/1.1\r\nHost: x\r\n{own}{line}\r\n\r\n",
            f"GET /inbox HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n{line}\r\n\r\n",
            f"POST /api/workers/backfill-profiles HTTP/1.1\r\nHost: x\r\n{own}{line}\r\nContent-Length: 2\r\n\r\n{{}}",
            f"POST /sign-in HTTP/1.1\r\nHost: x\r\n{line}\r\nContent-Length: 7\r\n\r\ntoken=x",
            f"POST /sign-out HTTP/1.1\r\nHost: x\r\n{line}\r\nContent-Length: 7\r\n\r\ntoken=x",
        ):
            status, body = await answer_to(client, request)
            if status >= 500:
                found[odd, request] = body
    assert not found


@pytest.mark.parametrize("path", ["/webhooks/instagram", "/webhooks/instagram/deauthorize"])
async def test_the_public_side(client: Client, path: str) -> None:
    found = {}
    form = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    for odd in ODD:
        handshake = f"{path}?hub.mode=subscribe&hub.challenge={odd}"
        for request in (
            f"GET {handshake}&hub.verify_token={odd} HTTP/1.1\r\nHost: x\r\n\r\n",
            f"GET {handshake}&hub.verify_token={VERIFY_TOKEN} HTTP/1.1\r\nHost: x\r\n\r\n",
            f"POST {path} HTTP/1.1\r\nHost: {odd}\r\nContent-Length: 0\r\n\r\n",
            f"POST {path} HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: sha256={odd}\r\nContent-Length: 0\r\n\r\n",
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {odd}\r\nContent-Length: 0\r\n\r\n",
            f"{form}Content-Length: {len('signed_request=' + odd)}\r\n\r\nsigned_request={odd}",
            f"{form}Content-Length: {len('signed_request=.' + 2 * odd)}\r\n\r\nsigned_request={odd}.{odd}",
            f"GET {path}/data-deletion/{odd} HTTP/1.1\r\nHost: x\r\n\r\n",
        ):
            status, body = await answer_to(client, request, public=True)
            if status >= 500:
                found[odd, request] = body
    assert not found


def nested(depth: int, kind: str) -> str:
    return "[" * depth + "]" * depth if kind == "list" else '{"a":' * depth + "1" + "}" * depth


CONVERSATION = (
    f'{{{{"clientAccountId":"{ACCOUNT}","platformConversationId":"{ACCOUNT}_7",'
    '"participantPlatformId":"7","metadata":{}}}'
)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/workers/backfill-profiles", "{}"),
        ("POST", "/api/messaging/conversations", "{}"),
        ("POST", "/api/messaging/conversations", CONVERSATION),
        ("POST", "/api/messaging/imports", '{{"conversations":[{}]}}'),
        ("POST", "/api/messaging/imports", '{{"conversations":[' + CONVERSATION + "]}}"),
        ("PATCH", "/api/messaging/conversations/1", '{{"metadata":{}}}'),
        ("POST", "/api/accounts", "{}"),
    ],
)
async def test_json_that_is_nested_deeply(client: Client, method: str, path: str, body: str) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    for kind in ("list", "object"):
        for depth in (70, 100, 200, 500, 990, 5_000, 100_000):
            text = body.format(nested(depth, kind))
            async with client.session.request(method, client.admin_url + path, data=text, headers=headers) as response:
                told = await response.json(content_type="application/problem+json")
            assert (response.status, told["detail"]) == (400, "The body is nested more than 64 levels deep."), depth


async def test_json_that_is_nested_a_good_deal_is_taken(client: Client) -> None:
    registered = await client.send(
        "POST", "/api/messaging/conversations", json.loads(CONVERSATION.format(nested(45, "object"))), status=201
    )
    sent = json.loads(nested(45, "object"))
    assert registered["metadata"]["a"] == sent["a"]
    assert (await client.conversations())[0]["metadata"]["a"] == sent["a"]


@pytest.mark.parametrize(
    "body",
    [
        b"\xff",
        b'"\xff"',
        b'{"accountId": "\\ud800"}',
        b'{"\\ud800": 1}',
        b"\xef\xbb\xbf{}",
        b"1e999",
        b"NaN",
        b"",
        b"null",
        b'{"accountId": "17841400000000001", "batchSize": 1e300}',
        b'{"accountId": "\\u0000"}',
        b'{"accountId": "17841400000000001", "batchSize": %b}' % (b"9" * 5000),
    ],
)
@pytest.mark.parametrize(
    "path",
    ["/api/workers/backfill-profiles", "/api/messaging/conversations", "/api/messaging/imports", "/api/accounts"],
)
async def test_json_with_odd_values(client: Client, path: str, body: bytes) -> None:
    headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    async with client.session.post(client.admin_url + path, data=body, headers=headers) as response:
        told = json.loads(await response.read())
        assert 400 <= response.status < 500, told
