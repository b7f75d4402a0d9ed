"""What may follow what: every state with every cause."""

import itertools

import pytest
from inboxd.domain.account import AccountChange, AccountState, following

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
