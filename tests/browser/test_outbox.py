"""The outbox in a real browser: it keeps itself up to date, and what is not sent is tried again and canceled there."""

import asyncio

from selenium.webdriver.common.by import By

from tests.browser.conftest import INSTALLED, Browser, on_a_phone
from tests.browser.test_answering import EVIL, Customer, customer
from tests.support import Json

__all__ = ["customer"]
pytestmark = INSTALLED
GREEN = "And in green from Friday on 💚"
LONG = "Sí, la tenemos en azul, en verde y en rojo, y el envío a Canarias cuesta 4,90 €. " * 4


def looks_empty(browser: Browser) -> None:
    browser.sign_in("/outbox")
    browser.sees("Nothing was sent yet", "#list")
    browser.photograph("outbox-empty")


def states(browser: Browser) -> list[str]:
    def read(driver: object) -> list[str]:
        assert driver is browser.driver
        return ["shown", *(one.text for one in browser.driver.find_elements(By.CSS_SELECTOR, "#list .state"))]

    return browser.until(read)[1:]


def tried_again(browser: Browser) -> None:
    browser.click("#list form[action*='/retry'] button")
    browser.until(lambda driver: not driver.find_elements(By.CSS_SELECTOR, "#list .state.bad"))


def unknown_is_asked_about(browser: Browser) -> None:
    browser.sees("not known whether sent", "#list")
    browser.photograph("outbox")
    browser.click("#list form[action*='/retry'] button")
    question = browser.until(lambda driver: driver.switch_to.alert)
    assert "gets it twice" in question.text
    question.dismiss()
    browser.click("#list form[action*='/cancel'] button")
    browser.sees("canceled", "#list")


def fits_a_phone(url: str) -> None:
    with on_a_phone(url) as browser:
        browser.open("/outbox")
        browser.sees("Try again", "#list")
        browser.fits("outbox-phone")


async def test_it_is_live_and_what_failed_is_tried_again_in_place(customer: Customer, browser: Browser) -> None:
    await asyncio.to_thread(browser.driver.set_window_size, 1280, 900)
    one = await customer.says("Do you have it in blue?")
    await asyncio.to_thread(looks_empty, browser)
    await sends(customer, one, LONG)
    await asyncio.to_thread(browser.sees, "delivered", "#list")
    customer.behave(send_error_code=551, send_error_subcode=1545041)
    await sends(customer, one, GREEN)
    await asyncio.to_thread(browser.sees, "The participant cannot be reached", "#list")
    await asyncio.to_thread(browser.sees, GREEN, "#list")
    await asyncio.to_thread(fits_a_phone, customer.client.admin_url)
    await asyncio.to_thread(browser.photograph, "outbox-failed")
    customer.behave(send_error_code=0)
    await asyncio.to_thread(tried_again, browser)
    await asyncio.to_thread(browser.until, lambda _: states(browser) == ["delivered", "delivered"])
    assert customer.got == [LONG.strip(), GREEN]
    customer.behave(send_answer="dropped", echo="never")
    await sends(customer, one, "Shall I keep one for you?")
    await asyncio.to_thread(unknown_is_asked_about, browser)
    assert len(customer.got) == 3, "a question that is declined sends nothing"
    customer.behave(send_answer="normal", echo="normal")
    await sends(customer, one, EVIL)
    await asyncio.to_thread(browser.sees, EVIL, "#list")
    assert "owned" not in browser.driver.title
    assert await asyncio.to_thread(browser.complaints) == []


async def sends(customer: Customer, conversation: Json, text: str) -> None:
    path = f"/api/messaging/conversations/{conversation['id']}/messages"
    await customer.client.send("POST", path, {"text": text.strip()}, status=202)
