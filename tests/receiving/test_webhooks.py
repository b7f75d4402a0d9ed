import asyncio
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from inboxd.config.schema import Public, Settings
from inboxd.config.secrets import Secrets
from inboxd.meta.signature import HEADER, header_of, sign
from inboxd.simulator.payloads import Conversationalist, delivery

from tests.support import ACCOUNT, ANA, APP_SECRET, OTHER_APP_SECRET, OWN_PAGE, T0, VERIFY_TOKEN, Client

PATH = "/webhooks/instagram"
FORGED = "sha256=" + "0" * 64
"""Has the form of a signature, and is none."""


def head(length: int | None, *, signature: str = FORGED, path: str = PATH, more: str = "") -> bytes:
    """The head of a POST; without a length it comes in chunks."""
    size = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    signed = f"{HEADER}: {signature}\r\n" if signature else ""
    return f"POST {path} HTTP/1.1\r\nHost: x\r\n{signed}{size}\r\n{more}\r\n".encode()


async def raw(client: Client, *pieces: bytes, pause_s: float = 0.0, wait_s: float = 5.0) -> bytes:
    """Write `pieces` to the public listener and read what comes until it hangs up or falls silent."""
    url = urlsplit(client.public_url)
    reader, writer = await asyncio.open_connection(url.hostname, url.port)
    try:
        for piece in pieces:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(pause_s)
        return await asyncio.wait_for(reader.read(), wait_s)
    except (TimeoutError, ConnectionResetError):
        return b""
    finally:
        writer.close()


async def verify(client: Client, **query: str) -> tuple[int, str, str]:
    parameters = {f"hub.{name}": value for name, value in query.items()}
    async with client.session.get(client.public_url + PATH, params=parameters) as response:
        return response.status, await response.text(), response.content_type


async def test_the_handshake_echoes_the_challenge(client: Client) -> None:
    answer = await verify(client, mode="subscribe", verify_token=VERIFY_TOKEN, challenge="1158201444")

    assert answer == (200, "1158201444", "text/plain")


async def test_a_challenge_with_markup_stays_text(client: Client) -> None:
    status, text, content_type = await verify(
        client, mode="subscribe", verify_token=VERIFY_TOKEN, challenge="<script>1</script>"
    )

    assert (status, text, content_type) == (200, "<script>1</script>", "text/plain")


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"mode": "subscribe", "verify_token": "wrong", "challenge": "1"}, 403),
        ({"mode": "subscribe", "verify_token": "", "challenge": "1"}, 403),
        ({"mode": "subscribe", "challenge": "1"}, 403),
        ({"mode": "subscribe", "verify_token": "é", "challenge": "1"}, 403),
        ({"mode": "unsubscribe", "verify_token": VERIFY_TOKEN, "challenge": "1"}, 400),
        ({"mode": "subscribe", "verify_token": VERIFY_TOKEN}, 400),
        ({}, 400),
    ],
)
async def test_any_other_handshake_is_refused(client: Client, query: dict[str, str], status: int) -> None:
    assert (await verify(client, **query))[::2] == (status, "application/problem+json")


@pytest.mark.parametrize("secret", [APP_SECRET, OTHER_APP_SECRET])
async def test_a_signed_delivery_becomes_a_conversation(client: Client, secret: str) -> None:
    body = json.dumps(delivery(ACCOUNT, T0, [Conversationalist(ACCOUNT, ANA, T0).says("hola á 💙")])).encode()

    status, answer, _ = await client.post(body, secret=secret)

    assert (status, answer) == (200, b"")
    await client.settled()
    (conversation,) = await client.conversations()
    assert conversation["platformConversationId"] == f"{ACCOUNT}_{ANA}"
    assert [message["content"] for message in await client.messages(conversation)] == ["hola á 💙"]


async def test_each_delivery_keeps_the_signature_that_it_came_with_and_shows_it_nowhere(client: Client) -> None:
    bodies = [
        json.dumps(delivery(ACCOUNT, T0 + n, [Conversationalist(ACCOUNT, ANA, T0 + n).says(str(n))])) for n in (1, 2)
    ]
    secrets = (APP_SECRET, OTHER_APP_SECRET)
    for body, secret in zip(bodies, secrets, strict=True):
        assert (await client.post(body.encode(), secret=secret))[0] == 200
    await client.settled()

    with closing(sqlite3.connect(client.database)) as connection:
        kept = connection.execute("SELECT body, signature FROM deliveries ORDER BY id").fetchall()
    assert [header_of(signature) for _, signature in kept] == [
        sign(*one) for one in zip((row[0] for row in kept), secrets, strict=True)
    ]
    shown = json.dumps([await client.get("/api/deliveries"), await client.get("/api/deliveries/1")])
    assert kept[0][1].hex() not in shown
    assert "signature" not in shown


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {HEADER: ""},
        {HEADER: "sha256=" + "0" * 64},
        {HEADER: "sha1=" + "0" * 40},
        {"X-Hub-Signature": "sha1=" + "0" * 40},
        {HEADER: sign(b"another body", APP_SECRET)},
    ],
)
async def test_what_is_not_signed_is_refused_and_not_stored(client: Client, headers: dict[str, str]) -> None:
    async with client.session.post(client.public_url + PATH, data=b"{}", headers=headers) as response:
        problem = await response.json(content_type="application/problem+json")

    assert (response.status, problem["status"], problem["title"]) == (401, 401, "Unauthorized")
    assert (await client.get("/api/deliveries"))["total"] == 0


async def test_a_signed_body_is_always_acknowledged_and_set_aside_when_unreadable(client: Client) -> None:
    assert (await client.post(b"\xffnot json"))[0] == 200
    await client.settled()

    (failed,) = (await client.get("/api/deliveries?state=failed"))["deliveries"]
    assert "not a webhook payload" in failed["error"]


