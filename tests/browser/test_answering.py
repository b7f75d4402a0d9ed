"""Answering in a real browser: what is written waits, is sent or fails in place, and a closed window is said."""

import asyncio
import time

import msgspec
import pytest
from inboxd.simulator.graph_server import Behaviour, GraphServer
from inboxd.simulator.payloads import Conversationalist, delivery
from inboxd.simulator.people import igsid
from inboxd.simulator.sender import WebhookSender
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser.conftest import INSTALLED, Browser, on_a_phone
from tests.support import ACCOUNT, APP_SECRET, Client, Json

WHO = igsid(3)
EVIL = "<script>document.title='owned'</script>"
DAY_MS = 86_400_000

pytestmark = INSTALLED


class Customer:
    """The other side: a person on the simulated Instagram, whose webhooks reach the daemon."""

    def __init__(self, client: Client, server: GraphServer) -> None:
        self.client = client
        self.server = server
        self.sender = WebhookSender(
            client.session, f"{client.public_url}/webhooks/instagram", APP_SECRET, instagram=server
        )
        self.talk = Conversationalist(ACCOUNT, WHO, int(time.time() * 1000) - 60_000)

    async def says(self, text: str) -> Json:
        """The person writes. Returns the conversation."""
        await self.sender.send(delivery(ACCOUNT, self.talk.now, [self.talk.says(text)]))
        await self.client.settled()
        (one,) = await self.client.conversations()
        return one

    def behave(self, **changes: object) -> None:
        self.server.behaviour = msgspec.structs.replace(self.server.behaviour, **changes)

    @property
    def got(self) -> list[str | None]:
        return [one.text for one in self.server.sending.ledger.messages]


@pytest.fixture
async def customer(client: Client, graph: tuple[GraphServer, str]) -> Customer:
    graph[0].behaviour = Behaviour(latency_ms=1, echo_after_ms=100)
    return Customer(client, graph[0])


def texts(browser: Browser) -> list[str]:
    return [one.text for one in browser.driver.find_elements(By.CSS_SELECTOR, "#thread .text")]


def answers_with_the_keyboard(browser: Browser, path: str) -> None:
    browser.sign_in(path)
    browser.sees("Can be answered until", "#window")
    for _ in range(40):
        if browser.driver.switch_to.active_element.get_attribute("id") == "text":
            break
        browser.driver.switch_to.active_element.send_keys(Keys.TAB)
    field = browser.driver.switch_to.active_element
    assert field.get_attribute("id") == "text"
    field.send_keys("Yes, until Saturday.", Keys.ENTER, "Shall I keep one for you?")
    browser.photograph("composer")
    field.send_keys(Keys.TAB)
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    browser.sees("Shall I keep one for you?", "#thread")
    assert texts(browser)[-1] == "Yes, until Saturday.\nShall I keep one for you?"
    browser.until(lambda driver: not driver.find_elements(By.CSS_SELECTOR, "#outbox li"))
    # The cursor is in the field again, and a shortcut sends.
    field = browser.until(lambda driver: driver.switch_to.active_element)
    assert field.get_attribute("id") == "text"
    field.send_keys(EVIL, Keys.CONTROL, Keys.ENTER)
    browser.sees(EVIL, "#thread")
    assert "owned" not in browser.driver.title
    assert browser.complaints() == []


async def test_an_answer_is_written_with_the_keyboard_and_becomes_a_message_in_place(
    customer: Customer, browser: Browser
) -> None:
    one = await customer.says("Do you have it in blue?")
    await asyncio.to_thread(answers_with_the_keyboard, browser, f"/inbox/{one['id']}")
    assert customer.got == ["Yes, until Saturday.\nShall I keep one for you?", EVIL]


def write(browser: Browser, text: str) -> None:
    browser.find("#text").send_keys(text)
    browser.click(".composer button")


