"""A simulated Graph API with comments and posts, and deliveries about them."""

import json
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler
from inboxd.simulator.graph_server import GraphServer

from tests.support import ACCOUNT, ANA, T0, Client, Json

POST = "17900000000000001"
COMMENT = "18000000000000001"
REPLY = "18000000000000002"
GONE: Json = {"error": {"message": "Unsupported get request", "code": 100, "error_subcode": 33}}


def refusal(code: int, subcode: int | None = None) -> Json:
    """Meta's error envelope."""
    return {"error": {"message": "no", "code": code, "error_subcode": subcode}}


@dataclass
class CommentsGraph:
    """What the Graph API shows of comments and posts. Everything else is the simulator's."""

    nodes: dict[str, Json] = field(default_factory=dict)
    """The fields of a comment or a post, or an error envelope, by id."""
    mentioned: Json = field(default_factory=dict)
    calls: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    """Method, path below the version, and query of each call about comments."""
    answers: dict[tuple[str, str], Any] = field(default_factory=dict)
    """What to answer instead, by method and path."""

    def comment(self, comment_id: str = COMMENT, **fields: object) -> None:
        """Let there be a comment."""
        self.nodes[comment_id] = {
            "id": comment_id,
            "text": "precio?",
            "timestamp": "2026-09-21T14:13:20+0000",
            "username": "ana_x",
            "from": {"id": ANA, "username": "ana_x"},
            "hidden": False,
            "like_count": 0,
            "media": {"id": POST},
            **fields,
        }

    def post(self, media_id: str = POST, **fields: object) -> None:
        """Let there be a post of the account."""
        self.nodes[media_id] = {
            "id": media_id,
            "permalink": f"https://www.instagram.com/p/{media_id}/",
            "media_type": "IMAGE",
            "media_product_type": "FEED",
            "media_url": "https://scontent.cdninstagram.com/v/1.jpg",
            "caption": "The new blue one",
            "username": "the.shop",
            "timestamp": "2026-09-20T09:00:00+0000",
            **fields,
        }

    def count(self, method: str, path: str) -> int:
        """How many such calls there were."""
        return sum(call[:2] == (method, path) for call in self.calls)

    def on(self, server: GraphServer) -> web.Application:
        """The application of `server`, with comments."""
        app = server.application()
        app.middlewares.append(self._middleware)
        return app

    @web.middleware
    async def _middleware(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        path = request.path.partition("/v25.0/")[2]
        node = path.partition("/")[0]
        if node not in self.nodes and not (node == ACCOUNT and "mentioned_" in request.query.get("fields", "")):
            return await handler(request)
        self.calls.append((request.method, path, dict(request.query)))
        answer = self.answers.get((request.method, path))
        if answer is None:
            answer = self._answer(request, node)
        return web.json_response(answer, status=400 if "error" in answer else 200)

    def _answer(self, request: web.Request, node: str) -> Json:
        if node == ACCOUNT:
            return {"id": ACCOUNT, **self.mentioned}
        found = self.nodes[node]
        if "error" in found:
            return found
        if request.method == "DELETE":
            self.nodes[node] = GONE
            return {"success": True}
        if request.method == "POST" and "hide" in request.query:
            found["hidden"] = request.query["hide"] == "true"
            return {"success": True}
        return found


async def tell(client: Client, value: Any, *, field: str = "comments", at_ms: int = T0) -> None:
    """Deliver a webhook about a comment."""
    change = {"field": field, "value": value}
    entry = {"id": ACCOUNT, "time": at_ms // 1000, "changes": [change]}
    status, answer, _ = await client.post(json.dumps({"object": "instagram", "entry": [entry]}).encode())
    assert status == 200, answer
    await client.settled()


def said(comment_id: str = COMMENT, text: str | None = "precio?", **more: object) -> Json:
    """What a webhook says of a comment of Ana."""
    value: Json = {
        "id": comment_id,
        "from": {"id": ANA, "username": "ana_x"},
        "media": {"id": POST, "media_product_type": "FEED"},
        **more,
    }
    return value if text is None else {**value, "text": text}


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
