import pytest
from inboxd.domain.retry import Remedy
from inboxd.meta.graph_errors import TABLE, classified, row


@pytest.mark.parametrize(("code", "subcode"), sorted(TABLE, key=str))
def test_every_row_is_found_by_its_code(code: int, subcode: int | None) -> None:
    error = classified(code, subcode)

    assert error.remedy is TABLE[code, subcode].remedy
    assert (error.code, error.subcode) == (code, subcode)
    assert TABLE[code, subcode].meaning in str(error)


@pytest.mark.parametrize(
    ("code", "subcode", "remedy"),
    [
        (230, None, Remedy.WAIT_FOR_PERSON),
        (9010, None, Remedy.GONE),
        (100, 2534014, Remedy.GONE),
        (100, 33, Remedy.RETRY_LATER),
        (190, 463, Remedy.NEEDS_LOGIN),
        (190, 999999, Remedy.NEEDS_LOGIN),
        (4, None, Remedy.WAIT_FOR_BUDGET),
        (80002, None, Remedy.WAIT_FOR_BUDGET),
        (200, None, Remedy.LACKS_PERMISSION),
        (299, 1, Remedy.LACKS_PERMISSION),
        (200, 2534041, Remedy.LACKS_PERMISSION),
        (2, None, Remedy.RETRY_LATER),
        (123456, None, Remedy.UNKNOWN),
    ],
)
def test_codes_of_the_documentation(code: int, subcode: int | None, remedy: Remedy) -> None:
    assert row(code, subcode).remedy is remedy