async def test_each_state_is_seen_in_place_and_what_failed_is_tried_again(customer: Customer, browser: Browser) -> None:
    one = await customer.says("Do you have it in blue?")
    path = f"/inbox/{one['id']}"
    customer.behave(send_answer="late", send_answer_ms=4000)
    await asyncio.to_thread(browser.sign_in, path)
    await asyncio.to_thread(write, browser, "first")
    await asyncio.to_thread(browser.sees, "sending", "#outbox")
    await asyncio.to_thread(write, browser, "second")
    await asyncio.to_thread(browser.sees, "waiting", "#outbox")
    await asyncio.to_thread(browser.sees, "waiting for the message before it", "#outbox")
    await asyncio.to_thread(browser.photograph, "composer-waiting")
    customer.behave(send_answer="normal")
    await asyncio.to_thread(browser.sees, "second", "#thread")

    customer.behave(send_error_code=551, send_error_subcode=1545041)
    await asyncio.to_thread(write, browser, "third")
    await asyncio.to_thread(browser.sees, "not sent", "#outbox")
    await asyncio.to_thread(browser.sees, "The participant cannot be reached", "#outbox")
    await asyncio.to_thread(write, browser, "fourth")
    await asyncio.to_thread(browser.sees, "fourth", "#outbox")
    await asyncio.to_thread(browser.photograph, "answering")
    await asyncio.to_thread(fits_a_phone, customer.client.admin_url, path)
    await asyncio.to_thread(browser.click, "#outbox li:last-child form[action$='/cancel'] button")
    customer.behave(send_error_code=0)
    await asyncio.to_thread(browser.click, "#outbox form[action$='/retry'] button")
    await asyncio.to_thread(browser.sees, "third", "#thread")
    assert customer.got == ["first", "second", "third"]
    assert await asyncio.to_thread(browser.complaints) == []


def fits_a_phone(url: str, path: str) -> None:
    with on_a_phone(url) as browser:
        browser.open(path)
        browser.sees("Try again", "#outbox")
        browser.fits("answering-phone")


async def test_what_may_have_been_sent_is_sent_again_only_after_a_question(
    customer: Customer, browser: Browser
) -> None:
    one = await customer.says("Do you have it in blue?")
    customer.behave(send_answer="dropped", echo="never")
    await asyncio.to_thread(browser.sign_in, f"/inbox/{one['id']}")
    await asyncio.to_thread(write, browser, "perhaps")
    await asyncio.to_thread(browser.sees, "not known whether sent", "#outbox")
    await asyncio.to_thread(browser.photograph, "composer-unknown")
    await asyncio.to_thread(browser.click, "#outbox form[action$='/retry?force=true'] button")

    def declines() -> str:
        question = browser.driver.switch_to.alert
        text = question.text
        question.dismiss()
        return text

    assert "gets it twice" in await asyncio.to_thread(declines)
    assert customer.got == ["perhaps"]


async def test_a_closed_window_is_said_and_the_form_comes_when_they_write(customer: Customer, browser: Browser) -> None:
    customer.talk.now -= 3 * DAY_MS
    one = await customer.says("hello?")
    await asyncio.to_thread(browser.sign_in, f"/inbox/{one['id']}")
    await asyncio.to_thread(browser.sees, "The reply window closed at", "#window")
    await asyncio.to_thread(browser.photograph, "composer-closed")
    assert not await asyncio.to_thread(browser.driver.find_elements, By.ID, "text")
    customer.talk.now += 3 * DAY_MS
    await customer.says("hello again?")
    await asyncio.to_thread(write, browser, "Good morning")
    await asyncio.to_thread(browser.sees, "Good morning", "#thread")
    assert customer.got == ["Good morning"]


def keeps_what_is_typed(browser: Browser, path: str) -> None:
    browser.sign_in(path)
    browser.find("#text").send_keys("half a sent")
    browser.find("h1").click()


async def test_what_is_being_typed_stays_while_messages_come(customer: Customer, browser: Browser) -> None:
    one = await customer.says("Do you have it in blue?")
    await asyncio.to_thread(keeps_what_is_typed, browser, f"/inbox/{one['id']}")
    await customer.says("or in green?")
    await asyncio.to_thread(browser.sees, "or in green?", "#thread")
    field = await asyncio.to_thread(browser.find, "#text")
    assert field.get_property("value") == "half a sent"
