"""A simulated Instagram with posts and comments, and deliveries about them."""

import asyncio
import json
import re
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler
from inboxd.runtime.clock import Clock
from inboxd.simulator.comment_payloads import comment_payload, mention_payload
from inboxd.simulator.graph_server import GraphServer
from inboxd.simulator.posts import KeptComment

from tests.support import ACCOUNT, ANA, T0, Client, Json

CLERK_TOKEN = "a-clerk-who-may-not-speak"
POST = "17900000000000001"
THEIR_POST = "17900000000000003"
COMMENT = "18000000000000001"
REPLY = "18000000000000002"
GONE: Json = {"error": {"message": "Unsupported get request", "code": 100, "error_subcode": 33}}


def refusal(code: int, subcode: int | None = None) -> Json:
    """Meta's error envelope."""
    return {"error": {"message": "no", "code": code, "error_subcode": subcode}}


@dataclass
class Shop:
    """The simulated account with a post, what it was asked, and what it answers instead."""

    server: GraphServer
    calls: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Method, path below the version, and query of each call."""
    answers: dict[tuple[str, str], Json] = field(default_factory=dict)
    """What to answer instead of what the simulator would, by method and path."""

    refused_fields: tuple[str, ...] = ()
    """Fields that a read may not ask for."""
    held: dict[tuple[str, str], asyncio.Event] = field(default_factory=dict)
    """Calls that are carried out only once their event is set, by method and path."""

    def __post_init__(self) -> None:
        self.server.posts.publish(ACCOUNT, media_id=POST, caption="The new blue one", created_ms=T0 - 86_400_000)
        self.server.posts.publish(None, media_id=THEIR_POST, caption="with @the.shop", username="bruno")

    def count(self, method: str, path: str) -> int:
        """How many such calls there were."""
        return sum(call[:2] == (method, path) for call in self.calls)

    def application(self) -> web.Application:
        """The simulator's application, watched."""
        app = self.server.application()
        app.middlewares.append(self._watch)
        return app

    @web.middleware
    async def _watch(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        path = request.path.partition("/v25.0/")[2]
        self.calls.append((request.method, path, dict(request.query)))
        if (request.method, path) in self.held:
            await self.held[(request.method, path)].wait()
        answer = self.answers.get((request.method, path))
        wanted = re.findall(r"[a-z_]+", request.query.get("fields", ""))
        if answer is None and not set(self.refused_fields) & set(wanted):
            return await handler(request)
        answer = answer or refusal(100)
        return web.json_response(answer, status=400 if "error" in answer else 200)

    async def comment(self, client: Client, text: str | None = "precio?", **more: Any) -> KeptComment:
        """Somebody comments, and a webhook tells of it unless `webhook` is false."""
        webhook = more.pop("webhook", True)
        found = {"from_id": ANA, "username": "ana_x", "created_ms": T0, **more}
        media_id = found.pop("media_id", POST)
        written = self.server.posts.write(media_id, found.pop("from_id"), text, **found)
        post = self.server.posts.post(media_id)
        assert post is not None
        if webhook and post.account_id is not None:
            await _post(client, comment_payload(post, written, self.server.behaviour))
        for account_id in written.mentions if webhook else ():
            await _post(client, mention_payload(account_id, media_id, written.id, T0, self.server.behaviour))
        return written


async def tell(client: Client, value: Any, *, field: str = "comments", at_ms: int = T0) -> None:
    """Deliver a webhook about a comment."""
    change = {"field": field, "value": value}
    await _post(client, {"object": "instagram", "entry": [{"id": ACCOUNT, "time": at_ms // 1000, "changes": [change]}]})


async def _post(client: Client, payload: Json) -> None:
    status, answer, _ = await client.post(json.dumps(payload).encode())
    assert status == 200, answer
    await client.settled()


def said(comment_id: str = COMMENT, text: str | None = "precio?", author: Json | None = None, **more: object) -> Json:
    """What a webhook says of a comment, of Ana unless of somebody else."""
    value: Json = {
        "id": comment_id,
        "from": author or {"id": ANA, "username": "ana_x"},
        "media": {"id": POST, "media_product_type": "FEED"},
        **more,
    }
    return value if text is None else {**value, "text": text}


class FastClock(Clock):
    """A minute passes in a second. It begins as the real one does."""

    def __init__(self, times: float = 60.0) -> None:
        self._times = times
        self._began_ms, self._began = super().now_ms(), super().monotonic()

    def now_ms(self) -> int:
        return int(self._began_ms + (self.monotonic() - self._began) * 1000)

    def monotonic(self) -> float:
        return self._began + (super().monotonic() - self._began) * self._times

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / self._times)

    async def wait(self, event: asyncio.Event, timeout_s: float | None) -> bool:
        return await super().wait(event, None if timeout_s is None else timeout_s / self._times)


async def threads(client: Client, query: str = "") -> list[Json]:
    """The threads, as the API lists them."""
    found: list[Json] = (await client.get(f"/api/comments{query}"))["threads"]
    return found


async def thread(client: Client, number: str, query: str = "") -> Json:
    """One thread."""
    return await client.get(f"/api/comments/{number}{query}")


async def events(client: Client, types: str = "comment.*,mention.*") -> list[Json]:
    """The events about comments."""
    await client.settled()
    found: list[Json] = (await client.get(f"/api/events?types={types}"))["events"]
    return found


async def told(client: Client, types: str = "comment.*,mention.*") -> list[str]:
    """The types of the events about comments."""
    return [one["type"] for one in await events(client, types)]
