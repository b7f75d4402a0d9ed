import pytest
from inboxd.domain.retry import FailureAction
from inboxd.meta.graph_errors import TABLE, classified, row


@pytest.mark.parametrize(("code", "subcode"), sorted(TABLE, key=str))
def test_every_row_is_found_by_its_code(code: int, subcode: int | None) -> None:
    error = classified(code, subcode)

    assert error.action is TABLE[code, subcode].action
    assert (error.code, error.subcode) == (code, subcode)
    assert TABLE[code, subcode].meaning in str(error)


@pytest.mark.parametrize(
    ("code", "subcode", "action"),
    [
        (230, None, FailureAction.WAIT_FOR_PERSON),
        (9010, None, FailureAction.GONE),
        (100, 2534014, FailureAction.GONE),
        (100, 33, FailureAction.RETRY_LATER),
        (190, 463, FailureAction.NEEDS_LOGIN),
        (190, 999999, FailureAction.NEEDS_LOGIN),
        (4, None, FailureAction.WAIT_FOR_BUDGET),
        (80002, None, FailureAction.WAIT_FOR_BUDGET),
        (200, None, FailureAction.LACKS_PERMISSION),
        (299, 1, FailureAction.LACKS_PERMISSION),
        (200, 2534041, FailureAction.LACKS_PERMISSION),
        (2, None, FailureAction.RETRY_LATER),
        (123456, None, FailureAction.UNKNOWN),
    ],
)
def test_codes_of_the_documentation(code: int, subcode: int | None, action: FailureAction) -> None:
    assert row(code, subcode).action is action
