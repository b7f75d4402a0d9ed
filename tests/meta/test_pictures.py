"""Fetching pictures from a server that leads us astray."""

import asyncio
import ipaddress
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from inboxd.domain.addresses import is_allowed
from inboxd.meta import pictures
from inboxd.meta.pictures import (
    PictureClient,
    PictureError,
    PictureGoneError,
    PictureRefusedError,
    PictureRules,
)
from inboxd.simulator.serving import serving
from yarl import URL

LOCAL = [ipaddress.ip_network("127.0.0.1/32")]
RULES = PictureRules(
    hosts=["127.0.0.1", "localhost", "127.0.0.2", "cdn.example"], allow_http=True, allow_networks=LOCAL
)


@pytest.fixture
async def client() -> AsyncIterator[PictureClient]:
    async with PictureClient(RULES) as opened:
        yield opened


@pytest.fixture
async def server() -> AsyncIterator[str]:
    async def picture(_request: web.Request) -> web.Response:
        return web.Response(body=b"picture")

    async def hop(request: web.Request) -> web.Response:
        left = int(request.match_info["left"])
        raise web.HTTPFound(f"/hop/{left - 1}" if left else "/picture")

    async def to(request: web.Request) -> web.Response:
        return web.Response(status=302, headers={"Location": request.query["url"]})

    async def large(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for _ in range(10):
            await response.write(b" " * 1024 * 1024)
        return response

    async def status(request: web.Request) -> web.Response:
        return web.Response(status=int(request.match_info["status"]))

    async def slow(_request: web.Request) -> web.Response:
        await asyncio.sleep(30)
        return web.Response()

    app = web.Application()
    app.router.add_get("/picture", picture)
    app.router.add_get("/hop/{left}", hop)
    app.router.add_get("/to", to)
    app.router.add_get("/large", large)
    app.router.add_get("/slow", slow)
    app.router.add_get("/status/{status}", status)
    async with serving(app) as url:
        yield url


async def test_a_picture_and_up_to_three_redirects(client: PictureClient, server: str) -> None:
    assert await client.fetch(f"{server}/picture") == b"picture"
    assert await client.fetch(f"{server}/hop/2") == b"picture"
    with pytest.raises(PictureRefusedError, match="more than 3 redirects"):
        await client.fetch(f"{server}/hop/3")


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://127.0.0.2/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.2]/",
        "http://10.0.0.1/",
        "http://0x7f000002/",
        "http://elsewhere.example/",
        "http://cdn.example.evil.test/",
        "http://evilcdn.example/",
        "http://user:secret@127.0.0.1/",
        "ftp://127.0.0.1/",
        "file:///etc/passwd",
        "javascript:alert(1)",
        "http://[",
        "",
    ],
)
async def test_redirects_to_where_we_do_not_go_are_refused(client: PictureClient, server: str, target: str) -> None:
    # Meta's addresses name hosts that we know, so the first hop is fine and the second must be judged anew.
    with pytest.raises(PictureRefusedError):
        await client.fetch(str(URL(f"{server}/to").with_query(url=target)) if target else f"{server}/to?url=")


async def test_a_known_host_with_a_private_address_is_refused_when_connecting(client: PictureClient) -> None:
    with pytest.raises(PictureRefusedError, match=r"127\.0\.0\.2 has no public address"):
        await client.fetch("http://127.0.0.2:9/")
    async with PictureClient(PictureRules(hosts=["localhost"], allow_http=True)) as strict:
        with pytest.raises(PictureRefusedError, match="localhost has no public address"):
            await strict.fetch("http://localhost:9/")


async def test_http_is_for_the_simulator_alone(server: str) -> None:
    async with PictureClient(PictureRules(hosts=["127.0.0.1"], allow_networks=LOCAL)) as strict:
        with pytest.raises(PictureRefusedError, match="http is not https"):
            await strict.fetch(f"{server}/picture")


async def test_what_is_too_large_gone_or_late_is_told_apart(
    client: PictureClient, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(PictureRefusedError, match="larger than"):
        await client.fetch(f"{server}/large")
    for status in (403, 404, 410):
        with pytest.raises(PictureGoneError):
            await client.fetch(f"{server}/status/{status}")
    with pytest.raises(PictureError, match="HTTP 500"):
        await client.fetch(f"{server}/status/500")
    with pytest.raises(PictureError, match="no answer"):
        await client.fetch("http://127.0.0.1:1/")
    monkeypatch.setattr(pictures, "TIMEOUT_S", 0.2)
    async with PictureClient(RULES) as hasty:
        with pytest.raises(PictureError, match="no answer in time"):
            await hasty.fetch(f"{server}/slow")


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("157.240.1.1", True),
        ("2a03:2880::1", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("100.64.0.1", False),
        ("192.168.0.1", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),  # noqa: S104 - judged, not bound
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::", False),
        ("::1", False),
        ("fe80::1", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:157.240.1.1", True),
        ("64:ff9b::7f00:1", False),
        ("64:ff9b::9df0:101", True),
        ("2002:7f00:1::", False),
    ],
)
def test_only_public_addresses_are_connected_to(address: str, *, allowed: bool) -> None:
    assert is_allowed(ipaddress.ip_address(address), []) is allowed
