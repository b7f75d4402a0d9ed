"""When a push may begin: not while Meta waits for an acknowledgement, and not many at once, if that can be helped."""

import asyncio
from typing import Final

from inboxd.receiving.store import Inbox
from inboxd.runtime.clock import Clock

APART_S: Final = 0.003
"""Pushes begin so far apart, of all endpoints, when they are few: what is processed at once is pushed at once, and a
webhook that arrives in the middle would wait for all of it."""
MOST_S: Final = 0.01
"""How long a push waits for those before it, at most. When there are more, they begin at once."""
STORED_S: Final = 0.02
"""How long a push waits for deliveries to be stored, at most: a disk that hangs must not stop forwarding too."""


class PushPacing:
    """Lets receiving go first. One event loop does both, and a push keeps it for a part of a millisecond."""

    def __init__(self, inbox: Inbox, clock: Clock) -> None:
        self._inbox = inbox
        self._clock = clock
        self._next_at = 0.0
        """When the next push should begin (s, monotonic)."""

    async def turn(self, stopped: asyncio.Event) -> None:
        """Wait until a push may begin. `stopped` cuts it short."""
        now = self._clock.monotonic()
        rest_s = self._next_at - now
        if rest_s <= 0:
            self._next_at = now + APART_S
        elif rest_s <= MOST_S:
            self._next_at += APART_S
            await self._clock.wait(stopped, rest_s)
        await self.let_receiving_go_first()

    async def let_receiving_go_first(self) -> None:
        """Wait until the deliveries that are being stored are acknowledged. Not for those that arrive meanwhile."""
        if self._inbox.waiting:
            await self._clock.wait(self._inbox.arrived.next, STORED_S)
