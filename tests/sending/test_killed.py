"""A real daemon is killed at every step of sending, again and again: each message is there once, or has failed.

`INBOXD_CRASH_ROUNDS=200 pytest tests/sending/test_killed.py` for a longer look.
"""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from inboxd.simulator.behaviour import Behaviour
from inboxd.simulator.graph_server import GraphServer
from inboxd.simulator.payloads import Conversationalist, delivery
from inboxd.simulator.people import igsid
from inboxd.simulator.sender import WebhookSender
from inboxd.simulator.serving import serving

from tests.e2e.conftest import free_port
from tests.fork_server import Forked, fork_server
from tests.sending.fast_daemon import FastClock
from tests.support import ACCOUNT, ADMIN_TOKEN, APP_SECRET, TOKEN, Json, eventually

ROUNDS = int(os.environ.get("INBOXD_CRASH_ROUNDS", "12"))
PEOPLE = 6
SETTLED = {"sent", "delivered", "read", "failed", "canceled"}


class Line:
    """A daemon that can be killed, and the Instagram that it sends to."""

    def __init__(self, folder: Path, server: GraphServer, session: aiohttp.ClientSession, clock: FastClock) -> None:
        self.folder, self.server, self.session, self.clock = folder, server, session, clock
        self.epoch = clock._epoch
        self.public, self.admin = free_port(), free_port()
        self.url = ""
        self.process: Forked | None = None
        self.kill_at: str | None = None
        self.accepted: dict[str, str] = {}

    def behave(self, **changes: Any) -> None:
        quiet = {"latency_ms": 0, "visible_after_s": 0, "echo_after_ms": 50, "conversation_calls_per_s": 0}
        self.server.behaviour = Behaviour(**{**quiet, **changes})

    @web.middleware
    async def watch(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Kill the daemon when it sends: before Meta takes the message, or after."""
        if self.kill_at is None or request.method != "POST" or not request.path.endswith("/messages"):
            return await handler(request)
        step, self.kill_at = self.kill_at, None
        answer = await handler(request) if step == "sent" else web.Response(status=500)
        self.kill()
        return answer

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """A daemon runs, and is killed at the end if it still does."""
        arguments = [str(self.folder), self.url, str(self.public), str(self.admin), str(self.epoch)]
        with (self.folder / "log").open("ab") as log:
            self.process = fork_server().start(
                arguments,
                env={"PATH": os.environ["PATH"]},
                cwd=self.folder,
                stdout=log,
                stderr=log,
                module="tests.sending.fast_daemon",
            )
        try:
            await eventually(self.ready)
            yield
        finally:
            self.kill()
            await asyncio.to_thread(self.process.wait)

    async def ready(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, (self.folder / "log").read_text()[-4000:]
        try:
            async with self.session.get(f"http://127.0.0.1:{self.admin}/readyz") as response:
                return response.status == 200
        except aiohttp.ClientError:
            return False

    async def api(self, method: str, path: str, body: Json | None = None) -> Any:
        headers = {"Authorization": f"Bearer {ADMIN_TOKEN}"}
        url = f"http://127.0.0.1:{self.admin}/api/messaging{path}"
        async with self.session.request(method, url, json=body, headers=headers) as response:
            answer = await response.json()
            assert response.ok, answer
            return answer

    async def say(self, participant_id: str, text: str) -> None:
        """Put a message into the outbox; noted when it was accepted."""
        body = {"accountId": ACCOUNT, "participantPlatformId": participant_id, "text": text}
        with suppress(aiohttp.ClientError):  # it was killed: whether it was accepted, nobody knows
            self.accepted[text] = (await self.api("POST", "/messages", body))["id"]

    async def outbox(self) -> list[Json]:
        """All outbound messages."""
        found: list[Json] = []
        cursor = ""
        while True:
            page = await self.api("GET", f"/outbound?limit=200{cursor}")
            found += page["outbound"]
            if page["nextCursor"] is None:
                return found
            cursor = f"&cursor={page['nextCursor']}"

    async def all_settled(self) -> bool:
        await asyncio.sleep(0.2)
        return all(one["state"] in SETTLED for one in await self.outbox())


@pytest.fixture
async def killing(tmp_path: Path) -> AsyncIterator[Line]:
    clock = FastClock(time.time())
    server = GraphServer({TOKEN: ACCOUNT}, now=lambda: clock.now_ms() / 1000)
    async with aiohttp.ClientSession() as session:
        line = Line(tmp_path, server, session, clock)
        line.behave()
        app = server.application()
        app.middlewares.append(line.watch)
        async with serving(app) as line.url:
            sender = WebhookSender(session, f"http://127.0.0.1:{line.public}/webhooks/instagram", APP_SECRET,
                                   instagram=server)  # fmt: skip
            async with line.running():
                for number in range(PEOPLE):
                    says = Conversationalist(ACCOUNT, igsid(number), clock.now_ms()).says("hola")
                    await sender.send(delivery(ACCOUNT, clock.now_ms(), [says]))

                async def processed() -> bool:
                    return bool((await line.api("GET", "/conversations"))["total"] == PEOPLE)

                await eventually(processed)
            yield line


async def proved(line: Line) -> None:
    """Everything is settled, and what the outbox says is what Meta has."""
    line.behave()
    async with line.running():
        await eventually(line.all_settled, within_s=60)
        outbox = {one["text"]: one for one in await line.outbox()}
        sent = Counter(one.text for one in line.server.sending.ledger.messages)
        for text, outbound_id in line.accepted.items():
            assert outbox[text]["id"] == outbound_id, "it was accepted, and is not there"
        for text, one in outbox.items():
            assert sent[text] == (0 if one["state"] == "failed" else 1), (text, one, sent[text])
        assert set(sent) <= set(outbox)


@pytest.mark.long
@pytest.mark.parametrize("echo", ["normal", "never"])
@pytest.mark.parametrize("step", ["accepted", "begun", "sent", "settled"])
async def test_killed_at_one_step_it_is_there_once(killing: Line, step: str, echo: str) -> None:
    killing.behave(echo=echo)
    async with killing.running():
        killing.kill_at = {"begun": "begun", "sent": "sent"}.get(step)
        await killing.say(igsid(0), "uno")
        if step == "settled":
            await eventually(killing.all_settled)
        elif step in {"begun", "sent"}:
            assert killing.process is not None
            await asyncio.to_thread(killing.process.wait, 10)
    await proved(killing)
    assert [one.text for one in killing.server.sending.ledger.messages] == ["uno"]


@pytest.mark.long
async def test_killed_at_random_moments_each_message_is_there_once_or_failed(killing: Line) -> None:
    rng = random.Random(11)
    for number in range(ROUNDS):
        killing.behave(
            send_answer="any", send_answer_rate=0.3, send_answer_ms=300, echo="any", echo_late_ms=400,
            visible_after_s=10,
        )  # fmt: skip
        async with killing.running():
            for text in range(8):
                await killing.say(igsid(rng.randrange(PEOPLE)), f"{number}.{text}")
            await asyncio.sleep(rng.uniform(0, 0.5))
    await proved(killing)
    assert killing.accepted
