"""What follows an attempt, and when something is tried again."""

import ipaddress
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inboxd.domain import forwarding as rules
from inboxd.domain.addresses import is_receiver
from inboxd.domain.forwarding import PushVerdict, Unreached, judge, probe_delay_s, retry

DAY = 86_400


@pytest.mark.parametrize("status", [200, 201, 204, 299])
def test_any_2xx_is_a_success(status: int) -> None:
    assert judge(status) is PushVerdict.DELIVERED


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        (301, PushVerdict.MAY_FAIL),
        (307, PushVerdict.MAY_FAIL),
        (400, PushVerdict.EVENT_FAILED),
        (401, PushVerdict.MAY_FAIL),
        (404, PushVerdict.MAY_FAIL),
        (410, PushVerdict.GONE),
        (413, PushVerdict.EVENT_FAILED),
        (422, PushVerdict.EVENT_FAILED),
        (429, PushVerdict.ENDPOINT_FAILED),
        (500, PushVerdict.MAY_FAIL),
        (503, PushVerdict.MAY_FAIL),
        (Unreached.REFUSED, PushVerdict.ENDPOINT_FAILED),
        (Unreached.FORBIDDEN, PushVerdict.ENDPOINT_FAILED),
        (Unreached.TIMEOUT, PushVerdict.MAY_FAIL),
        (Unreached.RESET, PushVerdict.MAY_FAIL),
        (Unreached.BROKEN, PushVerdict.EVENT_FAILED),
    ],
)
def test_each_failure_says_something_about_the_endpoint_or_the_event(
    outcome: int | Unreached, verdict: PushVerdict
) -> None:
    assert judge(outcome) is verdict


def test_whoever_says_when_to_come_again_is_not_asked_before() -> None:
    assert judge(503, retry_after=True) is PushVerdict.ENDPOINT_FAILED
    assert judge(500, retry_after=True) is PushVerdict.MAY_FAIL
    assert retry(1, 7200, lambda: 0).delay_s == 7200
    assert retry(1, 30 * DAY, lambda: 0).delay_s == DAY, "but a day is the most"
    assert retry(1, -5, lambda: 0).delay_s == 5
    assert probe_delay_s(0, 7200, lambda: 0) == 7200


def test_an_event_is_tried_for_about_three_days() -> None:
    decisions = [retry(attempt, None, lambda: 0) for attempt in range(1, 20)]
    until_given_up = list(itertools.takewhile(lambda one: not one.exhausted, decisions))
    assert [one.delay_s for one in until_given_up[:4]] == [5, 30, 120, 600]
    assert 2.8 * DAY < sum(one.delay_s for one in until_given_up) < 3.2 * DAY
    assert all(one.exhausted for one in decisions[len(until_given_up) :])


@given(st.integers(1, 100), st.floats(0, 1, exclude_max=True), st.none() | st.floats(-1e9, 1e12))
def test_a_retry_is_never_at_once_and_never_out_of_sight(attempt: int, drawn: float, after_s: float | None) -> None:
    assert 5 <= retry(attempt, after_s, lambda: drawn).delay_s <= 1.2 * DAY


def test_probes_of_an_endpoint_come_at_first_often_and_then_every_quarter_of_an_hour() -> None:
    at, probes = 0.0, []
    while at < DAY:
        at += probe_delay_s(at, None, lambda: 0)
        probes.append(at)
    assert probes[:5] == [5, 35, 155, 455, 1055]
    assert {later - earlier for earlier, later in itertools.pairwise(probes[4:])} == {900}


@given(st.floats(0, 10 * DAY), st.floats(0, 1, exclude_max=True))
def test_a_probe_is_never_at_once(failing_s: float, drawn: float) -> None:
    assert 5 <= probe_delay_s(failing_s, None, lambda: drawn) <= 1.2 * rules.PROBE_S


@pytest.mark.parametrize(("days", "over"), [(0, False), (2.99, False), (3, True), (4, True)])
def test_after_three_days_an_endpoint_is_given_up(days: float, *, over: bool) -> None:
    assert rules.ends(days * DAY, days * DAY) is over
    assert not rules.ends(days * DAY, 3599), "it was hardly tried"


@pytest.mark.parametrize(
    ("address", "networks", "allowed"),
    [
        ("127.0.0.1", [], True),
        ("::1", [], True),
        ("10.1.2.3", [], True),
        ("192.168.1.1", [], True),
        ("fd12::1", [], True),
        ("93.184.215.14", [], True),
        ("2606:2800:21f::1", [], True),
        ("169.254.169.254", [], False),
        ("169.254.0.1", [], False),
        ("fe80::1", [], False),
        ("fd00:ec2::254", [], False),
        ("fd20:ce::254", [], False),
        ("100.100.100.200", [], False),
        ("100.64.0.1", [], True),
        ("168.63.129.16", [], False),
        ("0.0.0.0", [], False),  # noqa: S104 - an address to refuse
        ("::", [], False),
        ("255.255.255.255", [], False),
        ("239.1.1.1", [], False),
        ("ff02::1", [], False),
        ("::ffff:169.254.169.254", [], False),
        ("::ffff:10.1.2.3", [], True),
        ("64:ff9b::a9fe:a9fe", [], False),
        ("2002:a9fe:a9fe::1", [], False),
        ("10.1.2.3", ["10.0.0.0/8"], True),
        ("::ffff:10.1.2.3", ["10.0.0.0/8"], True),
        ("127.0.0.1", ["10.0.0.0/8"], False),
        ("93.184.215.14", ["10.0.0.0/8"], False),
        ("169.254.169.254", ["169.254.0.0/16"], False),
        ("169.254.169.254", ["0.0.0.0/0"], False),
        ("::ffff:169.254.169.254", ["::/0"], False),
        ("fd00:ec2::254", ["fd00::/8"], False),
    ],
)
def test_receivers_may_be_anywhere_but_where_nobody_receives(
    address: str, networks: list[str], *, allowed: bool
) -> None:
    wanted = [ipaddress.ip_network(text) for text in networks]
    assert is_receiver(ipaddress.ip_address(address), wanted) is allowed
