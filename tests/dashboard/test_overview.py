"""The overview shows what features hand over, in the order that they ask for."""

import importlib.resources
import re
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import aiohttp_jinja2
import jinja2
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from inboxd.dashboard.overview import Overview
from inboxd.feature import Card, Need, OverviewPart
from inboxd.http import rendering
from inboxd.runtime.clock import Clock

TEMPLATES = {
    "first.html": "{% macro tiles(card) %}<i>tile {{ card.number }}</i>{% endmacro %}"
    "{% macro section(card) %}<h2>first {{ card.number }}</h2>{% endmacro %}",
    "second.html": "{% macro section(card) %}<h2>second {{ card.text }}</h2>{% endmacro %}",
}


async def first() -> OverviewPart:
    needs = [Need("mild", "/mild", urgent=False), Need("last", "/", position=2)]
    return OverviewPart(Card("first.html", {"number": 7}, position=1), needs)


async def second() -> OverviewPart:
    needs = [Need("milder", "/mild", urgent=False, position=1), Need("first", "/first", position=1)]
    return OverviewPart(Card("second.html", {"text": "<b>"}, position=2), needs)


@pytest.fixture
async def text(problems: list[str], tmp_path: Path) -> AsyncIterator[str]:
    """The page, made of these features."""
    for name, template in TEMPLATES.items():
        (tmp_path / name).write_text(template)
    app = web.Application()
    rendering.set_up(app, Clock(), ["inboxd.dashboard"], [("/", "Overview")])
    aiohttp_jinja2.get_env(app).loader = jinja2.ChoiceLoader(
        [
            jinja2.FileSystemLoader([tmp_path]),
            jinja2.FileSystemLoader([str(importlib.resources.files("inboxd.dashboard") / "templates")]),
        ]
    )
    Overview([second, first], problems=lambda: problems).add_routes(app)
    async with TestServer(app) as server, aiohttp.ClientSession() as session, session.get(server.make_url("/")) as page:
        yield await page.text()


@pytest.fixture
def problems() -> list[str]:
    return []


async def test_urgent_needs_come_first_and_positions_order_the_rest(text: str) -> None:
    shown = re.findall(r'<li class="(\w+)">(?:<a href="[^"]*">)?(\w+)', text)
    assert shown == [("bad", "first"), ("bad", "last"), ("mild", "mild"), ("mild", "milder")]
    assert '<a href="/first">first</a>' in text
    assert '<li class="bad">last</li>' in text, "who looks at the overview needs no link to it"


async def test_cards_come_by_position_and_their_tiles_together(text: str) -> None:
    assert re.findall(r"<h2>([^<]+)</h2>", text) == ["first 7", "second &lt;b&gt;"]
    assert text.index("tile 7") < text.index("</section>", text.index('id="numbers"')) < text.index("first 7")


@pytest.mark.parametrize(("problems", "heading"), [([], "Receiving"), (["a problem"], "Not receiving")])
async def test_problems_are_in_the_heading(text: str, heading: str) -> None:
    assert re.search(rf"</span>{heading}</h1>", text)
