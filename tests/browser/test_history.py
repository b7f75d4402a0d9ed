"""The pages of history imports in a real browser."""

import asyncio
import time
from typing import Any

from inboxd.simulator.graph_server import Behaviour, GraphServer
from inboxd.simulator.mailbox import NewMessage
from inboxd.simulator.people import igsid
from selenium.webdriver.common.keys import Keys

from tests.browser.conftest import INSTALLED, Browser, on_a_phone
from tests.support import ACCOUNT, Client

DAY_MS = 86_400_000

pytestmark = INSTALLED


def fill(server: GraphServer, people: int = 40) -> None:
    """A mailbox with conversations of the last weeks, which is read slowly enough to be watched."""
    now = int(time.time() * 1000)
    server.behaviour = Behaviour(latency_ms=300)
    for who in range(people):
        for number, text in enumerate(("Do you ship to Norway?", "Yes, within a week.", "Thanks!")):
            server.mailbox.add(
                NewMessage(ACCOUNT, igsid(who), text, number == 1, now - (who + 10) * DAY_MS + number * 60_000)
            )


def use_keys(browser: Browser) -> None:
    browser.sign_in("/accounts")
    browser.sees("Import history")
    browser.find("a[href^='/history?account=']").send_keys(Keys.ENTER)
    browser.sees("None yet.")
    browser.find("#account").send_keys(Keys.TAB)
    for _ in range(4):  # the parts of a date, and its calendar
        browser.driver.switch_to.active_element.send_keys(Keys.TAB)
    assert browser.driver.switch_to.active_element.get_attribute("name") == "emit_events"
    browser.driver.switch_to.active_element.send_keys(Keys.SPACE, Keys.TAB)
    assert browser.driver.switch_to.active_element.text == "Import history"
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    browser.sees("to go", ".card")
    browser.sees("told in the event log")
    browser.photograph("history-run")
    browser.open("/history")
    browser.sees("running", "#active")
    browser.photograph("history")
    browser.find("form[action$='/pause'] button").send_keys(Keys.ENTER)
    browser.sees("paused")


def fits_a_phone(url: str) -> None:
    with on_a_phone(url) as browser:
        browser.open("/history")
        browser.fits("history-phone")
        title, button = browser.find("#active h2 a"), browser.find("#active button")
        assert title.rect["y"] + title.rect["height"] <= button.rect["y"], "the buttons are under the name"
        box, label = browser.find("[name=emit_events]"), browser.find(".check")
        middle = label.rect["y"] + label.rect["height"] / 2
        assert abs(box.rect["y"] + box.rect["height"] / 2 - middle) < 4, "the box stands beside its text"
        browser.click("form[action$='/resume'] button")
        browser.find("form[action$='/pause'] button")
        assert browser.driver.current_url.rpartition("/")[0].endswith("/history")
        browser.fits("history-run-phone")
        assert browser.complaints() == []


async def test_an_import_is_started_with_the_keyboard_and_goes_on_from_a_phone(
    client: Client, browser: Browser, graph: tuple[Any, str]
) -> None:
    fill(graph[0])
    await asyncio.to_thread(use_keys, browser)
    assert browser.complaints() == []
    await asyncio.to_thread(fits_a_phone, client.admin_url)
