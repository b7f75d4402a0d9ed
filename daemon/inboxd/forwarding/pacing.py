"""When a push may begin: not while Meta waits for an acknowledgement, if that can be helped."""

from typing import Final

from inboxd.receiving.store import Inbox
from inboxd.runtime.clock import Clock

LONGEST_S: Final = 0.02
"""How long a push waits for deliveries to be stored, at most: a disk that hangs must not stop forwarding too."""


class PushPacing:
    """Lets receiving go first. One event loop does both, and a push keeps it for a part of a millisecond."""

    def __init__(self, inbox: Inbox, clock: Clock) -> None:
        self._inbox = inbox
        self._clock = clock

    async def let_receiving_go_first(self) -> None:
        """Wait until the deliveries that are being stored are acknowledged. Not for those that arrive meanwhile."""
        if self._inbox.waiting:
            await self._clock.wait(self._inbox.arrived.next, LONGEST_S)
