"""What the overview says of NATS."""

from typing import Final

from inboxd.feature import Card, Need, OverviewPart
from inboxd.forwarding.nats.state import PublisherState
from inboxd.forwarding.nats.status import NatsStatus
from inboxd.runtime.clock import Clock

PATIENCE_MS: Final = 60_000
"""How long nothing may be published before somebody is asked to look. A restart of the server takes less."""
_LINK: Final = "/#nats"


class NatsOverview:
    """This feature's part of the overview."""

    def __init__(self, status: NatsStatus, clock: Clock) -> None:
        self._status = status
        self._clock = clock

    async def read(self) -> OverviewPart:
        """Whether it is connected, how far behind it is, the last success and error. Raises StorageError."""
        state, behind, behind_s = await self._status.now()
        context = {"state": state, "position": state.position, "behind": behind, "behind_s": behind_s}
        return OverviewPart(Card("nats_card.html", context, position=26), self._needs(state, behind))

    def _needs(self, state: PublisherState, behind: int) -> list[Need]:
        """A look at NATS when it takes nothing, or its stream is not as it must be."""
        needs = []
        if state.waits_since is not None and self._clock.now_ms() - state.waits_since >= PATIENCE_MS:
            text = f"NATS takes no events, and {behind:,} wait: {state.waits_for}"
            needs.append(Need(text, _LINK, position=60))
        if state.stream_problem is not None:
            needs.append(Need(f"NATS: {state.stream_problem}.", _LINK, urgent=False, position=60))
        return needs
