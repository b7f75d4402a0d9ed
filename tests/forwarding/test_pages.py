"""The pages of forwarding over HTTP: who may do what, what stays text, and forms that no browser sends."""

from collections.abc import AsyncIterator

import aiohttp
import msgspec
import pytest
from aiohttp import web
from inboxd.config.schema import ForwardSettings, NatsSettings, Settings
from inboxd.config.secrets import NamedToken, Secrets
from inboxd.runtime.secret import Secret
from inboxd.simulator.payloads import Conversationalist

from tests.dashboard.test_dashboard import Browser
from tests.forwarding.receivers import receiving
from tests.support import ACCOUNT, ANA, T0, Client, Json, eventually

PATH = "/api/webhook-endpoints"
HOOK = "https://127.0.0.1:9/hook"
EVIL = "<script>alert(1)</script>"


@pytest.fixture
def secrets(secrets: Secrets) -> Secrets:
    onlooker = NamedToken("onlooker", ("read",), Secret("onlooker-token"))
    return msgspec.structs.replace(secrets, named_tokens=(onlooker,))


@pytest.fixture
async def browser(client: Client) -> AsyncIterator[Browser]:
    jar = aiohttp.CookieJar(unsafe=True)  # cookies of addresses that are numbers
    async with aiohttp.ClientSession(cookie_jar=jar) as session:
        yield Browser(session, client.admin_url)


async def made(client: Client, url: str = HOOK, **more: object) -> Json:
    endpoint: Json = await client.send("POST", PATH, {"url": url, **more}, status=201)
    return endpoint


async def test_a_secret_is_shown_once_and_stored_nowhere(browser: Browser, client: Client) -> None:
    await browser.sign_in()
    text = await browser.post("/forwarding", url=HOOK, description="CRM", types="message.*, run.completed")
    (endpoint,) = (await client.get(PATH))["endpoints"]
    assert (endpoint["description"], endpoint["eventTypes"]) == ("CRM", ["message.*", "run.completed"])
    assert "whsec_" in text
    assert 'data-every=""' in text, "a page that refreshes itself would lose it"
    for path in ("/", "/forwarding", f"/forwarding/{endpoint['id']}"):
        assert "whsec_" not in await browser.get(path)
        assert browser.headers["Cache-Control"] == "no-store"
    assert "whsec_" in await browser.post(f"/forwarding/{endpoint['id']}/rotate-secret")


async def test_who_may_only_look_sees_no_buttons(browser: Browser, client: Client) -> None:
    endpoint = await made(client)
    await browser.sign_in("onlooker-token")
    for path in ("/forwarding", f"/forwarding/{endpoint['id']}"):
        text = (await browser.get(path)).replace('<button class="plain">', "")
        assert "<button" not in text
        assert "whsec_" not in text
    for path in ("", *(f"/{endpoint['id']}/{one}" for one in ("disable", "test", "rotate-secret", "replay", "remove"))):
        assert "has no scope" in await browser.post("/forwarding" + path, status=403)
    assert (await client.get(f"{PATH}/{endpoint['id']}"))["enabled"]


async def test_what_a_receiver_answers_stays_text(browser: Browser, client: Client) -> None:
    async with receiving() as receiver:
        receiver.respond = lambda _request, _event: web.Response(status=422, text=EVIL)
        endpoint = await made(client, receiver.url, description=EVIL)
        await client.deliver(Conversationalist(ACCOUNT, ANA, T0).says("hello"))
        path = f"/forwarding/{endpoint['id']}"

        async def failed() -> bool:
            return bool((await client.get(f"{PATH}/{endpoint['id']}/attempts"))["total"])

        await eventually(failed)
        await browser.sign_in()
        for text in (
            await browser.get("/"),
            await browser.get("/forwarding"),
            await browser.get(path),
            await browser.post(f"{path}/test"),
        ):
            assert EVIL not in text
            assert "&lt;script&gt;" in text
        assert "HTTP 422" in await browser.get(path)


