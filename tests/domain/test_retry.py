import pytest
from inboxd.domain.retry import DELIVERY_HANDLING, GONE_REST_S, PROFILE_FETCH, FailureAction, decide, never_answers
from inboxd.runtime.backoff import Backoff


def never() -> float:
    return 0.0


@pytest.mark.parametrize(("attempt", "seconds"), [(1, 1), (2, 2), (3, 4), (5, 16), (6, 30), (500, 30)])
def test_back_off_doubles_up_to_its_cap(attempt: int, seconds: float) -> None:
    assert Backoff().delay_s(attempt, never) == seconds


def test_jitter_adds_up_to_thirty_percent() -> None:
    assert Backoff().delay_s(1, lambda: 1.0) == pytest.approx(1.3)


@pytest.mark.parametrize("action", [FailureAction.RETRY_LATER, FailureAction.UNKNOWN])
def test_three_attempts_in_vain_are_followed_by_a_rest(action: FailureAction) -> None:
    decisions = [decide(action, attempt, PROFILE_FETCH, never) for attempt in (1, 2, 3)]

    assert [decision.exhausted for decision in decisions] == [False, False, True]
    assert [decision.delay_s for decision in decisions] == [1, 2, PROFILE_FETCH.rest_s]


def test_missing_consent_waits_for_the_person_alone() -> None:
    assert decide(FailureAction.WAIT_FOR_PERSON, 1, PROFILE_FETCH, never).delay_s is None


def test_who_does_not_exist_is_let_alone_for_a_month() -> None:
    decision = decide(FailureAction.GONE, 1, PROFILE_FETCH, never)

    assert decision.exhausted
    assert decision.delay_s == GONE_REST_S


def test_each_round_in_vain_doubles_the_rest_up_to_a_week() -> None:
    rests = [
        decide(FailureAction.RETRY_LATER, 3 * number, PROFILE_FETCH, never).delay_s for number in (1, 2, 3, 4, 5, 6, 99)
    ]

    assert rests == [hours * 3600 for hours in (6, 12, 24, 48, 96, 168, 168)]
    assert [never_answers(attempt, PROFILE_FETCH) for attempt in (14, 15)] == [False, True]


def test_a_delivery_gets_three_attempts() -> None:
    assert not decide(FailureAction.UNKNOWN, 2, DELIVERY_HANDLING, never).exhausted
    assert decide(FailureAction.UNKNOWN, 3, DELIVERY_HANDLING, never).exhausted
