"""Who may do what on the admin listener, and for how long: scopes, sessions, and what seals a session."""

import base64
import hashlib
import hmac
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest
from inboxd import app
from inboxd.config.schema import Settings
from inboxd.config.secrets import NamedToken, Secrets
from inboxd.http.auth import COOKIE
from inboxd.runtime.clock import Clock
from inboxd.runtime.secret import Secret

from tests.support import ACCOUNT, ADMIN_TOKEN, OWN_PAGE, Client

READER, WRITER = "the-reader's-token", "the-writer's-token"
ON_A_PAGE = ["/backfill", "/deliveries/1/retry", "/deliveries/retry", "/inbox/1/read", f"/accounts/{ACCOUNT}/check"]
HOUR_MS = 3_600_000
RETRY = "/api/workers/retry-failed-deliveries"


@pytest.fixture
def secrets(secrets: Secrets) -> Secrets:
    named = (NamedToken("reader", ("read",), Secret(READER)), NamedToken("writer", ("write",), Secret(WRITER)))
    return msgspec.structs.replace(secrets, named_tokens=named)


class Later(Clock):
    """The clock of a machine that somebody has left running for a while."""

    later_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.later_ms


@asynccontextmanager
async def running(settings: Settings, secrets: Secrets, folder: Path, clock: Clock) -> AsyncIterator[Client]:
    database = folder / "inboxd.sqlite3"
    async with (
        app.run_daemon(settings, secrets, database, on_give_up=lambda: None, clock=clock) as daemon,
        aiohttp.ClientSession() as session,
    ):
        yield Client(session, daemon.public_url, daemon.admin_url, database)


async def sign_in(client: Client, token: str) -> str:
    url = client.admin_url + "/sign-in"
    async with client.session.post(url, data={"token": token}, headers=OWN_PAGE, allow_redirects=False) as response:
        assert response.status == 303
        return response.cookies[COOKIE].value


async def status(client: Client, method: str, path: str, cookie: str, **headers: str) -> int:
    headers |= {"Cookie": f"{COOKIE}={cookie}"}
    url = client.admin_url + path
    async with client.session.request(method, url, headers=headers, allow_redirects=False) as response:
        return response.status


async def operations(client: Client) -> list[tuple[str, str]]:
    """Every operation of the document that needs a token, with the real account in its path."""
    paths = (await client.get("/api/openapi.json", token=None))["paths"]
    return [
        (method.upper(), re.sub(r"\{\w+\}", "1", re.sub(r"\{account\}|(?<=/accounts/)\{id\}", ACCOUNT, path)))
        for path, item in paths.items()
        for method, operation in item.items()
        if operation.get("security") != []
    ]


async def changing_scopes(client: Client) -> dict[tuple[str, str], str]:
    """Every operation that changes something, with the scope that the document says it needs."""
    paths = (await client.get("/api/openapi.json", token=None))["paths"]
    told = [one["description"] for item in paths.values() for one in item.values() if one.get("security") != []]
    named = zip(await operations(client), told, strict=True)
    return {one: re.findall(r"Scope: (\w+)\.", text)[0] for one, text in named if one[0] != "GET"}


async def test_who_may_only_read_changes_nothing_by_no_operation(client: Client) -> None:
    scopes = await changing_scopes(client)
    changing = sorted(scopes)
    assert {method for method, _ in changing} == {"POST", "PUT", "PATCH", "DELETE"}
    assert ("DELETE", f"/api/accounts/{ACCOUNT}") in changing
    assert ("POST", "/api/accounts") in changing
    cookie = await sign_in(client, READER)
    for method, path in [*changing, ("PUT", "/api/accounts"), *(("POST", path) for path in ON_A_PAGE)]:
        problem = await client.send(method, path, {}, token=READER, status=403)
        scope = scopes.get((method, path), "write")
        assert problem["detail"] == f"The token 'reader' has no scope '{scope}'.", (method, path)
        assert await status(client, method, path, cookie, **OWN_PAGE) == 403, (method, path)
    assert [one["id"] for one in (await client.get("/api/accounts", token=READER))["accounts"]] == [ACCOUNT]


