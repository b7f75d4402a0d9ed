"""What traffic tells: rules over counts, without a daemon."""

from typing import Any

import pytest
from inboxd.domain.traffic import (
    DAY_MS,
    FEW_COMPANIONS,
    HOUR_MS,
    MANY_UNAVAILABLE,
    SETTLING_MS,
    AccountTraffic,
    TrafficCause,
    TrafficFinding,
    findings,
    usual_pause_hours,
)

ONE, OTHER = "17841400000000001", "17841400000000002"
FIRST = 500_000
"""An hour, which is 00:00 on a Monday in these tests."""


def office_hours(days: int, *, weekend: bool = False) -> list[int]:
    """Events from 9 to 17, without or with Saturday and Sunday."""
    return [FIRST + 24 * day + hour for day in range(days) if weekend or day % 7 < 5 for hour in range(9, 17)]


def traffic(account_id: str = ONE, **values: Any) -> AccountTraffic:
    found = AccountTraffic(account_id, served=True, expected=True)
    if "hours" in values:
        values.setdefault("last_at", values["hours"][-1] * HOUR_MS)
    return found._replace(**values)


def found(
    *accounts: AccountTraffic, hour: int = FIRST, up_ms: int = DAY_MS, silent_after: int = 6
) -> list[TrafficFinding]:
    now = hour * HOUR_MS
    return findings(accounts, now=now, started_at=now - up_ms, silent_after_hours=silent_after)


def causes(*accounts: AccountTraffic, **when: Any) -> list[tuple[TrafficCause, str | None]]:
    return [(one.cause, one.account_id) for one in found(*accounts, **when)]


def test_nothing_is_unusual_about_nothing() -> None:
    assert found() == found(traffic()) == []


def test_a_weekend_and_a_night_are_no_silence() -> None:
    hours = office_hours(12)  # two weeks, to the second Friday
    friday_evening = hours[-1]
    assert usual_pause_hours(hours) == 65
    for later in range(1, 2 * 65 + 1):
        assert causes(traffic(hours=hours), hour=friday_evening + later) == []
    assert causes(traffic(hours=hours), hour=friday_evening + 2 * 65 + 1) == [(TrafficCause.SILENT, ONE)]


def test_who_is_busy_day_and_night_is_missed_after_the_configured_hours() -> None:
    hours = list(range(FIRST, FIRST + 24 * 10))
    assert causes(traffic(hours=hours), hour=hours[-1] + 6) == []
    assert causes(traffic(hours=hours), hour=hours[-1] + 7) == [(TrafficCause.SILENT, ONE)]
    assert causes(traffic(hours=hours), hour=hours[-1] + 9, silent_after=10) == []
    assert causes(traffic(hours=hours), hour=hours[-1] + 900, silent_after=0) == []
    assert causes(traffic(hours=hours), hour=hours[-1] + 24 * 90) == [(TrafficCause.SILENT, ONE)], "as long as it lasts"


@pytest.mark.parametrize(
    "hours",
    [
        office_hours(5),  # not a whole week yet: nobody knows what a weekend is here
        [FIRST + 24 * day for day in range(14)],  # one hour a day
        [FIRST],
    ],
)
def test_of_quiet_and_of_new_accounts_silence_is_never_said(hours: list[int]) -> None:
    assert causes(traffic(hours=hours), hour=hours[-1] + 10_000) == []


def test_after_a_start_what_was_missed_comes_first() -> None:
    hours = list(range(FIRST, FIRST + 24 * 10))
    late = hours[-1] + 100
    assert causes(traffic(hours=hours), hour=late, up_ms=SETTLING_MS - 1) == []
    assert causes(traffic(hours=hours), hour=late, up_ms=SETTLING_MS) == [(TrafficCause.SILENT, ONE)]


def test_of_somebody_who_removed_the_app_nothing_is_expected() -> None:
    hours = list(range(FIRST, FIRST + 24 * 10))
    assert causes(traffic(hours=hours, expected=False), hour=hours[-1] + 100) == []


def test_silence_of_all_is_said_once() -> None:
    hours = list(range(FIRST, FIRST + 24 * 10))
    both = traffic(hours=hours), traffic(OTHER, hours=hours)
    assert causes(*both, hour=hours[-1] + 100) == [(TrafficCause.SILENT, None)]
    busy = traffic(OTHER, hours=[*hours, hours[-1] + 99])
    assert causes(traffic(hours=hours), busy, hour=hours[-1] + 100) == [(TrafficCause.SILENT, ONE)]


def test_accounts_too_quiet_alone_are_missed_together() -> None:
    days = range(14)
    quiet = [traffic(str(number), hours=[FIRST + 24 * day + 6 * number for day in days]) for number in range(4)]
    last = max(one.hours[-1] for one in quiet)
    assert causes(*quiet, hour=last + 13) == [(TrafficCause.SILENT, None)]
    assert causes(quiet[0], hour=last + 10_000) == []


def test_who_is_not_served_is_named_for_a_day() -> None:
    stranger = traffic(served=False, expected=False, unserved_at=FIRST * HOUR_MS)
    assert causes(stranger, hour=FIRST + 23) == [(TrafficCause.UNSERVED, ONE)]
    assert causes(stranger, hour=FIRST + 24) == []
    assert causes(traffic(served=False, expected=False), hour=FIRST) == []


def test_companions_without_messages() -> None:
    assert causes(traffic(companions=FEW_COMPANIONS)) == [(TrafficCause.COMPANIONS_ONLY, ONE)]
    assert causes(traffic(companions=FEW_COMPANIONS - 1)) == []
    assert causes(traffic(companions=1000, messages=1)) == []
    assert causes(traffic(companions=1000, served=False)) == []


def test_many_people_who_do_not_exist() -> None:
    assert causes(traffic(unavailable=MANY_UNAVAILABLE, calls=2 * MANY_UNAVAILABLE)) == [
        (TrafficCause.UNAVAILABLE, ONE)
    ]
    assert causes(traffic(unavailable=MANY_UNAVAILABLE, calls=2 * MANY_UNAVAILABLE + 1)) == []
    assert causes(traffic(unavailable=MANY_UNAVAILABLE - 1, calls=MANY_UNAVAILABLE)) == []


def test_every_finding_says_what_to_do() -> None:
    hours = list(range(FIRST, FIRST + 24 * 10))
    everything = found(
        traffic(served=False, expected=False, unserved_at=(hours[-1] + 90) * HOUR_MS),
        traffic(OTHER, hours=hours, companions=9, unavailable=99),
        hour=hours[-1] + 100,
    )
    assert {one.cause for one in everything} == set(TrafficCause)
    assert all(one.detail and one.remedy for one in everything)
