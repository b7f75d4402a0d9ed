"""The dashboard over HTTP: who gets in, what forms are taken, and what stays text."""

import asyncio
import importlib.resources
import json
import os
import re
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from html import unescape
from pathlib import Path

import aiohttp
import msgspec
import pytest
from inboxd.config.schema import Settings
from inboxd.config.secrets import NamedToken, Secrets
from inboxd.domain.outbound import OutboundState
from inboxd.http.auth import COOKIE
from inboxd.http.rendering import span
from inboxd.receiving.overview import bars
from inboxd.runtime.secret import Secret
from inboxd.simulator.graph_server import GraphServer, Token
from inboxd.simulator.payloads import Conversationalist
from multidict import CIMultiDictProxy

from tests.support import ACCOUNT, ADMIN_TOKEN, OWN_PAGE, T0, Client, eventually

HTML = {"Accept": "text/html"}
PAGES = ["/", "/inbox", "/outbox", "/backfill", "/deliveries", "/forwarding", "/accounts"]
EVIL = "<script>alert(1)</script>"


class Browser:
    """Somebody with a browser that keeps cookies and follows redirects."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.session = session
        self.url = url
        self.headers: CIMultiDictProxy[str]

    async def get(self, path: str, *, status: int = 200) -> str:
        async with self.session.get(self.url + path, headers=HTML) as response:
            text = await response.text()
            assert response.status == status, text
            self.headers = response.headers
            self.path = response.url.path
            return text

    async def post(self, path: str, *, status: int = 200, **form: str) -> str:
        async with self.session.post(self.url + path, data=form, headers=HTML | OWN_PAGE) as response:
            text = await response.text()
            assert response.status == status, text
            self.path = response.url.path
            return text

    async def sign_in(self, token: str = ADMIN_TOKEN, *, status: int = 200, **form: str) -> str:
        return await self.post("/sign-in", token=token, status=status, **form)


@pytest.fixture
async def browser(client: Client) -> AsyncIterator[Browser]:
    jar = aiohttp.CookieJar(unsafe=True)  # cookies of addresses that are numbers
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        yield Browser(session, client.admin_url)


@pytest.fixture
def secrets(secrets: Secrets) -> Secrets:
    onlooker = NamedToken("onlooker", ("read",), Secret("onlooker-token"))
    return msgspec.structs.replace(secrets, named_tokens=(onlooker,))


async def test_who_is_not_signed_in_is_asked_to_and_then_led_on(browser: Browser) -> None:
    text = await browser.get("/inbox?q=caf*")
    assert browser.path == "/sign-in"
    assert 'value="/inbox?q=caf*"' in unescape(text)
    await browser.sign_in(next="/inbox?q=caf*")
    assert browser.path == "/inbox"


@pytest.mark.parametrize("path", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"])
async def test_nobody_is_led_elsewhere(browser: Browser, path: str) -> None:
    await browser.sign_in(next=path)
    assert browser.path == "/"


async def test_the_session_is_a_guarded_cookie(browser: Browser) -> None:
    url = browser.url + "/sign-in"
    form = {"token": ADMIN_TOKEN}
    async with browser.session.post(url, data=form, headers=OWN_PAGE, allow_redirects=False) as response:
        cookie = response.headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=43200"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert ADMIN_TOKEN not in cookie
    behind_tls = OWN_PAGE | {"X-Forwarded-Proto": "https"}
    async with browser.session.post(url, data=form, allow_redirects=False, headers=behind_tls) as response:
        assert "Secure" in response.headers["Set-Cookie"]


async def test_a_forged_or_old_cookie_opens_nothing(browser: Browser, client: Client) -> None:
    await browser.sign_in()
    (cookie,) = (morsel for morsel in browser.session.cookie_jar if morsel.key == COOKIE)
    for forged in (cookie.value[:-4] + "AAAA", cookie.value[4:], "x", "=", "é", ""):
        headers = {"Cookie": f"{COOKIE}={forged}"}
        async with client.session.get(client.admin_url + "/api/workers", headers=headers) as response:
            assert response.status == 401, forged
    async with client.session.get(
        client.admin_url + "/api/workers", headers={"Cookie": f"{COOKIE}={cookie.value}"}
    ) as response:
        assert response.status == 200


async def test_guessing_is_slowed_down_here_too(browser: Browser) -> None:
    for _ in range(10):
        assert "no token of this daemon" in await browser.sign_in("wrong", status=401)
    assert "wait a minute" in await browser.sign_in("wrong", status=429)
    await browser.sign_in()
    assert browser.path == "/", "who has the token gets in all the same"


async def test_signing_out_ends_the_session(browser: Browser) -> None:
    await browser.sign_in()
    await browser.post("/sign-out")
    await browser.get("/inbox")
    assert browser.path == "/sign-in"


async def test_every_page_has_a_strict_policy_and_nothing_inline(browser: Browser) -> None:
    await browser.sign_in()
    for path in [*PAGES, "/nowhere", "/inbox/999"]:
        text = await browser.get(path, status=200 if path in PAGES else 404)
        policy = browser.headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert browser.headers["X-Frame-Options"] == "DENY"
        assert not re.search(r"<script(?! src=\"/static/)|\son\w+=|style=|https?://", text), path


@pytest.mark.parametrize(
    "path",
    [
        "/backfill",
        "/deliveries/retry",
        "/deliveries/1/retry",
        "/inbox/1/read",
        f"/accounts/{ACCOUNT}/check",
        "/forwarding",
        "/forwarding/we_1/remove",
    ],
)
async def test_a_form_of_another_site_changes_nothing(browser: Browser, path: str) -> None:
    await browser.sign_in()
    for site in ("cross-site", "same-site"):
        headers = HTML | {"Sec-Fetch-Site": site}
        async with browser.session.post(browser.url + path, headers=headers) as response:
            text = await response.text()
            assert (response.status, response.content_type) == (403, "text/html")
            assert "comes from another site" in text
    retry = browser.url + "/api/workers/retry-failed-deliveries"
    async with browser.session.post(retry) as response:
        assert (response.status, response.content_type) == (403, "application/problem+json")
    async with browser.session.post(retry, headers=OWN_PAGE) as response:
        assert response.status == 202


async def test_browsers_tell_the_origin_of_a_form_of_ours(browser: Browser) -> None:
    """With the policy `no-referrer` they would send `Origin: null`, as they do for strangers."""
    await browser.get("/sign-in")
    assert browser.headers["Referrer-Policy"] == "same-origin"
    await browser.sign_in()
    for path in PAGES:
        await browser.get(path)
        assert browser.headers["Referrer-Policy"] == "same-origin"


async def test_who_may_only_look_sees_no_buttons(browser: Browser, client: Client) -> None:
    await client.post(b"no json")
    await client.settled()
    await browser.sign_in("onlooker-token")
    assert "<button" not in (await browser.get("/deliveries/1")).replace('<button class="plain">', "")
    assert "has no scope" in await browser.post("/deliveries/1/retry", status=403)


async def test_what_comes_from_outside_stays_text(browser: Browser, client: Client) -> None:
    await client.send(
        "POST",
        "/api/messaging/conversations",
        {"clientAccountId": ACCOUNT, "participantPlatformId": "5550001", "participantUsername": EVIL},
        status=201,
    )
    ana = Conversationalist(ACCOUNT, "5550001", T0)  # whom Meta does not know: the name stays
    await client.deliver(ana.says(EVIL), ana.sends("image", url="javascript:alert(1)", title=EVIL))
    await client.post(f'{{"object": "{EVIL}"'.encode())
    await client.settled()
    (conversation,) = await client.conversations()
    await browser.sign_in()
    for path in ("/inbox", f"/inbox/{conversation['id']}", "/deliveries", "/deliveries/2", f"/inbox?q={EVIL}"):
        text = await browser.get(path)
        assert EVIL not in text
        assert "javascript:" not in text
        assert "&lt;script&gt;" in text or path == "/deliveries"


async def test_a_failed_delivery_is_looked_at_and_retried(browser: Browser, client: Client) -> None:
    await client.post(b'{"object": 1}')
    await client.settled()
    await browser.sign_in()
    assert 'href="/deliveries/1"' in await browser.get("/deliveries")
    assert '"object": 1' in unescape(await browser.get("/deliveries/1"))
    await browser.post("/deliveries/1/retry")
    assert browser.path == "/deliveries/1"
    await client.settled()
    assert "1 delivery could not be processed" in await browser.get("/")


async def test_a_backfill_is_started_and_looked_at(browser: Browser, client: Client) -> None:
    registered = {"clientAccountId": ACCOUNT, "participantPlatformId": "404"}
    await client.send("POST", "/api/messaging/conversations", registered, status=201)
    await browser.sign_in()
    assert "1 without a profile" in await browser.get("/backfill")
    await browser.post("/backfill", account=ACCOUNT, batch_size="0", status=400)
    await browser.post("/backfill", account="123", batch_size="10", status=404)
    await browser.post("/backfill", account=ACCOUNT, batch_size="10")
    assert browser.path.startswith("/backfill/")
    run = browser.path

    async def finished() -> bool:
        return "completed" in (await browser.get(run)).replace("run.completed", "")

    await eventually(finished)
    assert "404" in await browser.get(run)
    assert run in await browser.get("/backfill")
    await browser.post(f"{run}/pause")  # over already: nothing happens
    assert "completed" in await browser.get(run)


async def test_an_account_is_checked(browser: Browser) -> None:
    await browser.sign_in()
    text = await browser.post(f"/accounts/{ACCOUNT}/check")
    assert "belongs to" in text
    await browser.post("/accounts/1/check", status=404)


async def test_unknown_people_have_a_friendly_name_and_a_reason(
    browser: Browser, client: Client, settings: Settings
) -> None:
    assert settings.accounts
    await client.deliver(Conversationalist(ACCOUNT, "404", T0).says("who am I?"))
    await client.settled()
    await browser.sign_in()
    text = unescape(await browser.get("/inbox"))
    assert "Unknown participant" in text
    assert "profile" in text
    assert "None" not in text


def test_the_chart_is_in_proportion() -> None:
    drawn = bars([0] * 58 + [5, 10])
    assert (drawn[-1].height, drawn[-2].height, drawn[0].height) == (60, 30, 0)
    assert drawn[-1].minutes_ago == 0
    assert all(bar.y + bar.height == 60 for bar in drawn)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "unknown"), (0, "0 s"), (59.4, "59 s"), (61, "1 min 1 s"), (7200, "2 h"), (90_061, "1 d 1 h")],
)
def test_spans_are_told_in_words(seconds: float | None, text: str) -> None:
    assert span(seconds) == text


async def test_addresses_that_are_none_and_json_that_is_too_deep_are_shown(browser: Browser, client: Client) -> None:
    ana = Conversationalist(ACCOUNT, "7000000000000001", T0)
    item = ana.sends("share")
    item["message"]["attachments"][0]["payload"]["url"] = "http://[oops"
    await client.deliver(item)
    await client.post(b"[" * 20_000)
    await client.settled()
    await browser.sign_in()
    (conversation,) = await client.conversations()
    assert "without a link" in await browser.get(f"/inbox/{conversation['id']}")
    (failed,) = (await client.get("/api/deliveries?state=failed"))["deliveries"]
    assert "[[[[" in await browser.get(f"/deliveries/{failed['id']}")


class TestAReader:
    @pytest.fixture
    def secrets(self, secrets: Secrets) -> Secrets:
        named = (NamedToken("viewer", ("read",), Secret("viewers-token")),)
        return msgspec.structs.replace(secrets, named_tokens=named)

    async def test_can_sign_out(self, browser: Browser) -> None:
        await browser.sign_in("viewers-token")
        await browser.post("/sign-out")
        await browser.get("/inbox")
        assert browser.path == "/sign-in"


async def test_every_moment_says_its_date_and_its_time(browser: Browser, client: Client) -> None:
    await client.deliver(Conversationalist(ACCOUNT, "7000000000000001", T0 - 86_400_000 * 40).says("long ago"))
    await client.settled()
    (conversation,) = await client.conversations()
    await browser.sign_in()
    for path in ("/inbox", f"/inbox/{conversation['id']}"):
        moments = re.findall(r"<time ([^>]*)>([^<]*)</time>", await browser.get(path))
        assert moments
        for attributes, text in moments:
            (iso,) = re.findall(r'datetime="([^"]+)"', attributes)
            assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", iso)
            assert f'title="{iso}"' in attributes
            assert text == f"{iso[:10]} {iso[11:16]} UTC"


DOM = """
const times = [%s].map(([iso, inList]) => ({dateTime: iso, closest: () => inList ? {} : null, textContent: ""}));
const body = {dataset: {events: "", every: ""}};
globalThis.document = {querySelectorAll: () => times, getElementById: () => null, body};
globalThis.addEventListener = () => {};
require(process.argv[2]);
console.log(JSON.stringify(times.map((one) => [one.textContent, one.title])));
"""


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not installed")
async def test_the_script_tells_date_and_time_of_all_that_is_not_of_today(tmp_path: Path) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    moments = [now, now - timedelta(days=1, minutes=7), now - timedelta(days=400)]
    isos = [f"{moment:%Y-%m-%dT%H:%M:%S}.000Z" for moment in moments]
    (tmp_path / "run.js").write_text(
        DOM % ", ".join(json.dumps([iso, in_list]) for iso in isos for in_list in (True, False))
    )
    script = importlib.resources.files("inboxd.dashboard") / "static" / "dashboard.js"
    environment = {"TZ": "UTC", "LC_ALL": "en_GB.UTF-8", "PATH": os.environ["PATH"]}
    done = await asyncio.create_subprocess_exec(
        "node", str(tmp_path / "run.js"), str(script), env=environment, stdout=asyncio.subprocess.PIPE
    )
    out, _ = await done.communicate()
    shown = json.loads(out)
    assert [title for _, title in shown] == [iso for iso in isos for _ in range(2)]
    for index, (text, _) in enumerate(shown):
        moment = moments[index // 2]
        assert f":{moment:%M}" in text, text
        assert str(moment.year) in text or index == 0, text


async def test_accounts_are_told_apart(browser: Browser, client: Client, graph: tuple[GraphServer, str]) -> None:
    other, stranger = "17841400000000002", "17841499999999999"
    await client.deliver(Conversationalist(ACCOUNT, "7000000000000001", T0).says("to the first"))
    await client.settled()
    await browser.sign_in()
    assert 'name="account"' not in await browser.get("/inbox")

    graph[0].tokens["the-other-token"] = Token(other)
    added = await client.send("POST", "/api/accounts", {"token": "the-other-token", "name": "bakery"}, status=201)
    name = added["account"]["username"] or "bakery"
    for account_id in (other, stranger):
        talk = Conversationalist(account_id, "7000000000000002", T0)
        await client.deliver(talk.says(f"to {account_id}"), account_id=account_id)
    await client.settled()
    text = unescape(await browser.get("/inbox"))
    assert 'name="account"' in text
    assert f'<span class="account">{name}</span>' in text
    assert f'<span class="account">{stranger}, not served</span>' in text
    only = unescape(await browser.get(f"/inbox?account={other}"))
    assert f"to {other}" in only
    assert "to the first" not in only
    assert f'<option value="{other}" selected>' in only
    assert "1 conversation" in only
    (thread,) = await client.conversations(f"?clientAccountId={other}")
    assert f"account {name} ({other})" in await browser.get(f"/inbox/{thread['id']}")


@pytest.mark.parametrize(
    ("path", "query", "known"),
    [
        ("/outbox", "state=sended", "'state' cannot be 'sended'. It can be 'queued', 'sending', "),
        ("/comments", "state=hiden", "'state' cannot be 'hiden'. It can be 'visible', 'hidden', 'deleted'."),
        ("/comments", "open=yes", "'open' cannot be 'yes'. It can be '1'."),
        ("/inbox", "unread=yes", "'unread' cannot be 'yes'. It can be '1'."),
        ("/inbox", "unread=" + "9" * 500, "'unread' cannot be '" + "9" * 40 + "'."),
    ],
)
async def test_a_filter_that_is_none_is_said_instead_of_showing_everything(
    browser: Browser, path: str, query: str, known: str
) -> None:
    await browser.sign_in()
    assert known in unescape(await browser.get(f"{path}?{query}", status=400))
    name = query.partition("=")[0]
    await browser.get(f"{path}?{name}=")  # as a form without a choice sends it


async def test_pages_listen_to_every_event_that_changes_what_they_show(browser: Browser, client: Client) -> None:
    await client.deliver(Conversationalist(ACCOUNT, "7000000000000001", T0).says("hello"))
    await client.settled()
    (one,) = await client.conversations()
    outbound = {f"outbound.{state}" for state in OutboundState} - {"outbound.sending"}
    message = {"message.received", "message.sent", "message.edited", "message.deleted", "message.read"}
    shown = {
        "/": outbound,
        "/outbox": outbound,
        "/inbox": message | {"conversation.updated", "profile.completed"},
        f"/inbox/{one['id']}": outbound | message | {"message.reaction_added", "message.reaction_removed"},
    }
    await browser.sign_in()
    for path, wanted in shown.items():
        found = re.search('data-events="([^"]*)"', await browser.get(path))
        assert found is not None
        listened = found[1].split()
        assert wanted <= {*listened}, path
        await client.get(f"/api/events?limit=1&types={','.join(listened)}")  # which refuses a type that there is not