async def test_a_body_that_is_too_large_is_refused(client: Client) -> None:
    status, answer, content_type = await client.post(b"x" * (4 * 1024 * 1024 + 1))

    assert (status, content_type) == (413, "application/problem+json")
    assert json.loads(answer)["title"] == "Request Entity Too Large"


async def test_a_batch_of_a_thousand_events_fits(client: Client) -> None:
    who = Conversationalist(ACCOUNT, ANA, T0)

    await client.deliver(*(who.says("x" * 900) for _ in range(1000)))
    await client.settled()

    assert (await client.conversations())[0]["unreadCount"] == 1000


async def test_compressed_bytes_are_signed_as_they_are(client: Client) -> None:
    assert (await client.post(b"\x1f\x8bnot really gzip", **{"Content-Encoding": "gzip"}))[0] == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/", 404), ("GET", "/api/messaging/conversations", 404), ("GET", "/healthz", 404), ("PUT", PATH, 405)],
)
async def test_the_public_side_serves_nothing_else(client: Client, method: str, path: str, status: int) -> None:
    async with client.session.request(method, client.public_url + path) as response:
        problem = await response.json(content_type="application/problem+json")
    assert (response.status, problem["status"]) == (status, status)


async def test_slow_headers_are_cut(client: Client) -> None:
    answer = await raw(client, b"POST /webhooks/instagram HTTP/1.1\r\nHost: x\r\n")

    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_silent_connections_are_cut(client: Client) -> None:
    assert (await raw(client)).startswith(b"HTTP/1.1 408 ")


async def test_slow_bodies_are_cut(client: Client) -> None:
    answer = await raw(client, head(100), *([b"x"] * 30), pause_s=0.1)

    assert answer == b"" or answer.startswith(b"HTTP/1.1 408 ")
    assert (await client.get("/healthz"))["alive"]


async def test_an_idle_connection_that_has_asked_is_kept(client: Client) -> None:
    request = b"GET /webhooks/instagram HTTP/1.1\r\nHost: x\r\n\r\n"

    answer = await raw(client, request, b"", request + b"", pause_s=1.0, wait_s=0.5)

    assert answer == b""  # still open after two answers and more than the time a request may take


async def test_connections_are_limited(client: Client) -> None:
    url = urlsplit(client.public_url)
    writers = []
    answers = []
    for _ in range(45):
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        writer.write(b"GET ")  # none of them is idle: those make room
        await asyncio.sleep(0.001)
        writers.append((reader, writer))
    for reader, _ in writers[40:]:
        answers.append(await asyncio.wait_for(reader.read(), 5))
    for _, writer in writers:
        writer.close()

    assert len(answers) == 5
    assert all(answer.startswith(b"HTTP/1.1 503 ") and b"Retry-After" in answer for answer in answers)


class TestTooManyWaiting:
    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        return Settings(public=Public(port=0, max_waiting=1), admin=settings.admin, instagram=settings.instagram)

    async def test_senders_beyond_the_limit_are_told_to_come_back(self, client: Client) -> None:
        answers = await asyncio.gather(*(client.post(b"%d" % number) for number in range(60)))

        turned_away = [(status, content_type) for status, _, content_type in answers if status != 200]
        assert turned_away
        assert set(turned_away) == {(503, "application/problem+json")}


async def test_secrets_stand_in_no_repr(secrets: Secrets, settings: Settings, tmp_path: Path) -> None:
    shown = repr(secrets) + repr(settings)

    assert APP_SECRET not in shown
    assert VERIFY_TOKEN not in shown


async def test_a_body_that_never_comes_is_cut_behind_a_request_that_came(client: Client) -> None:
    came = b"GET /webhooks/instagram HTTP/1.1\r\nHost: x\r\n\r\n"

    answer = await raw(client, came + head(100))

    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"HTTP/1.1 408 " in answer


def part(head: bytes, body: bytes = b"x") -> bytes:
    return b"--x\r\n%s\r\n\r\n%s\r\n--x--\r\n" % (head, body)


FIELD = b'Content-Disposition: form-data; name="token"\r\n'


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("multipart/form-data; boundary=x", b"no parts", 400),
        ("multipart/form-data; boundary=x", part(b"no header"), 400),
        ("multipart/form-data; boundary=x", part(b"A: b\r\n" * 500 + FIELD), 400),
        ("multipart/form-data; boundary=x", part(FIELD + b"Content-Transfer-Encoding: foo"), 400),
        ("multipart/form-data; boundary=x", part(FIELD + b"Content-Encoding: deflate", b"\xff\xff"), 400),
        ("multipart/form-data; boundary=x", part(FIELD + b"Content-Type: multipart/mixed; boundary=y"), 400),
        ("multipart/form-data; boundary=x", part(b"Content-Disposition: form-data"), 400),
        ("text/plain", b"signed_request=x", 415),
        ("application/x-www-form-urlencoded; charset=foo", b"signed_request=x", 400),
        ("application/x-www-form-urlencoded", b"signed_request=%ff\xff", 400),
        ("application/x-www-form-urlencoded", b"other=1", 400),
    ],
)
@pytest.mark.parametrize("path", ["public/webhooks/instagram/data-deletion", "admin/sign-in"])
async def test_what_is_no_form_is_an_error_of_the_sender(
    client: Client, path: str, content_type: str, body: bytes, status: int
) -> None:
    listener, _, rest = path.partition("/")
    url = f"{client.public_url if listener == 'public' else client.admin_url}/{rest}"
    async with client.session.post(url, data=body, headers={**OWN_PAGE, "Content-Type": content_type}) as response:
        assert response.status in {status, 401}, await response.text()
