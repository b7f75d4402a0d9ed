"""Looks at everything that there is to see: every GET of the API, every page, each decoded strictly."""

import io
import re
from html.parser import HTMLParser
from typing import Any, Final, Self
from urllib.parse import quote, urlencode, urljoin, urlsplit

import aiohttp
from PIL import Image
from yarl import URL

from tests.fuzz.mutations import MARKUP
from tests.fuzz.surface import Failure
from tests.support import ADMIN_TOKEN, strict

HEADERS: Final = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
ITEMS: Final = {
    "/api/messaging/conversations/{id}": ("/api/messaging/conversations", {"id": "id"}),
    "/api/messaging/outbound/{id}": ("/api/messaging/outbound", {"id": "id"}),
    "/api/messaging/uploads/{id}": ("/api/messaging/uploads", {"id": "id"}),
    "/api/participants/{account}/{participant}": (
        "/api/participants",
        {"account": "clientAccountId", "participant": "participantPlatformId"},
    ),
    "/api/comments/{id}": ("/api/comments", {"id": "id"}),
    "/api/accounts/{id}": ("/api/accounts", {"id": "id"}),
    "/api/workers/import-history/{id}": ("/api/workers/import-history", {"id": "jobId"}),
    "/api/workers/backfill-profiles/{id}": ("/api/workers/backfill-profiles", {"id": "jobId"}),
    "/api/deliveries/{id}": ("/api/deliveries", {"id": "id"}),
    "/api/webhook-events/{id}": ("/api/webhook-events", {"id": "id"}),
    "/api/webhook-endpoints/{id}": ("/api/webhook-endpoints", {"id": "id"}),
}
"""What stands below a list: which list, and which members of what it holds make the address."""
STREAMS: Final = {
    "/api/events/stream",
    "/api/workers/backfill-profiles/{id}/events",
    "/api/workers/import-history/{id}/events",
}
ELSEWHERE: Final = {"/api/deletions/{code}", "/avatars/{name}"}
"""Which no list names: looked at by those who know the name."""
REQUIRED: Final = {"/api/messaging/messages": {"q": "ok"}}
SAMPLE: Final = 30
"""How many of a list are looked at one by one."""
PAGES: Final = 120


class Walk:
    """What was seen."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self.messages: dict[str, Any] = {}
        """The text of every message, by its mid."""
        self.lists: dict[str, list[dict[str, Any]]] = {}
        self._session = session
        self._url = url

    @classmethod
    async def of(cls, session: aiohttp.ClientSession, url: str) -> Self:
        walk = cls(session, url)
        document = await walk._json("/api/openapi.json")
        paths = sorted(path for path, item in document["paths"].items() if "get" in item and path not in STREAMS)
        for path in paths:
            if "{" not in path:
                parameters = {one["name"] for one in document["paths"][path]["get"]["parameters"]}
                await walk._all_of(path, parameters)
        for path in paths:
            if "{" in path and path not in ELSEWHERE:
                await walk._items(path)
        await walk._pages()
        return walk

    async def fetch(self, path: str) -> tuple[str, bytes]:
        """Content type and body. Raises Failure unless it is there."""
        async with self._session.get(URL(self._url + path, encoded=True), headers=HEADERS) as answer:
            body = await answer.read()
            if answer.status != 200:
                raise Failure(f"GET {path} answers {answer.status}: {body[:300]!r}")
            return answer.content_type, body

    async def _json(self, path: str) -> Any:
        _, body = await self.fetch(path)
        try:
            return strict(body.decode("utf-8"))
        except (ValueError, AssertionError) as error:
            raise Failure(f"GET {path} is no strict JSON: {error!r}") from error

    async def _all_of(self, path: str, parameters: set[str]) -> None:
        """A whole list, page by page; or what else there is."""
        if not path.startswith("/api/") or path.startswith("/api/docs"):
            (await self.fetch(path))[1].decode("utf-8")
            return
        query: dict[str, Any] = {**REQUIRED.get(path, {}), **({"limit": 200} if "limit" in parameters else {})}
        found = self.lists[path] = []
        while True:
            page = await self._json(f"{path}?{urlencode(query)}")
            items = next((value for value in page.values() if isinstance(value, list)), [])
            found += items
            if page.get("nextCursor") and "cursor" in parameters:
                query["cursor"] = page["nextCursor"]
            elif len(items) == 200 and "offset" in parameters:
                query["offset"] = len(found)
            else:
                return

    async def _items(self, path: str) -> None:
        """Some of a list, each looked at by itself: the newest, and from all over the rest."""
        base = max((one for one in ITEMS if path.startswith(one)), key=len, default=None)
        if base is None:
            raise Failure(f"nobody knows where to find the ids of {path}")
        listed, members = ITEMS[base]
        items = self.lists[listed]
        is_thread = path.endswith("/messages")
        for item in items if is_thread else items[:: max(1, len(items) // SAMPLE)]:
            address = path
            for name, member in members.items():
                address = address.replace(f"{{{name}}}", quote(str(item[member]), safe=""))
            if is_thread:
                await self._thread(address)
            else:
                kind, body = await self.fetch(address)
                if kind == "application/json":
                    await self._json(address)
                elif kind.startswith("text/"):
                    body.decode("utf-8")
            await self._avatar(item.get("avatar"))

    async def _thread(self, address: str) -> None:
        cursor: str | None = ""
        while cursor is not None:
            page = await self._json(f"{address}?limit=200{cursor and f'&cursor={cursor}'}")
            for message in page["messages"]:
                self.messages[message["platformMessageId"]] = message["content"]
            cursor = page["nextCursor"]

    async def _avatar(self, path: object) -> None:
        if isinstance(path, str):
            picture = Image.open(io.BytesIO((await self.fetch(path))[1]))
            picture.load()
            if picture.format != "WEBP" or max(picture.size) > 320:
                raise Failure(f"{path} is a {picture.format} of {picture.size}")

    async def _pages(self) -> None:
        """Every page that a link of the dashboard leads to, as far as there are not too many."""
        async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as browser:
            async with browser.post(
                f"{self._url}/sign-in", data={"token": ADMIN_TOKEN}, headers={"Origin": self._url}
            ) as answer:
                if answer.status != 200:
                    raise Failure(f"nobody can sign in: {answer.status}")
            waiting, seen = ["/"], {"/"}
            while waiting and len(seen) < PAGES:
                path = waiting.pop(0)
                for link in await self._page(browser, path):
                    if link not in seen:
                        seen.add(link)
                        waiting.append(link)

    async def _page(self, browser: aiohttp.ClientSession, path: str) -> list[str]:
        """The links of a page to others of ours."""
        async with browser.get(self._url + path, headers={"Accept": "text/html"}) as answer:
            body = await answer.read()
            if answer.status != 200:
                raise Failure(f"the page {path} answers {answer.status}: {body[:300]!r}")
            if answer.content_type != "text/html":
                return []
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Failure(f"the page {path} is no UTF-8: {error}") from error
        if MARKUP.partition("fuzz")[0] + "fuzz" in text:
            raise Failure(f"the page {path} has what came from outside as markup")
        links = _Links()
        links.feed(text)
        return [link for link in (urljoin(path, one) for one in links.found) if re.match(r"/(?![/\\])", link)]


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        address = dict(attrs).get("href")
        if tag == "a" and address and not urlsplit(address).netloc:
            self.found.append(address)
