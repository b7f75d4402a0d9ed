"""The dashboard in a real browser: does it live, can it be used, does it stay text, and how does it look?"""

import asyncio
import json
import re
import time
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from inboxd.simulator.graph_server import Behaviour
from inboxd.simulator.payloads import Conversationalist, Item, mid_of
from inboxd.simulator.people import igsid
from inboxd.simulator.story import story
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser.conftest import INSTALLED, Browser, chromium, on_a_phone
from tests.support import ACCOUNT, Client, Json, eventually

EVIL = "<script>document.title='owned'</script>"
RICH = igsid(40)
PAGES = {
    "overview": "/",
    "inbox": "/inbox",
    "backfill": "/backfill",
    "deliveries": "/deliveries",
    "accounts": "/accounts",
}

pytestmark = INSTALLED


async def fill(client: Client) -> Json:
    """A lively inbox, with somebody whose name is a script and somebody who is unknown; the latter's conversation."""
    now = int(time.time() * 1000)
    registered = {"clientAccountId": ACCOUNT, "participantPlatformId": "5550001", "participantUsername": EVIL}
    await client.send("POST", "/api/messaging/conversations", registered, status=201)
    await client.deliver(Conversationalist(ACCOUNT, "5550001", now - 5_000).says(EVIL))
    for payload in story(ACCOUNT, now - 3_600_000):
        await client.post(json.dumps(payload).encode())
    await client.deliver(*a_rich_talk(Conversationalist(ACCOUNT, RICH, now - 600_000)))
    await client.deliver(Conversationalist(ACCOUNT, "5550002", now - 1_000).says("Hello, do you remember me?"))
    await client.post(b'{"object": "instagram", "entry": "what is this?"}')
    await client.settled()

    async def named() -> bool:
        found = await client.get("/api/participants?profileState=pending")
        return bool(found["total"] == 0)

    await eventually(named)
    return next(one for one in await client.conversations() if one["participantPlatformId"] == "5550002")


def a_rich_talk(ana: Conversationalist) -> list[Item]:
    """Everything that a message can be."""
    question, regretted = ana.says("Do you still have the blue bag?"), ana.says("never mind")
    answer = ana.answers("Yes, two are left. Shall I keep one for you?")
    return [
        question,
        ana.edits(question, "Do you still have the green bag?"),
        ana.sends("image"),
        regretted,
        ana.unsends(regretted),
        answer,
        ana.sees(answer),
        ana.reacts(answer),
        ana.replies_to_story("This one is lovely!"),
        ana.says("Yes please, for Saturday", reply_to={"mid": mid_of(answer)}),
        ana.sends_unsupported(),
    ]


def look_around(browser: Browser, unknown: str, rich: str) -> None:
    browser.open("/")
    browser.find("#token")
    browser.photograph("sign-in")
    browser.sign_in("/inbox")
    browser.sees("Unknown participant")
    browser.sees(EVIL)
    assert browser.driver.title == "Inbox · inboxd"
    for name, path in PAGES.items():
        browser.open(path)
        browser.find("h1")
        browser.photograph(name)
    browser.open(f"/inbox/{unknown}")
    browser.sees("Hello, do you remember me?")
    browser.open(f"/inbox/{rich}")
    for text in ("green bag", "edited", "a picture", "This message was unsent.", "seen", "in reply to a story"):
        browser.sees(text, ".thread")
    browser.sees("in reply to: Yes, two are left", ".thread")
    browser.sees("\u2764", ".reactions")
    browser.photograph("thread")
    browser.open("/deliveries")
    browser.click("td a")
    browser.sees("what is this?", "pre")
    browser.photograph("delivery")
    assert browser.complaints() == []


async def test_every_page_is_there_and_what_comes_from_outside_is_text(client: Client, browser: Browser) -> None:
    unknown = await fill(client)
    (rich,) = [one for one in await client.conversations("?limit=200") if one["participantPlatformId"] == RICH]
    await asyncio.to_thread(look_around, browser, unknown["id"], rich["id"])


async def test_messages_come_and_go_by_themselves(client: Client, browser: Browser) -> None:
    ana = Conversationalist(ACCOUNT, igsid(1), int(time.time() * 1000))
    await client.deliver(ana.says("first"))
    await client.settled()
    await asyncio.to_thread(browser.sign_in, "/inbox")
    await asyncio.to_thread(browser.sees, "first")
    await client.deliver(ana.says("second, and nobody pressed a key"))
    await asyncio.to_thread(browser.sees, "second, and nobody pressed a key")
    (conversation,) = await client.conversations()
    await asyncio.to_thread(browser.open, f"/inbox/{conversation['id']}")
    third = ana.says("third")
    await client.deliver(third)
    await asyncio.to_thread(browser.sees, "third", ".thread")
    await client.deliver(ana.unsends(third))
    await asyncio.to_thread(browser.sees, "This message was unsent.", ".thread")
    assert browser.complaints() == []


