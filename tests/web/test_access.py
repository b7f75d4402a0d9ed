"""Who may do what on the admin listener, and for how long: scopes, sessions, and what seals a session."""

import base64
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import msgspec
import pytest
from inboxd import app
from inboxd.clock import Clock
from inboxd.config import NamedToken, Secrets, Settings
from inboxd.secret import Secret
from inboxd.web.auth import COOKIE

from tests.support import ACCOUNT, ADMIN_TOKEN, Client

READER, WRITER = "the-reader's-token", "the-writer's-token"
ON_A_PAGE = ["/backfill", "/deliveries/1/retry", "/deliveries/retry", "/inbox/1/read", f"/accounts/{ACCOUNT}/check"]
HOUR_MS = 3_600_000


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
        app.running(settings, secrets, database, on_give_up=lambda: None, clock=clock) as daemon,
        aiohttp.ClientSession() as session,
    ):
        yield Client(session, daemon.public_url, daemon.admin_url, database)


async def sign_in(client: Client, token: str) -> str:
    url = client.admin_url + "/sign-in"
    async with client.session.post(url, data={"token": token}, allow_redirects=False) as response:
        assert response.status == 303
        return response.cookies[COOKIE].value


async def status(client: Client, method: str, path: str, cookie: str, **headers: str) -> int:
    headers |= {"Cookie": f"{COOKIE}={cookie}"}
    url = client.admin_url + path
    async with client.session.request(method, url, headers=headers, allow_redirects=False) as response:
        return response.status


async def csrf_of(client: Client, cookie: str) -> str:
    async with client.session.get(client.admin_url + "/", headers={"Cookie": f"{COOKIE}={cookie}"}) as response:
        found = re.search(r'name="csrf" value="([0-9a-f]{64})"', await response.text())
    assert found is not None
    return found[1]


async def operations(client: Client) -> list[tuple[str, str]]:
    """Every operation of the document that needs a token, with the real account in its path."""
    paths = (await client.get("/api/openapi.json", token=None))["paths"]
    return [
        (method.upper(), re.sub(r"\{\w+\}", "1", re.sub(r"\{account\}|(?<=/accounts/)\{id\}", ACCOUNT, path)))
        for path, item in paths.items()
        for method, operation in item.items()
        if operation.get("security") != []
    ]


async def test_who_may_only_read_changes_nothing_by_no_operation(client: Client) -> None:
    changing = [(method, path) for method, path in await operations(client) if method != "GET"]
    assert {method for method, _ in changing} == {"POST", "PATCH", "DELETE"}
    assert ("DELETE", f"/api/accounts/{ACCOUNT}") in changing
    assert ("POST", "/api/accounts") in changing
    cookie = await sign_in(client, READER)
    csrf = await csrf_of(client, cookie)
    for method, path in [*changing, ("PUT", "/api/accounts"), *(("POST", path) for path in ON_A_PAGE)]:
        problem = await client.send(method, path, {}, token=READER, status=403)
        assert problem["detail"] == "The token 'reader' has no scope 'write'.", (method, path)
        assert await status(client, method, path, cookie, **{"X-CSRF-Token": csrf}) == 403, (method, path)
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
        csrf = await csrf_of(client, cookie)
        clock.later_ms = 12 * HOUR_MS - 60_000
        assert await status(client, "GET", "/api/accounts", cookie) == 200
        clock.later_ms = 12 * HOUR_MS
        assert await status(client, "GET", "/api/accounts", cookie) == 401
        retry = "/api/workers/retry-failed-deliveries"
        assert await status(client, "POST", retry, cookie, **{"X-CSRF-Token": csrf}) == 401
        async with client.session.get(
            client.admin_url + "/inbox", headers={"Cookie": f"{COOKIE}={cookie}", "Accept": "text/html"}
        ) as response:
            assert response.url.path == "/sign-in"


async def test_what_seals_a_session_is_no_csrf_token_and_the_other_way_round(client: Client) -> None:
    """A page shows the one, the cookie the other: who has seen only one of them has not got both."""
    cookie = await sign_in(client, ADMIN_TOKEN)
    csrf = await csrf_of(client, cookie)
    told = base64.urlsafe_b64decode(cookie)
    retry = "/api/workers/retry-failed-deliveries"
    assert await status(client, "POST", retry, cookie, **{"X-CSRF-Token": told[-32:].hex()}) == 403
    made = base64.urlsafe_b64encode(told[:-32] + bytes.fromhex(csrf)).decode()
    assert await status(client, "GET", "/api/accounts", made) == 401
    assert await status(client, "POST", retry, cookie, **{"X-CSRF-Token": csrf}) == 202


async def test_the_csrf_token_of_one_session_is_of_no_use_in_another(client: Client) -> None:
    one, other = await sign_in(client, ADMIN_TOKEN), await sign_in(client, ADMIN_TOKEN)
    retry = "/api/workers/retry-failed-deliveries"
    assert await status(client, "POST", retry, one, **{"X-CSRF-Token": await csrf_of(client, other)}) == 403


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
        app.running(settings, secrets, database, on_give_up=pytest.fail) as daemon,
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
