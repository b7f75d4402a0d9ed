from email.utils import formatdate

import pytest
from inboxd.meta.meta_clock import MetaClock

from tests.support import T0, TravelClock


def test_it_goes_on_from_what_meta_said_whatever_becomes_of_our_time_of_day() -> None:
    clock = TravelClock()
    meta = MetaClock(clock)
    assert meta.now_ms() is None
    meta.note(formatdate(T0 / 1000, usegmt=True))
    clock.seconds += 90
    clock.wall_ms += 86_400_000
    assert meta.now_ms() == T0 + 90_000


@pytest.mark.parametrize(
    "date", [None, "", "soon", "Mon, 99 Foo 2026 00:00:00 GMT", "0" * 5000, "Thu, 01 Jan 99999 00:00:00 GMT"]
)
def test_what_is_no_date_is_ignored(date: str | None) -> None:
    meta = MetaClock(TravelClock())
    meta.note(date)
    assert meta.now_ms() is None
