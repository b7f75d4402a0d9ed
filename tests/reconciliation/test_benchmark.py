"""The benchmark of healing runs, in a small form, and finds everything healed."""

import asyncio

import pytest

from benchmarks.healing import Sizes, measure


@pytest.mark.long
def test_everything_is_healed_after_two_kills_an_outage_and_a_lost_subscription() -> None:
    sizes = Sizes(accounts=2, conversations=12, calls_per_hour=2000, speed=300.0)
    found = asyncio.run(measure(sizes))
    assert found["complete"] is True
    assert found["messages"] == 48
    assert found["missed and healed"] >= 24, "those of the outage and of the lost subscription at least"
    assert found["budget violations"] == 0
