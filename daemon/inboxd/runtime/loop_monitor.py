"""Measures how late the event loop is, and calls what is due every half second whatever else happens."""

from collections.abc import Callable
from typing import Final

from inboxd.runtime.clock import Clock
from inboxd.runtime.metrics import Metrics
from inboxd.runtime.worker import Wakeup

BEAT_S: Final = 0.5


class LoopMonitor:
    """Measures the lag of the event loop and calls `on_beat`, every BEAT_S."""

    name = "pulse"
    """As it has been in the metrics and in `/api/workers` from the beginning."""

    def __init__(self, clock: Clock, metrics: Metrics, on_beat: Callable[[], None]) -> None:
        self.wakeup = Wakeup()
        self._clock = clock
        self._metrics = metrics
        self._on_beat = on_beat
        self._due_at: float | None = None
        """When the next poll should be (seconds of the monotonic clock); None before the first."""

    async def poll(self) -> float:
        """One beat."""
        due_at, self._due_at = self._due_at, None  # a beat that crashes is no lag
        if due_at is not None:
            self._metrics.loop_lag.observe(max(0.0, self._clock.monotonic() - due_at))
        self._on_beat()
        self._due_at = self._clock.monotonic() + BEAT_S
        return BEAT_S
