"""What may follow what: every state with every cause."""

import itertools

import pytest
from inboxd.domain.account import DAY_MS, Account, AccountState, Cause, Flavour, following

from tests.support import ACCOUNT, T0

ACTIVE, LOGIN, PERMISSION, GONE = (
    AccountState.ACTIVE,
    AccountState.NEEDS_LOGIN,
    AccountState.LACKS_PERMISSION,
    AccountState.DEAUTHORIZED,
)
EXPECTED = {
    (ACTIVE, Cause.TOKEN_GIVEN): ACTIVE,
    (LOGIN, Cause.TOKEN_GIVEN): ACTIVE,
    (PERMISSION, Cause.TOKEN_GIVEN): ACTIVE,
    (GONE, Cause.TOKEN_GIVEN): ACTIVE,
    (ACTIVE, Cause.TOKEN_ACCEPTED): ACTIVE,
    (LOGIN, Cause.TOKEN_ACCEPTED): ACTIVE,
    (PERMISSION, Cause.TOKEN_ACCEPTED): ACTIVE,
    (GONE, Cause.TOKEN_ACCEPTED): None,
    (ACTIVE, Cause.CALL_ANSWERED): ACTIVE,
    (LOGIN, Cause.CALL_ANSWERED): None,
    (PERMISSION, Cause.CALL_ANSWERED): ACTIVE,
    (GONE, Cause.CALL_ANSWERED): None,
    (ACTIVE, Cause.TOKEN_REFUSED): LOGIN,
    (LOGIN, Cause.TOKEN_REFUSED): LOGIN,
    (PERMISSION, Cause.TOKEN_REFUSED): LOGIN,
    (GONE, Cause.TOKEN_REFUSED): None,
    (ACTIVE, Cause.PERMISSION_REFUSED): PERMISSION,
    (LOGIN, Cause.PERMISSION_REFUSED): None,
    (PERMISSION, Cause.PERMISSION_REFUSED): PERMISSION,
    (GONE, Cause.PERMISSION_REFUSED): None,
    (ACTIVE, Cause.TOKEN_MISSING): LOGIN,
    (LOGIN, Cause.TOKEN_MISSING): None,
    (PERMISSION, Cause.TOKEN_MISSING): LOGIN,
    (GONE, Cause.TOKEN_MISSING): None,
    (ACTIVE, Cause.APP_REMOVED): GONE,
    (LOGIN, Cause.APP_REMOVED): GONE,
    (PERMISSION, Cause.APP_REMOVED): GONE,
    (GONE, Cause.APP_REMOVED): GONE,
}


def test_every_pair_is_decided() -> None:
    assert EXPECTED.keys() == set(itertools.product(AccountState, Cause))


@pytest.mark.parametrize(("state", "cause"), sorted(itertools.product(AccountState, Cause)))
def test_what_follows(state: AccountState, cause: Cause) -> None:
    assert following(state, cause) is EXPECTED[state, cause]


@pytest.mark.parametrize(("first", "second"), list(itertools.product(Cause, Cause)))
def test_after_the_app_was_removed_only_a_new_token_makes_calls_possible(first: Cause, second: Cause) -> None:
    state = GONE
    for cause in (first, second):
        state = following(state, cause) or state
    assert (state is GONE) is (Cause.TOKEN_GIVEN not in (first, second) or second is Cause.APP_REMOVED)


@pytest.mark.parametrize(
    ("expires_in_days", "tried_after_days", "due_after_days"),
    [(None, None, 1), (60, None, 30), (10, None, 1), (60, 40, 41), (None, 1, 2)],
)
def test_a_token_is_refreshed_in_good_time_and_never_on_its_first_day(
    expires_in_days: int | None, tried_after_days: int | None, due_after_days: int
) -> None:
    """Meta refuses to refresh a token that is younger than a day."""

    def moment(days: int | None) -> int | None:
        return None if days is None else T0 + days * DAY_MS

    account = Account(
        id=ACCOUNT,
        flavour=Flavour.INSTAGRAM,
        state=ACTIVE,
        created_at=T0,
        updated_at=T0,
        token_obtained_at=T0,
        token_expires_at=moment(expires_in_days),
        refresh_tried_at=moment(tried_after_days),
    )
    assert account.refresh_due_at() == moment(due_after_days)
