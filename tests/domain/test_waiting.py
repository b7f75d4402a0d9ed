"""Why somebody has no name: each reason, and which comes first."""

import msgspec
import pytest
from inboxd.domain.account import Account, AccountState, LoginType
from inboxd.domain.budget import BudgetReport, times_slower
from inboxd.domain.profile import ProfileState
from inboxd.domain.waiting import Waiting, WaitingFor, waiting
from inboxd.runtime.clock import iso_utc

from tests.support import ACCOUNT, T0

PAST, LATER = T0 - 1000, T0 + 60_000
FREE = BudgetReport(200, 3, 0, LATER, None, None, 1.0)
STOPPED = FREE._replace(paused_until=LATER, reason="Graph error 4")
USED_UP = FREE._replace(used=200, free_at=LATER)
SLOW = FREE._replace(slowness=50.0, slowed_until=LATER)
SERVED = Account(id=ACCOUNT, login_type=LoginType.INSTAGRAM, state=AccountState.ACTIVE, created_at=1, updated_at=1)
DEAD = msgspec.structs.replace(SERVED, state=AccountState.NEEDS_LOGIN, reason="the token is dead")


def why(
    *,
    state: ProfileState = ProfileState.PENDING,
    at: int | None = PAST,
    account: Account | None = SERVED,
    budget: BudgetReport | None = FREE,
    asking: bool = False,
) -> Waiting | None:
    return waiting(state, "the last error", at, account=account, budget=budget, asking=asking, now=T0, iso=iso_utc)


@pytest.mark.parametrize("state", [ProfileState.COMPLETE, ProfileState.NO_CONSENT, ProfileState.UNAVAILABLE])
def test_who_waits_for_nothing(state: ProfileState) -> None:
    assert why(state=state) is None


@pytest.mark.parametrize("state", [ProfileState.PENDING, ProfileState.FAILED])
def test_every_reason(state: ProfileState) -> None:
    found = [
        why(state=state, account=None, budget=None),
        why(state=state, account=DEAD, budget=STOPPED),
        why(state=state, at=None),
        why(state=state, at=LATER),
        why(state=state, budget=STOPPED),
        why(state=state, budget=USED_UP),
        why(state=state, budget=SLOW),
        why(state=state),
        why(state=state, asking=True),
    ]
    assert [one and one.what for one in found] == list(WaitingFor)
    assert [one and one.until for one in found] == [None, None, None, LATER, LATER, LATER, LATER, None, None]
    texts = [one.text for one in found if one is not None]
    assert "the token is dead" in texts[1]
    assert "the last error" in texts[3]
    assert "Graph error 4" in texts[4]
    assert all("2026-" in text for text in texts[3:7])


def test_whoever_holds_the_fetch_waits_like_all_others() -> None:
    for budget, what in ((STOPPED, WaitingFor.STOP), (USED_UP, WaitingFor.BUDGET), (SLOW, WaitingFor.SLOWNESS)):
        found = why(budget=budget, asking=True)
        assert found is not None
        assert found.what is what
    all_at_once = STOPPED._replace(free_at=LATER, slowness=50.0, slowed_until=LATER)
    found = why(budget=all_at_once)
    assert found is not None
    assert found.what is WaitingFor.STOP


@pytest.mark.parametrize(("slowness", "told"), [(1.67, "1.7"), (1.04, "1.0"), (25.0, "25"), (50, "50"), (2.96, "3.0")])
def test_a_slow_down_is_told_as_it_is(slowness: float, told: str) -> None:
    assert times_slower(slowness) == f"{told} times slower"
