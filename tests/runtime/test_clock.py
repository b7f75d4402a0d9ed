"""Moments as text: whatever number stands somewhere, showing it never fails."""

from datetime import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inboxd.runtime.clock import iso_utc


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (1_790_000_000_123, "2026-09-21T14:13:20.123Z"),
        (-1, "1969-12-31T23:59:59.999Z"),
        (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
        (253_402_300_800_000, "9999-12-31T23:59:59.999Z"),
        (10**30, "9999-12-31T23:59:59.999Z"),
        (-62_135_596_800_000, "0001-01-01T00:00:00.000Z"),
        (-(10**30), "0001-01-01T00:00:00.000Z"),
    ],
)
def test_what_no_calendar_has_is_shown_as_its_end(ms: int, text: str) -> None:
    assert iso_utc(ms) == text


@given(st.integers())
def test_every_number_is_a_moment_that_can_be_read_again(ms: int) -> None:
    assert datetime.fromisoformat(iso_utc(ms)).tzinfo is not None