async def test_older_messages_say_their_date_and_their_time(client: Client, browser: Browser) -> None:
    at = int(time.time() * 1000) - 3 * 86_400_000
    await client.deliver(Conversationalist(ACCOUNT, igsid(1), at).says("some days ago"))
    await client.settled()
    (conversation,) = await client.conversations()
    await asyncio.to_thread(browser.sign_in, "/inbox")
    for path, place in (("/inbox", ".side time"), (f"/inbox/{conversation['id']}", ".stamp time")):
        await asyncio.to_thread(browser.open, path)
        shown = await asyncio.to_thread(browser.find, place)
        assert re.search(r"20\d\d.*\d:\d\d", shown.text), shown.text
        assert shown.get_attribute("title") == shown.get_attribute("datetime")


def steer(browser: Browser) -> None:
    browser.sign_in("/backfill")
    browser.click("form.card button.main")
    browser.sees("to go", ".card")
    browser.photograph("backfill-run")
    browser.click("form[action$='/pause'] button")
    browser.sees("paused")
    browser.click("form[action$='/cancel'] button")
    browser.driver.switch_to.alert.accept()
    browser.sees("cancelled")
    browser.open("/backfill")
    browser.sees("cancelled", "#history")
    browser.click("form.card button.main")
    browser.sees("to go", ".card")
    browser.open("/backfill")
    browser.sees("running", "#active")
    browser.photograph("backfill")
    assert browser.complaints() == []


async def test_a_backfill_is_started_paused_and_cancelled(
    client: Client, browser: Browser, graph: tuple[Any, str]
) -> None:
    graph[0].behaviour = Behaviour(latency_ms=800)
    people = [{"clientAccountId": ACCOUNT, "participantPlatformId": igsid(number)} for number in range(200)]
    await client.send("POST", "/api/messaging/imports", {"conversations": people})
    await asyncio.to_thread(steer, browser)


def use_keys(browser: Browser) -> None:
    browser.sign_in("/inbox")
    body = browser.find("body")
    body.send_keys(Keys.TAB)
    assert browser.driver.switch_to.active_element.text == "Skip to the content"
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    assert browser.driver.switch_to.active_element.get_attribute("id") == "main"
    browser.find("#q").send_keys("colour", Keys.ENTER)
    browser.sees("Nothing is like that.")
    browser.find("#q").clear()
    browser.find("#q").send_keys("Norw*", Keys.ENTER)
    browser.sees("1 conversation")
    for _ in range(3):
        browser.driver.switch_to.active_element.send_keys(Keys.TAB)
    browser.find(".list a").send_keys(Keys.ENTER)
    browser.sees("Do you ship to Norway?", ".thread")
    browser.find("form[action$='/read'] button").send_keys(Keys.ENTER)
    browser.until(lambda driver: not driver.find_elements(By.CSS_SELECTOR, "form[action$='/read']"))
    browser.click("form.out button")
    browser.find("#token")


async def test_it_is_used_with_the_keyboard(client: Client, browser: Browser) -> None:
    await client.deliver(Conversationalist(ACCOUNT, igsid(3), 1_790_000_000_000).says("Do you ship to Norway?"))
    await client.settled()

    async def indexed() -> bool:
        return bool((await client.get("/api/messaging/messages?q=norway"))["results"])

    await eventually(indexed)
    await asyncio.to_thread(use_keys, browser)


def fits_a_phone(url: str, thread: str) -> None:
    with on_a_phone(url) as browser:
        for name, path in {**PAGES, "thread": thread}.items():
            browser.open(path)
            browser.fits(f"{name}-phone")
        ground = browser.driver.execute_script("return getComputedStyle(document.body).backgroundColor")
        assert ground == "rgb(19, 19, 22)"


async def test_it_fits_a_phone_in_the_dark(client: Client) -> None:
    unknown = await fill(client)
    await asyncio.to_thread(fits_a_phone, client.admin_url, f"/inbox/{unknown['id']}")


FORGED = '<form method="post" action="{}/inbox/1/read"><button>Win a prize</button></form>'


def be_tricked(url: str, stranger: str, *arguments: str) -> None:
    with chromium(*arguments) as driver:
        browser = Browser(driver, url)
        browser.sign_in("/inbox/1")
        browser.find("form[action='/inbox/1/read']")
        driver.get(stranger)
        browser.click("button")
        browser.sees("Only the dashboard's own pages")
        browser.open("/inbox/1")
        browser.click("form[action='/inbox/1/read'] button")
        browser.until(lambda driver: not driver.find_elements(By.CSS_SELECTOR, "form[action$='/read']"))
        browser.click("form.out button")
        browser.find("#token")


@pytest.mark.parametrize("host", ["127.0.0.1", "inbox.test"])
async def test_a_page_of_another_port_cannot_use_the_session(client: Client, host: str) -> None:
    """The browser sends the cookie, since ports are one site. Over plain HTTP by name it sends no Sec-Fetch-Site."""
    await client.deliver(Conversationalist(ACCOUNT, igsid(3), 1_790_000_000_000).says("Do you ship to Norway?"))
    await client.settled()
    url = client.admin_url.replace("127.0.0.1", host)
    seen = []

    async def page(_request: web.Request) -> web.Response:
        seen.append("page")
        return web.Response(text=FORGED.format(url), content_type="text/html")

    app = web.Application()
    app.router.add_get("/", page)
    async with TestServer(app) as server:
        stranger = f"http://{host}:{server.port}/"
        await asyncio.to_thread(be_tricked, url, stranger, "--host-resolver-rules=MAP inbox.test 127.0.0.1")
    assert seen
