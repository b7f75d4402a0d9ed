"""A daemon that sends and a simulated Instagram, on a clock that stands still until it is moved."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from inboxd.config.schema import Instagram, SendingSettings
from inboxd.simulator.behaviour import Behaviour
from inboxd.simulator.graph_server import GraphServer
from inboxd.simulator.payloads import Item
from inboxd.simulator.serving import serving

from tests.reconciliation.world import LeapClock, World
from tests.support import ACCOUNT, ANA, TOKEN, Json, eventually

NO_WAIT = {"latency_ms": 0, "echo_after_ms": 0, "visible_after_s": 0}


class SendingWorld(World):
    """Both sides, with somebody who sends."""

    items = 0

    @asynccontextmanager
    async def sending(self, *, timeout_s: float = 5.0, **changes: Any) -> AsyncIterator["SendingWorld"]:
        """A daemon runs that sends. `timeout_s` is how long it waits for Meta, in real time."""
        sections: dict[str, Any] = {
            "instagram": Instagram(graph_url=self.url, facebook_graph_url=self.url, timeout_s=timeout_s),
            "sending": SendingSettings(per_second=300, per_hour=100_000),
        }
        async with self.daemon(**{**sections, **changes}):
            yield self

    async def wrote(self, participant_id: str = ANA, text: str = "hola") -> Json:
        """A participant writes. Returns the conversation."""
        await self.sent(self.item(participant_id, ACCOUNT, text))
        found = await self.client.conversations()
        return next(one for one in found if one["participantPlatformId"] == participant_id)

    async def typed(self, text: str, participant_id: str = ANA) -> None:
        """Somebody of the account writes in the app."""
        await self.sent(self.item(ACCOUNT, participant_id, text, is_echo=True))

    def item(self, sender: str, recipient: str, text: str, **more: Any) -> Item:
        """A message, now."""
        self.items += 1
        body = {"mid": f"aWdfZAG1faXRlbToxOk{self.items}ZD", "text": text, **more}
        ends = {"sender": {"id": sender}, "recipient": {"id": recipient}}
        return {**ends, "timestamp": self.clock.meta_ms(), "message": body}

    async def answer(self, conversation: Json, text: str = "buenas", **more: Any) -> str:
        """Put an answer into the outbox. Returns its id."""
        path = f"/api/messaging/conversations/{conversation['id']}/messages"
        accepted = await self.client.send("POST", path, {"text": text, "sentBy": "human", **more}, status=202)
        assert accepted["state"] == "queued"
        found: str = accepted["id"]
        return found

    async def outbound(self, outbound_id: str) -> Json:
        """One outbound message."""
        return await self.client.get(f"/api/messaging/outbound/{outbound_id}")

    async def waits(self, outbound_id: str) -> Json:
        """Wait until an outbound message says why it is not sent."""
        return await self._until(outbound_id, lambda one: one["state"] == "queued" and one["reasonCode"] is not None)

    async def becomes(self, outbound_id: str, *states: str, step_s: float = 0.25, within_s: float = 20) -> Json:
        """Wait until an outbound message is in one of these states. `step_s` passes at each look."""
        return await self._until(outbound_id, lambda one: one["state"] in states, step_s=step_s, within_s=within_s)

    async def _until(
        self, outbound_id: str, condition: Callable[[Json], bool], *, step_s: float = 0.25, within_s: float = 20
    ) -> Json:
        found: list[Json] = []

        async def there() -> bool:
            await self.clock.leap(step_s, step_s=max(5, step_s / 10))
            found[:] = [await self.outbound(outbound_id)]
            return condition(found[0])

        try:
            await eventually(there, within_s=within_s)
        except AssertionError:
            raise AssertionError(found) from None
        return found[0]

    async def leaping(self, what: Coroutine[Any, Any, Json]) -> Json:
        """Wait for `what`, while time passes."""
        task = asyncio.create_task(what)

        async def done() -> bool:
            await self.clock.leap(0.5)
            return task.done()

        await eventually(done)
        return await task

    @property
    def really_sent(self) -> list[str | None]:
        """The texts that were really sent, in their order."""
        return [one.text for one in self.server.sending.ledger.messages]

    async def told(self, *types: str) -> list[str]:
        """The types of the events of the log that begin with one of these."""
        page = await self.client.get("/api/events?limit=200")
        return [one["type"] for one in page["events"] if one["type"].startswith(types)]


@asynccontextmanager
async def sending_world(path: Path, clock: LeapClock) -> AsyncIterator[SendingWorld]:
    """A simulated Instagram, without a daemon yet."""
    server = GraphServer({TOKEN: ACCOUNT}, now=lambda: clock.meta_ms() / 1000)
    server.behaviour = Behaviour(**NO_WAIT)  # type: ignore[arg-type]
    async with serving(server.application()) as url:
        yield SendingWorld(server, url, clock, path)
