"""The pulse: how late the event loop is, and what is due every few seconds whatever else happens."""

import asyncio
from collections.abc import Callable
from typing import Final

from inboxd.runtime.clock import Clock
from inboxd.runtime.metrics import Metrics

BEAT_S: Final = 0.5


class LoopMonitor:
    """Measures the lag of the event loop and calls `on_beat`."""

    name = "pulse"

    def __init__(self, clock: Clock, metrics: Metrics, on_beat: Callable[[], None]) -> None:
        self._clock = clock
        self._metrics = metrics
        self._on_beat = on_beat
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """End `run`."""
        self._stopped.set()

    async def run(self) -> None:
        """One beat every BEAT_S, until `stop`."""
        while not self._stopped.is_set():
            began = self._clock.monotonic()
            await self._clock.wait(self._stopped, BEAT_S)
            if not self._stopped.is_set():
                self._metrics.loop_lag.observe(max(0.0, self._clock.monotonic() - began - BEAT_S))
            self._on_beat()
