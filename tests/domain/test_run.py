"""How long a run will take."""

import pytest
from inboxd.domain.run import estimated_s


def seconds(calls: int, *, slowness: float = 1.0, slow_s: float = 0.0, now_free: int = 1000) -> float:
    return estimated_s(
        calls, now_free=now_free, per_hour=160, per_second=1.0, wait_s=0.0, slowness=slowness, slow_s=slow_s
    )


def test_a_slow_down_counts() -> None:
    assert seconds(50) == 50
    assert seconds(50, slowness=50, slow_s=3600) == 50 * 50
    assert seconds(100, slowness=50, slow_s=3600) == pytest.approx(3600 + 28), "72 calls within the slow hour"
    assert seconds(0, slowness=50, slow_s=3600) == 0


def test_after_a_slow_down_the_hour_still_has_its_limit() -> None:
    assert seconds(400, slowness=50, slow_s=3600, now_free=160) == pytest.approx(3600 + 2 * 3600 + (328 - 88 - 160))
