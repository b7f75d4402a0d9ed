"""The wall clock is believed when something else agrees with it."""

from inboxd.domain.clock_trust import CONFIRM_S, MAX_JUMP_MS, ClockTrust

from tests.support import T0

YEAR_MS = 365 * 86_400_000
DAY_S = 86_400.0


def test_a_clock_that_goes_on_is_believed_for_ever() -> None:
    trust = ClockTrust(None)
    assert all(trust.look(T0 + day * MAX_JUMP_MS, day * DAY_S, None) for day in range(400))


def test_a_jump_is_doubted_until_it_is_taken_back() -> None:
    trust = ClockTrust(None)
    assert trust.look(T0, 0, None)
    assert not trust.look(T0 + YEAR_MS, 60, None)
    assert trust.doubted
    assert trust.known_at == T0
    assert trust.look(T0 + 120_000, 120, None)
    assert not trust.doubted


def test_a_start_with_a_clock_far_ahead_of_the_last_run_is_doubted() -> None:
    assert ClockTrust(T0).look(T0 + MAX_JUMP_MS, 5, None)
    assert not ClockTrust(T0).look(T0 + MAX_JUMP_MS + 1, 5, None)
    assert not ClockTrust(T0).look(T0 + YEAR_MS, 5, T0 + 1000)
    assert not ClockTrust(None).look(T0 + YEAR_MS, 5, T0), (
        "a file of an earlier release: messages are all that is known"
    )
    assert ClockTrust(None).look(T0, 5, None), "nothing is known, and nothing is kept"


def test_a_message_of_now_confirms_it_at_once() -> None:
    trust = ClockTrust(T0)
    assert not trust.look(T0 + YEAR_MS, 5, T0)
    assert trust.look(T0 + YEAR_MS + 60_000, 65, T0 + YEAR_MS + 30_000)


def test_a_quiet_inbox_believes_it_after_a_day() -> None:
    trust = ClockTrust(T0)
    looks = [trust.look(T0 + YEAR_MS + minute * 60_000, minute * 60.0, T0 - 5) for minute in range(2000)]
    assert looks.index(True) == CONFIRM_S / 60


def test_messages_of_another_time_contradict_it_for_as_long_as_they_come() -> None:
    trust = ClockTrust(T0)
    assert not any(
        trust.look(T0 + YEAR_MS + hour * 3_600_000, hour * 3600.0, T0 + hour * 3_600_000) for hour in range(20 * 24)
    )


def test_a_doubted_clock_that_is_set_begins_anew() -> None:
    trust = ClockTrust(T0)
    for hour in range(30):
        assert not trust.look(T0 + YEAR_MS + hour * 2 * 3_600_000, hour * 3600.0, None)  # it runs twice as fast


def test_a_clock_that_is_set_back_is_believed_and_what_it_said_before_is_not() -> None:
    trust = ClockTrust(T0 + YEAR_MS)
    assert trust.look(T0, 0, None)
    assert not trust.look(T0 + YEAR_MS, 60, None)