@pytest.mark.parametrize(
    ("form", "told"),
    [
        ({"url": ""}, "This cannot be used"),
        ({"url": "ftp://crm.example.com/"}, "begins with https:// or http://"),
        ({"url": "http://169.254.169.254/"}, "link-local"),
        ({"url": HOOK, "description": "x" * 501}, "description"),
        ({"url": HOOK, "kind": "other"}, "kind"),
        ({"url": HOOK, "account": "shop"}, "accountIds"),
        ({"url": HOOK, "types": "nothing.*"}, "No type of event matches"),
        ({"url": HOOK, "types": ",".join(["message.*"] * 65)}, "eventTypes"),
    ],
)
async def test_what_cannot_be_used_is_said_beside_the_form(
    browser: Browser, client: Client, form: dict[str, str], told: str
) -> None:
    await browser.sign_in()
    text = await browser.post("/forwarding", status=422, **form)
    assert told in text
    assert f'value="{form["url"]}"' in text
    assert (await client.get(PATH))["total"] == 0


async def test_metas_own_webhooks_have_no_secret_and_no_sample(browser: Browser, client: Client) -> None:
    await browser.sign_in()
    text = await browser.post("/forwarding", url=HOOK, kind="meta", types="*", account=ACCOUNT)
    (endpoint,) = (await client.get(PATH))["endpoints"]
    assert (endpoint["kind"], endpoint["accountIds"]) == ("meta", [ACCOUNT])
    path = f"/forwarding/{endpoint['id']}"
    assert browser.path == path
    assert "Secret" not in text
    assert f"{path}/test" not in text
    assert "only Meta can sign" in await browser.post(f"{path}/test")
    assert "signed by Meta" in await browser.post(f"{path}/rotate-secret")


async def test_it_is_switched_replayed_and_removed(browser: Browser, client: Client) -> None:
    endpoint = await made(client)
    path = f"/forwarding/{endpoint['id']}"
    await browser.sign_in()
    for how, state in (("disable", "disabled"), ("disable", "disabled"), ("enable", "ok"), ("enable", "ok")):
        await browser.post(f"{path}/{how}")
        assert (await client.get(f"{PATH}/{endpoint['id']}"))["state"] == state
    for start in ("hour", "day", "week", "all"):
        await browser.post(f"{path}/replay", since=start)
        assert browser.path == path
    assert "Choose from when" in await browser.post(f"{path}/replay", status=400)
    await browser.post(f"{path}/failures/evt_1/retry")
    assert browser.path == path, "what was delivered meanwhile needs no retry"
    await browser.post(f"{path}/remove")
    assert browser.path == "/forwarding"
    for gone in (await browser.get(path, status=404), await browser.post(f"{path}/test", status=404)):
        assert "no webhook endpoint" in gone


async def test_a_replay_begins_where_it_is_said(browser: Browser, client: Client) -> None:
    async with receiving() as receiver:
        await client.deliver(Conversationalist(ACCOUNT, ANA, T0).says("before there was an endpoint"))
        await client.settled()
        endpoint = await made(client, receiver.url, eventTypes=["message.received"])
        await browser.sign_in()
        await browser.post(f"/forwarding/{endpoint['id']}/replay", since="hour")

        async def pushed() -> bool:
            return bool(receiver.delivered)

        await eventually(pushed)
        assert receiver.delivered[0]["data"]["message"]["content"] == "before there was an endpoint"


async def test_the_overview_shows_those_that_do_not_work_first(browser: Browser, client: Client) -> None:
    await browser.sign_in()
    assert "Webhook endpoints" not in await browser.get("/")
    for number in range(7):
        await made(client, description=f"sound {number}")
    await made(client, description="switched off", enabled=False)
    text = await browser.get("/")
    assert text.index("switched off") < text.index("sound 0")
    assert "sound 4" in text
    assert "sound 5" not in text
    assert "2 more" in text
    assert "sound 6" in await browser.get("/forwarding")


class TestWithNats:
    """NATS is configured, and nobody is there."""

    @pytest.fixture
    def settings(self, settings: Settings) -> Settings:
        nats = NatsSettings(url="nats://127.0.0.1:9")
        return msgspec.structs.replace(settings, forward=ForwardSettings(nats=nats))

    async def test_what_else_gets_the_event_log_is_on_the_page(self, browser: Browser) -> None:
        await browser.sign_in()
        text = await browser.get("/forwarding")
        assert "Not connected" in text
        assert "No webhook endpoint yet" in text
