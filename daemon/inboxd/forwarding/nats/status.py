"""How far NATS is behind the event log: what the metrics, the overview and the API tell."""

from collections.abc import Callable
from typing import NamedTuple

from inboxd.events.log import CursorGoneError, EventReader
from inboxd.forwarding.nats.metrics import NatsMetrics
from inboxd.forwarding.nats.state import PublisherState
from inboxd.runtime.clock import Clock


class Status(NamedTuple):
    """The state of the publisher, and its lag."""

    state: PublisherState
    behind: int
    """Events that wait, at most."""
    behind_s: float
    """Age of the oldest one in seconds; 0 when none waits."""


class NatsStatus:
    """Compares the position of the publisher with the end of the log."""

    def __init__(
        self, state: Callable[[], PublisherState], reader: EventReader, clock: Clock, metrics: NatsMetrics
    ) -> None:
        self._state = state
        self._reader = reader
        self._clock = clock
        self._metrics = metrics

    async def now(self) -> Status:
        """The status at this moment. Raises StorageError."""
        state = self._state()
        ends = await self._reader.ends()
        cursor = max(state.position.cursor, ends.pruned_to)
        behind = await self._reader.behind(cursor)
        return Status(state, behind, await self._age_s(cursor) if behind else 0.0)

    async def collect(self) -> None:
        """Set the gauges that are read when somebody asks for `/metrics`. Raises StorageError."""
        status = await self.now()
        self._metrics.behind_events.set(status.behind)
        self._metrics.behind_seconds.set(status.behind_s)

    async def _age_s(self, cursor: int) -> float:
        """The age of the first event after `cursor`."""
        try:
            page = await self._reader.page(cursor, limit=1)
        except CursorGoneError:  # pruned at this moment
            return 0.0
        return max(self._clock.now_ms() - page.events[0].recorded_at, 0) / 1000 if page.events else 0.0
