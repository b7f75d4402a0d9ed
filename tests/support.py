"""What several tests need."""

import asyncio
import io
import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
from inboxd.clock import Clock
from inboxd.meta.signature import HEADER, sign
from inboxd.simulator.payloads import Item, delivery

ACCOUNT = "17841400000000001"
ANA = "7000000000000001"
BRUNO = "7000000000000002"
APP_SECRET = "the-app-secret"
OTHER_APP_SECRET = "another-app-secret"
VERIFY_TOKEN = "the-verify-token"
ADMIN_TOKEN = "the-admin-token"
TOKEN = "the-account-token"
T0 = 1_790_000_000_000

Json = dict[str, Any]


class ManualClock(Clock):
    """Time that moves only when told to; sleeping moves it."""

    def __init__(self, now_ms: int = T0) -> None:
        self.now = now_ms
        self.slept: list[float] = []

    def now_ms(self) -> int:
        return self.now

    def monotonic(self) -> float:
        return self.now / 1000

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += int(seconds * 1000)
        await asyncio.sleep(0)


class Client:
    """Meta on one side, an administrator on the other."""

    def __init__(self, session: aiohttp.ClientSession, public_url: str, admin_url: str, database: Path) -> None:
        self.session = session
        self.public_url = public_url
        self.admin_url = admin_url
        self.database = database

    async def post(self, body: bytes, *, secret: str = APP_SECRET, **headers: str) -> tuple[int, bytes, str]:
        """POST a signed body; status, body and content type of the answer."""
        url = f"{self.public_url}/webhooks/instagram"
        async with self.session.post(
            url, data=io.BytesIO(body), headers={HEADER: sign(body, secret), **headers}
        ) as response:
            return response.status, await response.read(), response.content_type

    async def deliver(self, *items: Item, account_id: str = ACCOUNT, field: str = "messaging") -> None:
        """POST items in one delivery, which must be acknowledged."""
        body = json.dumps(delivery(account_id, T0, list(items), field=field)).encode()
        status, answer, _ = await self.post(body)
        assert status == 200, answer

    async def get(self, path: str, *, token: str | None = ADMIN_TOKEN, status: int = 200) -> Json:
        """GET from the admin listener."""
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        async with self.session.get(self.admin_url + path, headers=headers) as response:
            body: Json = await response.json(content_type=None)
            assert response.status == status, body
            return body

    async def conversations(self, query: str = "") -> list[Json]:
        """All conversations, as the API tells them."""
        found: list[Json] = (await self.get(f"/api/messaging/conversations{query}"))["conversations"]
        return found

    async def messages(self, conversation: Json) -> list[Json]:
        """A conversation's messages, oldest first."""
        answer = await self.get(f"/api/messaging/conversations/{conversation['id']}/messages?limit=200")
        return list(reversed(answer["messages"]))

    async def settled(self) -> None:
        """Wait until every delivery was handled."""

        async def idle() -> bool:
            return bool((await self.get("/api/deliveries?state=pending"))["total"] == 0)

        await eventually(idle)


async def eventually(condition: Callable[[], Awaitable[bool]], *, within_s: float = 20) -> None:
    """Wait until `condition` holds."""
    deadline = time.monotonic() + within_s
    while not await condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        await asyncio.sleep(0.01)
