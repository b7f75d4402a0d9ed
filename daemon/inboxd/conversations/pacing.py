"""How much of the writer processing may use: what receiving leaves.

Meta waits for the answer to each delivery, nobody waits for its processing. So processing rests while many senders wait
for the disk, unless it is late itself, and its transactions are short when somebody waits behind them.
"""

from typing import Final

from inboxd.receiving.store import Inbox
from inboxd.runtime.clock import Clock
from inboxd.runtime.worker import Wakeup

TRANSACTION_S: Final = 0.0001
"""How long a transaction may keep the writer for each sender that waits for the disk on average…"""
LONGEST_S: Final = 0.016
"""…and at most, also when nobody waits. Every webhook that arrives meanwhile waits for its end. The more wait anyway,
the less that adds."""
RUSH: Final = 32.0
"""From so many senders waiting for the disk on average it is a rush: receiving comes first…"""
RUSH_REST_S: Final = 0.5
"""…but processing goes on at least this often…"""
MAX_LAG_MS: Final = 3000
"""…and from this lag on it goes at full speed until it has caught up, whoever waits."""
_STEP_S: Final = 0.01


class Pacing:
    """Says how long the next transaction may take, and rests in a rush. A stop cuts the rests short."""

    def __init__(self, inbox: Inbox, wakeup: Wakeup, clock: Clock) -> None:
        self._inbox = inbox
        self._wakeup = wakeup
        self._clock = clock
        self._late = False
        self._oldest_at = clock.now_ms()
        """When the delivery that is being processed arrived (ms)."""

    def found(self, due: int) -> None:
        """So many deliveries are due, as far as they were read. When they are few, the lag is caught up."""
        if due < RUSH:
            self._late = False

    def taken(self, received_at: int) -> None:
        """The delivery that arrived at `received_at` (ms) is processed now."""
        self._oldest_at = received_at

    def transaction_s(self) -> float:
        """How long the next transaction may take."""
        waiting = self._inbox.pressure
        if self._is_late() or waiting == 0:
            return LONGEST_S
        return min(TRANSACTION_S * max(1.0, waiting), LONGEST_S)

    async def let_receivers_go_first(self) -> None:
        """Rest while it is a rush, for RUSH_REST_S at most."""
        rested = 0.0
        while (
            not self._is_late() and rested < RUSH_REST_S and self._inbox.pressure > RUSH and not self._wakeup.stopping
        ):
            await self._clock.sleep(_STEP_S)
            rested += _STEP_S

    def _is_late(self) -> bool:
        """Whether processing is late. Asked within a batch too: with rests a batch lasts long."""
        if self._clock.now_ms() - self._oldest_at > MAX_LAG_MS:
            self._late = True
        return self._late
