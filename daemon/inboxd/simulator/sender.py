"""The webhook sender: signs and retries as Meta does, and on request sends deliveries twice or late."""

import asyncio
import json
import random
from typing import Any, Final, NamedTuple

import aiohttp

from inboxd.meta.signature import HEADER, sign
from inboxd.simulator.graph_server import GraphServer
from inboxd.simulator.webhook_faults import WebhookFaults

ATTEMPTS: Final = 8


class Unreliability(NamedTuple):
    """The shares (0 to 1) of deliveries that are sent twice, and that are sent late."""

    duplicates: float = 0.0
    late: float = 0.0


class WebhookSender:
    """Sends payloads to one address. A non-200 answer is retried with growing pauses, as Meta does.

    With `instagram`, what the payloads tell also happens there, its behaviour says which are sent at all, and the
    echoes of what is sent by its API are sent by this one.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        url: str,
        secret: str,
        *,
        seed: int = 1,
        instagram: GraphServer | None = None,
    ) -> None:
        self._session = session
        self._url = url
        self._secret = secret
        self._random = random.Random(seed)
        self._instagram = instagram
        if instagram is not None:
            instagram.webhooks = self.send
        self.faults = (
            None
            if instagram is None
            else WebhookFaults(
                lambda: instagram.behaviour, instagram.sends_webhooks, instagram.subscribed.has, self._random
            )
        )
        self.acknowledged = 0

    async def send(self, payload: dict[str, Any]) -> bool:
        """Send one payload, unless the behaviour keeps it back. Returns False when something was given up."""
        if self._instagram is None or self.faults is None:
            return await self._deliver(payload)
        self._instagram.happen(payload)
        return all([await self._deliver(one) for one in self.faults.passed(payload)])

    async def flush(self) -> bool:
        """Send all that the behaviour made late. Returns False when something was given up."""
        return self.faults is None or all([await self._deliver(one) for one in self.faults.rest()])

    async def _deliver(self, payload: dict[str, Any]) -> bool:
        body = json.dumps(payload).encode()  # non-ASCII as \\uXXXX, as on Meta's wire
        headers = {
            HEADER: sign(body, self._secret),
            "Content-Type": "application/json",
            "User-Agent": "facebookexternalua",
        }
        for attempt in range(ATTEMPTS):
            try:
                async with self._session.post(self._url, data=body, headers=headers) as response:
                    if response.status == 200:
                        self.acknowledged += 1
                        return True
            except aiohttp.ClientError:
                pass  # the receiver does not answer: try again
            await asyncio.sleep(min(0.05 * 2**attempt, 2.0))
        return False

    async def send_all(self, payloads: list[dict[str, Any]], how: Unreliability | None = None) -> int:
        """Deliver `payloads`, in order except for those that `how` makes late. Returns how many were given up."""
        if self._instagram is not None:
            for payload in payloads:  # what happens has an order, whatever becomes of the webhooks
                self._instagram.happen(payload)
        queue = self._disturbed(payloads, how or Unreliability())
        return sum([not await self.send(payload) for payload in queue]) + (not await self.flush())

    def _disturbed(self, payloads: list[dict[str, Any]], how: Unreliability) -> list[dict[str, Any]]:
        on_time = [payload for payload in payloads if self._random.random() >= how.late]
        late = [payload for payload in payloads if payload not in on_time]
        again = [payload for payload in payloads if self._random.random() < how.duplicates]
        return on_time + self._random.sample(late + again, len(late) + len(again))
