"""Decides from counts of events what is unusual about the traffic of accounts."""

from collections.abc import Collection, Sequence
from enum import StrEnum
from itertools import pairwise
from typing import Final, NamedTuple

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 24 * HOUR_MS

HISTORY_HOURS: Final = 14 * 24
"""How many hours before the latest event are used for the comparison."""
REGULAR_HOURS: Final = 24
"""An account is regular if events arrived in at least this many of those hours, …"""
REGULAR_SPAN_HOURS: Final = 7 * 24
"""… and if these hours span at least a week, so that a weekend is among them."""
SILENCE_FACTOR: Final = 2
"""A pause of an account is unusual if it is this many times its longest usual pause."""
SETTLING_MS: Final = HOUR_MS
"""Time after a start in which silence is not reported: Meta first sends again what it could not deliver."""
FEW_COMPANIONS: Final = 5
"""So many companions in 24 hours are unusual if no message arrived."""
MANY_UNAVAILABLE: Final = 10
"""So many participants found not to exist within an hour are unusual, if they are at least half of the calls."""

COMPANION: Final = "edit_companion"
"""The kind of a `message_edit` that accompanies a message and edits nothing."""
MESSAGE_KINDS: Final = frozenset({"message", "echo", "self_message", "unsupported", "delete"})
"""Kinds of events of the webhook field `messages`."""


class TrafficCause(StrEnum):
    """What is unusual."""

    UNSERVED = "unserved"
    """Events arrive for an account that is not served."""
    SILENT = "silent"
    """Events no longer arrive."""
    COMPANIONS_ONLY = "companions_only"
    """Edits that accompany messages arrive, but the messages do not."""
    UNAVAILABLE = "unavailable"
    """Meta says that most participants do not exist."""

    @property
    def is_urgent(self) -> bool:
        """Whether messages are missing because of it."""
        return self in {TrafficCause.SILENT, TrafficCause.COMPANIONS_ONLY}


class TrafficFinding(NamedTuple):
    """Something unusual about an account, or about all of them (None)."""

    cause: TrafficCause
    account_id: str | None
    since: int | None
    """Since when (ms), as far as known: it may have begun before the daemon started."""
    detail: str
    remedy: str


class AccountTraffic(NamedTuple):
    """What arrived for one account."""

    account_id: str
    served: bool
    expected: bool
    """Whether events should arrive: its owner has not removed the app."""
    hours: Sequence[int] = ()
    """The hours (since the epoch) in which events arrived, ascending, up to HISTORY_HOURS before the latest."""
    last_at: int | None = None
    """When the latest event arrived (ms)."""
    unserved_at: int | None = None
    """When an event last arrived while the account was not served (ms), …"""
    unserved_since: int | None = None
    """… and when the first one did, with no pause of a day since then (ms)."""
    events: int = 0
    """Events of the last 24 hours."""
    messages: int = 0
    """Those among `events` that are messages."""
    companions: int = 0
    """Those among `events` that accompany messages."""
    companions_since: int | None = None
    """When the first companion arrived after the latest message (ms)."""
    unavailable: int = 0
    """Participants who were found not to exist in the last hour, …"""
    unavailable_since: int | None = None
    """… and when the first of them was (ms)."""
    calls: int = 0
    """Graph calls of the last hour."""


def findings(
    traffic: Collection[AccountTraffic], *, now: int, started_at: int, silent_after_hours: int
) -> list[TrafficFinding]:
    """What is unusual at `now` (ms) for a daemon that started at `started_at` (ms).

    Silence is reported for regular accounts only, and never if `silent_after_hours` is 0. An account is silent when
    nothing has arrived for `silent_after_hours`, and for SILENCE_FACTOR times its longest pause before. Nights and
    weekends are such pauses.
    """
    found: list[TrafficFinding] = []
    for one in traffic:
        if not one.served and one.unserved_at is not None and now - one.unserved_at < DAY_MS:
            found.append(_unserved(one))
        if one.served and one.companions >= FEW_COMPANIONS and not one.messages:
            found.append(_companions_only(one))
        if one.unavailable >= MANY_UNAVAILABLE and one.unavailable * 2 >= one.calls:
            found.append(_unavailable(one))
    if silent_after_hours and now - started_at >= SETTLING_MS:
        found += _silent(traffic, now, silent_after_hours)
    return found


def usual_pause_hours(hours: Sequence[int]) -> int | None:
    """The longest pause between hours (ascending) with events. None if there are too few hours to say what is usual."""
    if len(hours) < REGULAR_HOURS or hours[-1] - hours[0] < REGULAR_SPAN_HOURS:
        return None
    return max(later - earlier for earlier, later in pairwise(hours))


def _silent(traffic: Collection[AccountTraffic], now: int, silent_after_hours: int) -> list[TrafficFinding]:
    expected = [one for one in traffic if one.served and one.expected]
    if len(expected) > 1:
        hours = sorted({hour for one in expected for hour in one.hours})
        last_at = max((one.last_at or 0 for one in expected), default=0)
        everything = _silence(None, hours, last_at or None, now, silent_after_hours)
        if everything is not None:
            return [everything]
    found = (_silence(one.account_id, one.hours, one.last_at, now, silent_after_hours) for one in expected)
    return [finding for finding in found if finding is not None]


def _silence(
    account_id: str | None, hours: Sequence[int], last_at: int | None, now: int, silent_after_hours: int
) -> TrafficFinding | None:
    pause = usual_pause_hours(hours)
    if pause is None or last_at is None:
        return None
    if now - last_at <= max(silent_after_hours, SILENCE_FACTOR * pause) * HOUR_MS:
        return None
    silent_hours = (now - last_at) // HOUR_MS
    detail = f"nothing has arrived for {silent_hours} hours; the longest pause before was {pause}"
    if account_id is None:
        remedy = "See whether Meta reaches this machine: inboxd doctor, the proxy, the certificate, the App Dashboard."
    else:
        remedy = f"inboxd account check {account_id}; then write to the account, and see whether that arrives."
    return TrafficFinding(TrafficCause.SILENT, account_id, last_at, detail, remedy)


def _unserved(one: AccountTraffic) -> TrafficFinding:
    detail = "events arrive for this account, and it is not served: they are kept under its id, without names"
    remedy = "Add it with 'inboxd account add', or remove the app from the account if it is none of yours."
    return TrafficFinding(TrafficCause.UNSERVED, one.account_id, one.unserved_since, detail, remedy)


def _companions_only(one: AccountTraffic) -> TrafficFinding:
    detail = f"{one.companions} edits that come with messages arrived within 24 hours, and no message"
    remedy = (
        "In the App Dashboard, subscribe the app to the webhook field 'messages' and see that it has the access that "
        f"this account needs; then inboxd account check {one.account_id}."
    )
    return TrafficFinding(TrafficCause.COMPANIONS_ONLY, one.account_id, one.companions_since, detail, remedy)


def _unavailable(one: AccountTraffic) -> TrafficFinding:
    detail = (
        f"Meta said of {one.unavailable} people within an hour that there is no such person; most who were asked about"
    )
    remedy = (
        f"Hardly all of them are gone: inboxd account check {one.account_id}, and see the reasons at "
        "/api/participants?profileState=unavailable."
    )
    return TrafficFinding(TrafficCause.UNAVAILABLE, one.account_id, one.unavailable_since, detail, remedy)
