"""How late the event loop is, as it is measured and told."""

from typing import Any

import pytest
from inboxd.runtime.loop_monitor import BEAT_S, LoopMonitor
from inboxd.runtime.metrics import Metrics

from tests.support import ManualClock


class Rig:
    def __init__(self) -> None:
        self.clock = ManualClock()
        self.metrics = Metrics()
        self.beats = 0
        self.fails = False
        self.monitor = LoopMonitor(self.clock, self.metrics, self.beat)

    def beat(self) -> None:
        self.beats += 1
        if self.fails:
            msg = "on purpose"
            raise ValueError(msg)

    async def poll_after(self, seconds: float) -> None:
        self.clock.now += int(seconds * 1000)
        assert await self.monitor.poll() == BEAT_S

    def measured(self) -> tuple[Any, Any]:
        """How often the lag was measured, and all of it together (seconds)."""
        value = self.metrics.registry.get_sample_value
        return value("inboxd_event_loop_lag_seconds_count"), value("inboxd_event_loop_lag_seconds_sum")


async def test_what_a_poll_comes_later_than_it_was_due_is_lag() -> None:
    rig = Rig()
    await rig.poll_after(100)
    assert rig.measured() == (0, 0), "nothing was due before the first"
    await rig.poll_after(BEAT_S)
    assert rig.measured() == (1, 0)
    await rig.poll_after(BEAT_S + 2)
    assert rig.measured() == (2, pytest.approx(2))
    await rig.poll_after(BEAT_S - 0.1)
    assert rig.measured() == (3, pytest.approx(2)), "never less than none"
    assert rig.beats == 4


async def test_the_rest_after_a_crash_is_no_lag() -> None:
    rig = Rig()
    await rig.poll_after(0)
    rig.fails = True
    with pytest.raises(ValueError, match="on purpose"):
        await rig.poll_after(BEAT_S)
    rig.fails = False
    await rig.poll_after(30)
    assert rig.measured() == (1, 0)
    assert rig.beats == 3
