"""What may follow what: every state with every cause."""

import itertools

import pytest
from inboxd.domain.account import DAY_MS, Account, AccountChange, AccountState, LoginType, following

from tests.support import ACCOUNT, T0

ACTIVE, LOGIN, PERMISSION, GONE = (
    AccountState.ACTIVE,
    AccountState.NEEDS_LOGIN,
    AccountState.LACKS_PERMISSION,
    AccountState.DEAUTHORIZED,
)
EXPECTED = {
    (ACTIVE, AccountChange.TOKEN_GIVEN): ACTIVE,
    (LOGIN, AccountChange.TOKEN_GIVEN): ACTIVE,
    (PERMISSION, AccountChange.TOKEN_GIVEN): ACTIVE,
    (GONE, AccountChange.TOKEN_GIVEN): ACTIVE,
    (ACTIVE, AccountChange.TOKEN_ACCEPTED): ACTIVE,
    (LOGIN, AccountChange.TOKEN_ACCEPTED): ACTIVE,
    (PERMISSION, AccountChange.TOKEN_ACCEPTED): ACTIVE,
    (GONE, AccountChange.TOKEN_ACCEPTED): None,
    (ACTIVE, AccountChange.CALL_ANSWERED): ACTIVE,
    (LOGIN, AccountChange.CALL_ANSWERED): None,
    (PERMISSION, AccountChange.CALL_ANSWERED): ACTIVE,
    (GONE, AccountChange.CALL_ANSWERED): None,
    (ACTIVE, AccountChange.TOKEN_REFUSED): LOGIN,
    (LOGIN, AccountChange.TOKEN_REFUSED): LOGIN,
    (PERMISSION, AccountChange.TOKEN_REFUSED): LOGIN,
    (GONE, AccountChange.TOKEN_REFUSED): None,
    (ACTIVE, AccountChange.PERMISSION_REFUSED): PERMISSION,
    (LOGIN, AccountChange.PERMISSION_REFUSED): None,
    (PERMISSION, AccountChange.PERMISSION_REFUSED): PERMISSION,
    (GONE, AccountChange.PERMISSION_REFUSED): None,
    (ACTIVE, AccountChange.TOKEN_MISSING): LOGIN,
    (LOGIN, AccountChange.TOKEN_MISSING): None,
    (PERMISSION, AccountChange.TOKEN_MISSING): LOGIN,
    (GONE, AccountChange.TOKEN_MISSING): None,
    (ACTIVE, AccountChange.APP_REMOVED): GONE,
    (LOGIN, AccountChange.APP_REMOVED): GONE,
    (PERMISSION, AccountChange.APP_REMOVED): GONE,
    (GONE, AccountChange.APP_REMOVED): GONE,
}


def test_every_pair_is_decided() -> None:
    assert EXPECTED.keys() == set(itertools.product(AccountState, AccountChange))


@pytest.mark.parametrize(("state", "cause"), sorted(itertools.product(AccountState, AccountChange)))
def test_what_follows(state: AccountState, cause: AccountChange) -> None:
    assert following(state, cause) is EXPECTED[state, cause]


@pytest.mark.parametrize(("first", "second"), list(itertools.product(AccountChange, AccountChange)))
def test_after_the_app_was_removed_only_a_new_token_makes_calls_possible(
    first: AccountChange, second: AccountChange
) -> None:
    state = GONE
    for cause in (first, second):
        state = following(state, cause) or state
    assert (state is GONE) is (AccountChange.TOKEN_GIVEN not in (first, second) or second is AccountChange.APP_REMOVED)


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
        login_type=LoginType.INSTAGRAM,
        state=ACTIVE,
        created_at=T0,
        updated_at=T0,
        token_obtained_at=T0,
        token_expires_at=moment(expires_in_days),
        refresh_tried_at=moment(tried_after_days),
    )
    assert account.refresh_due_at() == moment(due_after_days)
