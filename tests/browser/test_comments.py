"""The pages of comments in a real browser: do they live, can they be used, do they fit on a phone?"""

import asyncio
import time

import pytest
from inboxd.simulator.graph_server import GraphServer
from selenium.webdriver.common.by import By

from tests.browser.conftest import INSTALLED, Browser, on_a_phone
from tests.comments.rig import THEIR_POST, Shop, threads
from tests.support import ACCOUNT, BRUNO, Client, Json

pytestmark = INSTALLED

EVIL = "<script>document.title='owned'</script>"
WHOLE = """const mine = arguments[0].getBoundingClientRect();
const around = arguments[0].closest(".grow").getBoundingClientRect();
return mine.left >= around.left && mine.right <= around.right;"""
"""Whether a badge is within the row that it stands in."""
LONG = "¿Tienen también el azul en talla grande, y cuánto cuesta el envío a Canarias? " * 4


@pytest.fixture
def shop(graph: tuple[GraphServer, str]) -> Shop:
    return Shop(graph[0])


async def fill(client: Client, shop: Shop) -> Json:
    """Threads of all kinds; the one with the most in it."""
    now = int(time.time() * 1000) - 600_000
    first = await shop.comment(client, LONG, created_ms=now)
    await shop.comment(client, "me too!", parent_id=first.id, from_id=BRUNO, username="bruno", created_ms=now + 60_000)
    own = {"from_id": ACCOUNT, "username": "the.shop", "created_ms": now + 120_000}
    await shop.comment(client, "Yes, in blue and in green 💙", parent_id=first.id, **own)
    await shop.comment(client, EVIL, from_id="7000000000000003", username="mallory", created_ms=now + 180_000)
    await shop.comment(client, None, from_id=BRUNO, username="bruno", created_ms=now + 200_000)
    mention = {"mentions": {ACCOUNT}, "from_id": BRUNO, "username": "carla", "created_ms": now}
    await shop.comment(client, "look what @the.shop has", media_id=THEIR_POST, **mention)
    return next(one for one in await threads(client) if one["comment"]["platformCommentId"] == first.id)


def answer(browser: Browser, number: str) -> None:
    browser.sign_in("/comments")
    for text in ("@ana_x", "@mallory", EVIL, "a GIF, a sticker or a picture", "mention", "look what @the.shop has"):
        browser.sees(text)
    browser.photograph("comments")
    assert browser.driver.title == "Comments · inboxd"
    browser.open(f"/comments/{number}")
    browser.sees("in blue and in green", "#comments")
    browser.find("#text").send_keys("It ships on Monday.")
    browser.photograph("comment-thread")
    browser.click("form[action$='/reply'] button")
    browser.sees("It ships on Monday.", "#comments .ours:last-child")
    browser.click("li form[action$='/hide'] button")
    browser.sees("hidden", "#comments")
    browser.sees("Nothing can be written here: it is hidden")
    browser.click("li form[action$='/show'] button")
    browser.find("form[action$='/reply']")
    browser.click("#comments a[href$='/private']")
    browser.find("#text").send_keys("In private: 20 €")
    browser.photograph("comment-private")
    browser.click("form[action$='/private'] button")
    browser.sees("answered in private", "#comments")
    browser.click("li form[action$='/delete'] button")
    browser.driver.switch_to.alert.accept()
    browser.sees("deleted", "#comments")
    assert browser.complaints() == []


async def test_comments_are_answered_hidden_and_deleted(client: Client, browser: Browser, shop: Shop) -> None:
    found = await fill(client, shop)
    await asyncio.to_thread(answer, browser, found["id"])


async def test_comments_come_by_themselves(client: Client, browser: Browser, shop: Shop) -> None:
    await asyncio.to_thread(browser.sign_in, "/comments")
    first = await shop.comment(client, "first, and nobody pressed a key")
    await asyncio.to_thread(browser.sees, "first, and nobody pressed a key")
    (found,) = await threads(client)
    await asyncio.to_thread(browser.open, f"/comments/{found['id']}")
    await shop.comment(client, "a reply", parent_id=first.id, from_id=BRUNO, username="bruno")
    await asyncio.to_thread(browser.sees, "a reply", "#comments")


async def test_comments_fit_on_a_phone(client: Client, shop: Shop) -> None:
    found = await fill(client, shop)

    def look() -> None:
        with on_a_phone(client.admin_url) as phone:
            for name, path in (
                ("comments", "/comments"),
                ("comment-thread", f"/comments/{found['id']}"),
                ("comment-private", f"/comments/{found['id']}/private"),
            ):
                phone.open(path)
                phone.fits(f"phone-{name}")
                for badge in phone.driver.find_elements(By.CSS_SELECTOR, ".who .state"):
                    assert phone.driver.execute_script(WHOLE, badge), f"'{badge.text}' is cut off"

    await asyncio.to_thread(look)