async def test_who_may_only_write_reads_nothing(client: Client) -> None:
    reading = [path for method, path in await operations(client) if method == "GET"]
    assert f"/api/accounts/{ACCOUNT}" in reading
    for path in [*reading, "/", "/inbox", "/metrics"]:
        async with client.session.get(
            client.admin_url + path, headers={"Authorization": f"Bearer {WRITER}"}
        ) as response:
            assert response.status == 403, path


async def test_a_session_ends_after_twelve_hours_however_much_it_is_used(
    settings: Settings, secrets: Secrets, tmp_path: Path
) -> None:
    clock = Later()
    async with running(settings, secrets, tmp_path, clock) as client:
        cookie = await sign_in(client, ADMIN_TOKEN)
        clock.later_ms = 12 * HOUR_MS - 60_000
        assert await status(client, "GET", "/api/accounts", cookie) == 200
        clock.later_ms = 12 * HOUR_MS
        assert await status(client, "GET", "/api/accounts", cookie) == 401
        assert await status(client, "POST", RETRY, cookie, **OWN_PAGE) == 401
        async with client.session.get(
            client.admin_url + "/inbox", headers={"Cookie": f"{COOKIE}={cookie}", "Accept": "text/html"}
        ) as response:
            assert response.url.path == "/sign-in"


async def test_what_was_sealed_for_something_else_opens_no_session(client: Client) -> None:
    """Earlier versions put a value into every page that was made from the same cookie and the same token."""
    cookie = await sign_in(client, ADMIN_TOKEN)
    body = base64.urlsafe_b64decode(cookie)[:-32]
    key = hashlib.sha256(f"inboxd csrf admin\n{ADMIN_TOKEN}".encode()).digest()
    made = base64.urlsafe_b64encode(body + hmac.digest(key, body, "sha256")).decode()
    assert await status(client, "GET", "/api/accounts", made) == 401
    assert await status(client, "GET", "/api/accounts", cookie) == 200


async def test_a_csrf_token_does_not_replace_the_headers_of_a_browser(client: Client) -> None:
    cookie = await sign_in(client, ADMIN_TOKEN)
    assert await status(client, "POST", RETRY, cookie, **{"X-CSRF-Token": "0" * 64}) == 403
    assert await status(client, "POST", RETRY, cookie, **OWN_PAGE) == 202


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Sec-Fetch-Site": "same-origin"}, 202),
        ({"Sec-Fetch-Site": "none"}, 202),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Sec-Fetch-Site": "of-the-future"}, 403),
        ({"Sec-Fetch-Site": ""}, 403),
        ({"Sec-Fetch-Site": "cross-site", "Origin": "http://inbox.example"}, 403),
        ({"Sec-Fetch-Site": "same-origin", "Origin": "https://before-the-proxy.example"}, 202),
        ({"Origin": "http://inbox.example"}, 202),
        ({"Origin": "https://inbox.example"}, 202),  # a proxy with TLS is in front
        ({"Origin": "http://inbox.example:8081"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://inbox.example.evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": ""}, 403),
        ({"Origin": "null", "Host": "null"}, 403),
        ({"Origin": "http://", "Host": ""}, 403),
        ({"Origin": "http://[::1]:8081", "Host": "[::1]:8081"}, 202),
        ({}, 403),
    ],
)
async def test_a_session_changes_something_from_our_own_pages_only(
    client: Client, headers: dict[str, str], expected: int
) -> None:
    cookie = await sign_in(client, ADMIN_TOKEN)
    asked = {"Host": "inbox.example"} | headers
    assert await status(client, "POST", RETRY, cookie, **asked) == expected
    assert await status(client, "GET", "/api/accounts", cookie, **asked) == 200
    sign_out = await status(client, "POST", "/sign-out", cookie, **asked)
    assert sign_out == (303 if expected == 202 else 403)


