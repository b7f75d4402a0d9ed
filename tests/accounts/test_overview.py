"""What the overview says of an account: the first thing that is wrong with it."""

from typing import Any

import msgspec
import pytest
from inboxd.accounts.overview import account_needs, outage_needs
from inboxd.domain.account import Account, AccountState, LoginType
from inboxd.domain.budget import BudgetReport
from inboxd.runtime.clock import iso_utc

from tests.support import ACCOUNT, T0

HEALTHY = Account(
    id=ACCOUNT,
    login_type=LoginType.INSTAGRAM,
    state=AccountState.ACTIVE,
    created_at=T0,
    updated_at=T0,
    subscribed_fields=("messages",),
)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, None),
        ({"subscribed_fields": None}, None),
        ({"subscribed_fields": ()}, f"{ACCOUNT}: it is not subscribed to messages, so none arrive."),
        ({"token_expires_at": T0, "subscribed_fields": ()}, f"{ACCOUNT}: its token ends at "),
        ({"state": AccountState.NEEDS_LOGIN, "token_expires_at": T0}, f"{ACCOUNT}: needs_login"),
        ({"state": AccountState.NEEDS_LOGIN, "reason": "log in", "name": "shop"}, "shop: log in"),
        ({"subscribed_fields": (), "name": "shop", "username": "the.shop"}, "the.shop: it is not subscribed"),
    ],
)
def test_the_first_thing_that_is_wrong(changes: dict[str, Any], text: str | None) -> None:
    needs = account_needs(msgspec.structs.replace(HEALTHY, **changes), T0)
    assert [(need.path, need.urgent) for need in needs] == ([] if text is None else [("/accounts", True)])
    assert all(text is not None and need.text.startswith(text) for need in needs)


def test_an_outage_of_meta_is_said_once_for_all_accounts() -> None:
    well = BudgetReport(200, 0, 0, None, None, None, 1.0)
    assert outage_needs([well, well]) == []
    (need,) = outage_needs([well, well._replace(unreachable_since=T0 + 9), well._replace(unreachable_since=T0)])
    assert need.text.startswith(f"Meta has not answered since {iso_utc(T0)}. It is asked again by itself")
