"""A simulated Instagram that moves with a clock of its own, and whoever calls it."""

from typing import Any

import aiohttp
from inboxd.simulator.behaviour import Behaviour
from inboxd.simulator.graph_server import GraphServer
from inboxd.simulator.mailbox import NewMessage
from inboxd.simulator.payloads import Item
from inboxd.simulator.people import person
from inboxd.simulator.sender import WebhookSender

from tests.support import ACCOUNT, ANA, APP_SECRET, T0, TOKEN

PAGE = "100200300400500"
PAGE_TOKEN = "the-page-token"
OTHER = "17841400000000002"
ANA_NAME = getattr(person(ANA), "username", None)
Json = dict[str, Any]


class Rig:
    """A simulated Instagram that moves with a clock of its own, and whoever calls it."""

    def __init__(self, server: GraphServer, url: str, session: aiohttp.ClientSession, now: list[float]) -> None:
        self.server = server
        self.url = url
        self.session = session
        self.now = now
        self.received: list[Item] = []

    def behave(self, **switches: Any) -> None:
        self.server.behaviour = Behaviour(latency_ms=0, **{"conversation_calls_per_s": 0, **switches})

    async def get(self, path: str, *, token: str = TOKEN, **query: str) -> tuple[int, Json]:
        headers = {"Authorization": f"Bearer {token}"}
        async with self.session.get(f"{self.url}/v25.0/{path}", params=query, headers=headers) as response:
            return response.status, await response.json()

    async def post(
        self, path: str, body: Json | None = None, *, token: str = TOKEN, form: Json | None = None, **query: str
    ) -> tuple[int, Json]:
        headers = {"Authorization": f"Bearer {token}"}
        async with self.session.post(
            f"{self.url}/v25.0/{path}", params=query, json=body, data=form, headers=headers
        ) as response:
            return response.status, await response.json()

    async def delete(self, path: str, *, token: str = TOKEN) -> tuple[int, Json]:
        headers = {"Authorization": f"Bearer {token}"}
        async with self.session.delete(f"{self.url}/v25.0/{path}", headers=headers) as response:
            return response.status, await response.json()

    async def send(self, message: Json | str, to: str = ANA, *, path: str = "me", **rest: Any) -> tuple[int, Json]:
        content = {"text": message} if isinstance(message, str) else message
        token = rest.pop("token", TOKEN)
        return await self.post(f"{path}/messages", {"recipient": {"id": to}, "message": content, **rest}, token=token)

    async def control(self, path: str, body: Json | None = None, *, method: str = "GET") -> Any:
        async with self.session.request(method, f"{self.url}/_simulator/{path}", json=body) as response:
            return await response.json() if response.status != 204 else None

    async def sent(self) -> list[Json]:
        found: list[Json] = (await self.control("sent"))["messages"]
        return found

    async def listed(self, path: str = "me/conversations", **query: str) -> list[Json]:
        status, found = await self.get(path, **{"platform": "instagram", **query})
        assert status == 200, found
        data: list[Json] = found["data"]
        return data

    def add(self, participant_id: str = ANA, **message: Any) -> str:
        return self.server.mailbox.add(NewMessage(ACCOUNT, participant_id, **{"created_ms": T0, **message}))

    def conversation_id(self, participant_id: str = ANA) -> str:
        return self.server.mailbox.conversation_with(ACCOUNT, participant_id).id

    def sender(self, *, seed: int = 1) -> WebhookSender:
        return WebhookSender(self.session, f"{self.url}/received", APP_SECRET, seed=seed, instagram=self.server)

    def items(self) -> list[Item]:
        return [item for payload in self.received for entry in payload["entry"] for item in entry.get("messaging", ())]


def error_of(answer: tuple[int, Json]) -> tuple[int, int, int | None]:
    status, body = answer
    return status, body["error"]["code"], body["error"].get("error_subcode")
