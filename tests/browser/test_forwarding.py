"""The pages of forwarding in a real browser: an endpoint is added, tested, fails, is mended, and is removed."""

import asyncio
import time

import pytest
from aiohttp import web
from inboxd.simulator.payloads import Conversationalist
from inboxd.simulator.people import igsid
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from standardwebhooks import Webhook

from tests.browser.conftest import INSTALLED, Browser, on_a_phone
from tests.forwarding.receivers import Receiver, receiving
from tests.support import ACCOUNT, Client, eventually

PATH = "/api/webhook-endpoints"
EVIL = "<script>document.title='owned'</script>" + "x" * 900

pytestmark = INSTALLED


def add(browser: Browser, url: str) -> str:
    """Add an endpoint with the keyboard alone; its secret."""
    browser.sign_in("/forwarding")
    browser.sees("No webhook endpoint yet.")
    browser.photograph("forwarding-empty")
    browser.find("#url").send_keys("http://169.254.169.254/", Keys.ENTER)
    browser.sees("link-local", "#problem")
    browser.photograph("forwarding-refused")
    assert [one for one in browser.complaints() if "422" not in one] == []
    field = browser.find("#url")
    assert field.get_property("value") == "http://169.254.169.254/"
    field.clear()
    field.send_keys(url)
    browser.find("#description").send_keys("CRM")
    browser.find("#types").clear()
    browser.find("#types").send_keys("message.received, conversation.*", Keys.ENTER)
    browser.photograph("forwarding-secret")
    secret = str(browser.find("#secret pre").text)
    browser.click("#secret a")
    browser.sees("conversation.*", "#endpoint")
    assert secret not in browser.driver.page_source
    return secret


def send_a_test(browser: Browser) -> None:
    browser.click("form[action$='/test'] button")
    browser.sees("delivered", "#sample")
    browser.sees("fine", "#sample pre")
    browser.photograph("forwarding-test")
    browser.click("#sample a")


def sees_failures(browser: Browser) -> None:
    browser.sees("conversation.created", "#failures")
    browser.sees("retrying", "#endpoint")
    browser.sees("HTTP 422", "#attempts")
    browser.sees("<script>document", "#attempts")
    assert browser.driver.title == "CRM · inboxd"
    browser.photograph("forwarding-endpoint")


def retries(browser: Browser) -> None:
    browser.click("#failures form button")
    browser.sees("None: what was tried was delivered.", "#failures")


def steers(browser: Browser) -> str:
    """Disables, enables, replays, makes a new secret: it is returned."""
    browser.click("form[action$='/disable'] button")
    browser.sees("disabled", "#endpoint")
    browser.click("form[action$='/enable'] button")
    browser.sees("up to date", "#endpoint")
    browser.click("form[action$='/replay'] button")
    browser.driver.switch_to.alert.accept()
    browser.until(lambda driver: len(driver.find_elements(By.CSS_SELECTOR, "#attempts tbody tr")) > 4)
    browser.click("form[action$='/rotate-secret'] button")
    browser.driver.switch_to.alert.dismiss()
    assert not browser.driver.find_elements(By.ID, "secret")
    browser.click("form[action$='/rotate-secret'] button")
    browser.driver.switch_to.alert.accept()
    secret = str(browser.find("#secret pre").text)
    browser.click("#secret a")
    browser.sees("two are valid", "#endpoint")
    return secret


def removes(browser: Browser) -> None:
    browser.click("form[action$='/remove'] button")
    browser.driver.switch_to.alert.dismiss()
    browser.sees("CRM", "#endpoint")
    browser.click("form[action$='/remove'] button")
    browser.driver.switch_to.alert.accept()
    browser.sees("No webhook endpoint yet.")
    assert browser.complaints() == []


def refusing(receiver: Receiver) -> None:
    receiver.respond = lambda _request, _event: web.Response(status=422, text=EVIL, headers={"Retry-After": "3600"})


def accepting(receiver: Receiver) -> None:
    receiver.respond = lambda _request, _event: 200


@pytest.mark.long
async def test_an_endpoint_is_added_tested_mended_and_removed(client: Client, browser: Browser) -> None:
    ana = Conversationalist(ACCOUNT, igsid(1), int(time.time() * 1000))
    async with receiving() as receiver:
        secret = await asyncio.to_thread(add, browser, receiver.url)
        await asyncio.to_thread(send_a_test, browser)
        assert Webhook(secret).verify(receiver.bodies[0], receiver.headers[0])["type"] == "message.received"

        refusing(receiver)
        await client.deliver(ana.says("Do you ship to Norway?"))
        await asyncio.to_thread(sees_failures, browser)
        accepting(receiver)
        await asyncio.to_thread(retries, browser)

        before = len(receiver.bodies)
        new = await asyncio.to_thread(steers, browser)
        assert len(receiver.bodies) > before, "the replay pushed again"
        assert new != secret
        await client.deliver(ana.says("Anyone there?"))

        async def both_sign() -> bool:
            return " " in receiver.headers[-1]["webhook-signature"]

        await eventually(both_sign)
        for one in (secret, new):
            Webhook(one).verify(receiver.bodies[-1], receiver.headers[-1])
        await asyncio.to_thread(removes, browser)


def looks(browser: Browser, endpoint_id: str) -> None:
    browser.sign_in("/")
    browser.sees("CRM", "#forwarding")
    browser.photograph("forwarding-overview")
    browser.open("/forwarding")
    browser.sees("failing", "#endpoints")
    browser.photograph("forwarding")
    browser.open(f"/forwarding/{endpoint_id}")
    browser.sees("HTTP 500", "#attempts")
    assert browser.complaints() == []


def looks_on_a_phone(url: str, endpoint_id: str) -> None:
    with on_a_phone(url) as browser:
        for name, path in {"forwarding": "/forwarding", "forwarding-endpoint": f"/forwarding/{endpoint_id}"}.items():
            browser.open(path)
            browser.fits(f"{name}-phone")


async def test_what_does_not_work_is_seen_also_on_a_phone(client: Client, browser: Browser) -> None:
    async with receiving() as receiver, receiving() as old:
        receiver.respond = lambda _request, _event: web.Response(status=500, text=EVIL)
        made = await client.send("POST", PATH, {"url": receiver.url, "description": "CRM"}, status=201)
        await client.send("POST", PATH, {"url": old.url, "description": "Old system"}, status=201)
        for number in range(4):
            await client.deliver(Conversationalist(ACCOUNT, igsid(number), int(time.time() * 1000)).says("Hello"))

        async def failing() -> bool:
            return bool((await client.get(f"{PATH}/{made['id']}"))["state"] == "failing")

        await eventually(failing)
        await asyncio.to_thread(looks, browser, made["id"])
        await asyncio.to_thread(looks_on_a_phone, client.admin_url, made["id"])
