"""A real browser that is signed in to the dashboard.

With INBOXD_SCREENSHOTS=<folder> every page is photographed there: those of docs/ are made so.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

from tests.support import ADMIN_TOKEN, Client, Json

T = TypeVar("T")
WAIT_S = 20
PHONE_PX = 390
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
SCREENSHOTS = os.environ.get("INBOXD_SCREENSHOTS")
INSTALLED = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and its driver are not installed")


@contextmanager
def chromium(*arguments: str) -> Iterator[webdriver.Chrome]:
    options = Options()
    assert CHROMIUM is not None
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--lang=en-GB", *arguments):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


class Browser:
    """A browser that is signed in."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver = driver
        self.url = url

    def open(self, path: str) -> None:
        self.driver.get(self.url + path)

    def find(self, selector: str) -> Any:
        return self.until(lambda driver: driver.find_element(By.CSS_SELECTOR, selector))

    def until(self, condition: Callable[[webdriver.Chrome], T]) -> T:
        # What is live may be replaced between being found and being looked at.
        patient = WebDriverWait(self.driver, WAIT_S, ignored_exceptions=[StaleElementReferenceException])
        return patient.until(condition)

    def click(self, selector: str) -> None:
        def clicked(driver: webdriver.Chrome) -> bool:
            driver.find_element(By.CSS_SELECTOR, selector).click()
            return True

        self.find(selector)
        self.until(clicked)

    def sees(self, text: str, selector: str = "main") -> None:
        self.until(lambda driver: text in driver.find_element(By.CSS_SELECTOR, selector).text)

    def sign_in(self, path: str = "/") -> None:
        self.open(path)
        self.find("#token").send_keys(ADMIN_TOKEN, Keys.ENTER)
        self.find("header nav")

    def complaints(self) -> list[str]:
        entries: list[Json] = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in entries if entry["level"] == "SEVERE"]

    def fits(self, name: str) -> None:
        """What is shown is as wide as the phone; a picture of it."""
        self.find("h1")
        self.photograph(name)
        wide = self.driver.execute_script("return document.documentElement.scrollWidth")
        assert wide <= PHONE_PX, f"{self.driver.current_url} is {wide} px wide"
        nav = self.find("nav")
        assert nav.get_property("scrollWidth") <= nav.get_property("clientWidth")

    def photograph(self, name: str) -> None:
        if SCREENSHOTS:
            self.driver.save_screenshot(str(Path(SCREENSHOTS, f"{name}.png")))


@pytest.fixture
async def browser(client: Client) -> AsyncIterator[Browser]:
    started = chromium("--window-size=1100,900")
    driver = await asyncio.to_thread(started.__enter__)
    yield Browser(driver, client.admin_url)
    await asyncio.to_thread(started.__exit__, None, None, None)


@contextmanager
def on_a_phone(url: str) -> Iterator[Browser]:
    """A phone in the dark, signed in."""
    with chromium("--window-size=500,900", "--force-dark-mode", "--blink-settings=preferredColorScheme=0") as driver:
        driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": PHONE_PX, "height": 844, "deviceScaleFactor": 1, "mobile": True},
        )
        driver.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
        )
        browser = Browser(driver, url)
        browser.sign_in("/")
        yield browser
