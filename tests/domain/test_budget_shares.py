import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inboxd.domain.budget import divided
from inboxd.domain.call_window import CallWindow


@given(st.integers(1, 100_000), st.floats(0, 1))
def test_the_shares_of_an_hour_are_never_more_than_the_hour(allowance: int, fraction: float) -> None:
    shares = divided(allowance, fraction)

    assert shares.live + shares.kept + shares.background == allowance
    assert shares.background >= 1, "history and backfill go on"
    assert 1 <= shares.reconciliation <= max(1, allowance - shares.live), "and so does reconciliation"
    assert shares.kept <= shares.reconciliation <= max(1, allowance * fraction)
    assert shares.live >= allowance // 5 or allowance == 1


def test_a_fifth_is_for_live_work_and_a_fifth_for_reconciliation() -> None:
    assert divided(200) == (200, 40, 40, 40)
    assert divided(200).background == 120
    assert divided(200, 0.5).background == 60
    assert divided(200, 0).background == 160


@pytest.mark.parametrize("fraction", [-0.1, 1.1, math.nan])
def test_a_share_that_is_no_share_is_refused(fraction: float) -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        divided(200, fraction)


@given(
    st.integers(1, 5),
    st.lists(st.tuples(st.floats(0, 3), st.floats(0, 3), st.booleans()), min_size=1, max_size=40),
    st.integers(0, 2**32),
)
def test_no_window_of_the_server_has_more_calls_than_allowed(
    limit: int, plan: list[tuple[float, float, bool]], seed: int
) -> None:
    """Calls that wait for their turn, and overlap where they may; the server counts each when it likes."""
    window, chance = CallWindow(1.0), random.Random(seed)
    now, under_way, counted = 0.0, list[tuple[float, float]](), list[float]()

    def pass_time(until: float) -> None:
        for start, end in sorted(one for one in under_way if one[1] <= until):
            under_way.remove((start, end))
            window.end(end)
            counted.append(chance.uniform(start, end))

    for pause_s, takes_s, waits in plan:
        now += pause_s
        pass_time(now)
        while (wait_s := window.room_in_s(limit, now)) > 0:
            if not waits:
                break
            now = min((end for _, end in under_way), default=now) if math.isinf(wait_s) else now + wait_s
            pass_time(now)
        if window.room_in_s(limit, now) > 0:
            continue
        window.begin()
        assert window.used(now) <= limit
        under_way.append((now, now + takes_s))
    pass_time(math.inf)

    # A call that is counted exactly one second after another is in the next window; rounding may make it a little less.
    assert max(sum(start <= at < start + 1 - 1e-9 for at in counted) for start in counted) <= limit


def test_a_call_that_was_not_made_does_not_count() -> None:
    window = CallWindow(60)
    window.begin()
    assert window.room_in_s(1, 0) == math.inf, "it may still be made"
    window.end(5, counts=False)
    assert window.room_in_s(1, 5) == 0
    assert window.first_free_s(5) is None