@pytest.mark.parametrize("headers", [{}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}])
async def test_a_program_with_a_token_needs_no_header_of_a_browser(client: Client, headers: dict[str, str]) -> None:
    """No browser sends a token by itself, so no other site can have one sent."""
    asked = headers | {"Authorization": f"Bearer {ADMIN_TOKEN}"}
    async with client.session.post(client.admin_url + RETRY, headers=asked) as response:
        assert response.status == 202


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"Sec-Fetch-Site": "cross-site"}, "comes from another site"),
        ({"Sec-Fetch-Site": "same-site"}, "comes from another site"),
        ({"Origin": "http://evil.example"}, "does not match the Host header"),
        ({"Origin": "null"}, "does not match the Host header"),
        ({}, "neither a Sec-Fetch-Site nor an Origin header"),
    ],
)
async def test_no_other_site_signs_somebody_in(client: Client, headers: dict[str, str], reason: str) -> None:
    url, asked = client.admin_url + "/sign-in", {"Accept": "text/html"} | headers
    async with client.session.post(url, data={"token": ADMIN_TOKEN}, headers=asked, allow_redirects=False) as response:
        assert (response.status, response.content_type) == (403, "text/html")
        assert reason in await response.text()
        assert COOKIE not in response.cookies


@pytest.mark.parametrize("change", ["names swapped", "token rotated"])
async def test_a_session_is_of_one_owner_with_one_token(
    settings: Settings, secrets: Secrets, tmp_path: Path, change: str
) -> None:
    """After a restart it is still good, unless its name has another token by now, or its token another name."""

    def named(reader: str, boss: str) -> Secrets:
        tokens = (NamedToken("reader", ("read",), Secret(reader)), NamedToken("boss", ("read", "write"), Secret(boss)))
        return msgspec.structs.replace(secrets, named_tokens=tokens)

    before = named(READER, "the boss's token")
    after = named("the boss's token", READER) if change == "names swapped" else named("a new token", "the boss's token")
    clock = Later()
    async with running(settings, before, tmp_path, clock) as client:
        cookie = await sign_in(client, READER)
    async with running(settings, before, tmp_path, clock) as client:
        assert await status(client, "GET", "/api/accounts", cookie) == 200
    async with running(settings, after, tmp_path, clock) as client:
        assert await status(client, "GET", "/api/accounts", cookie) == 401


@pytest.mark.parametrize("name", ["", "/initializer.js", "/swagger-ui.css", "/swagger-ui-bundle.js"])
async def test_the_documentation_page_lets_in_nothing_from_elsewhere(client: Client, name: str) -> None:
    async with client.session.get(client.admin_url + "/api/docs" + name) as response:
        assert response.status == 200
        (policy,) = response.headers.getall("Content-Security-Policy")
        headers = response.headers
    directives = dict(one.strip().split(" ", 1) for one in policy.split(";"))
    assert directives == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self' 'unsafe-inline'",
        "img-src": "'self' data:",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }
    assert headers["X-Content-Type-Options"] == "nosniff"


async def test_a_form_of_another_site_signs_nobody_in(client: Client) -> None:
    """Else somebody works in a session of the other site's owner, and tells them everything."""
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 303), ("none", 303)):
        async with client.session.post(
            client.admin_url + "/sign-in",
            data={"token": ADMIN_TOKEN},
            headers={"Sec-Fetch-Site": site},
            allow_redirects=False,
        ) as response:
            assert response.status == status, site
            assert (COOKIE in response.cookies) is (status == 303), site


async def test_a_token_that_was_taken_back_opens_nothing_after_a_reload(
    settings: Settings, secrets: Secrets, tmp_path: Path
) -> None:
    database = tmp_path / "inboxd.sqlite3"
    async with (
        app.run_daemon(settings, secrets, database, on_give_up=pytest.fail) as daemon,
        aiohttp.ClientSession() as session,
    ):
        client = Client(session, daemon.public_url, daemon.admin_url, database)
        cookie = await sign_in(client, READER)
        assert await status(client, "GET", "/api/accounts", cookie) == 200

        done = await daemon.reloader.reload(settings, msgspec.structs.replace(secrets, named_tokens=()))

        assert done.applied == ["admin_tokens"]
        await client.get("/api/accounts", token=READER, status=401)
        assert await status(client, "GET", "/api/accounts", cookie) == 401
        await client.get("/api/accounts")
