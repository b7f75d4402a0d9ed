"""Decides what follows an attempt to push something to an endpoint, and when it is tried again. Times in seconds."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, StrEnum
from itertools import accumulate
from typing import Final

DAY_S: Final = 86_400.0
SCHEDULE: Final = (5.0, 30.0, 120.0, 600.0, 1800.0, 3600.0, 7200.0, 14_400.0, 28_800.0, 43_200.0, 72_000.0, DAY_S)
"""The rests between the attempts at one event that fails while the endpoint works: about three days altogether."""
PROBES: Final = (5.0, 30.0, 120.0, 300.0, 600.0)
"""The rests between the attempts at an endpoint that fails as a whole. Later ones are PROBE_S apart."""
PROBE_S: Final = 900.0
JITTER: Final = 0.2
MAX_RETRY_AFTER_S: Final = DAY_S
DISABLED_AFTER_S: Final = 3 * DAY_S
"""An endpoint that has failed for so long without a success is disabled."""
SEEN_FAILING_S: Final = 3600.0
"""For so long of that it must have failed since the start: no receiver is judged by days in which nothing was tried."""
FAILING_LANES: Final = 3
"""When so many lanes have failed without a success in between, it is the endpoint that fails and not an event."""
_BUSY: Final = frozenset({429, 503})
_OF_THE_EVENT: Final = frozenset({400, 406, 409, 411, 412, 413, 414, 415, 416, 417, 422, 431})
"""Statuses with which a receiver refuses one request, and says nothing about the others."""
_SINCE_FIRST: Final = tuple(accumulate(PROBES))


class Unreached(Enum):
    """Why there was no answer."""

    REFUSED = "refused"
    """No connection was made: refused, no route, no such host, bad TLS."""
    RESET = "reset"
    """The connection broke before there was an answer."""
    TIMEOUT = "timeout"
    """The answer did not come in time."""
    FORBIDDEN = "forbidden"
    """We do not connect to this address."""
    BROKEN = "broken"
    """The attempt failed by a defect of ours. It says nothing about the endpoint."""


class PushVerdict(StrEnum):
    """What an attempt says about the endpoint."""

    DELIVERED = "delivered"
    EVENT_FAILED = "event_failed"
    """The event could not be delivered; others may be."""
    MAY_FAIL = "may_fail"
    """The endpoint may fail as a whole: so it is when other lanes fail too."""
    ENDPOINT_FAILED = "endpoint_failed"
    """No event can be delivered just now."""
    GONE = "gone"
    """The receiver wants nothing any more."""


def judge(outcome: int | Unreached, *, retry_after: bool = False) -> PushVerdict:
    """What follows from an HTTP status, or from no answer. `retry_after`: the answer says when to come again."""
    if isinstance(outcome, Unreached):
        if outcome in {Unreached.REFUSED, Unreached.FORBIDDEN}:
            return PushVerdict.ENDPOINT_FAILED
        return PushVerdict.EVENT_FAILED if outcome is Unreached.BROKEN else PushVerdict.MAY_FAIL
    if 200 <= outcome < 300:
        return PushVerdict.DELIVERED
    if outcome == 410:
        return PushVerdict.GONE
    if outcome == 429 or (outcome in _BUSY and retry_after):
        return PushVerdict.ENDPOINT_FAILED
    return PushVerdict.EVENT_FAILED if outcome in _OF_THE_EVENT else PushVerdict.MAY_FAIL


@dataclass(frozen=True, slots=True)
class Retry:
    """What becomes of an event that could not be delivered."""

    delay_s: float
    """Seconds until it is tried again."""
    exhausted: bool
    """Whether its schedule is over."""


def retry(attempts: int, retry_after_s: float | None, random: Callable[[], float]) -> Retry:
    """What follows the failed attempt number `attempts` (from 1) at one event. `random` gives [0, 1)."""
    exhausted = attempts > len(SCHEDULE)
    rest_s = SCHEDULE[min(attempts, len(SCHEDULE)) - 1] * (1 + JITTER * random())
    return Retry(max(rest_s, bounded(retry_after_s)), exhausted)


def probe_delay_s(failing_s: float, retry_after_s: float | None, random: Callable[[], float]) -> float:
    """Seconds until the next attempt at an endpoint that has failed for `failing_s` seconds."""
    later = next((at - failing_s for at in _SINCE_FIRST if at > failing_s), PROBE_S)
    rest_s = max(later, PROBES[0]) * (1 + JITTER * random())
    return max(rest_s, bounded(retry_after_s))


def bounded(retry_after_s: float | None) -> float:
    """What a receiver asked for in `Retry-After`, at most a day and at least nothing."""
    return min(max(retry_after_s or 0.0, 0.0), MAX_RETRY_AFTER_S)


def ends(failing_s: float, seen_s: float) -> bool:
    """Whether an endpoint that has failed for `failing_s` seconds without a success is to be disabled.

    `seen_s`: how long ago it first failed since the start, or since its last success.
    """
    return failing_s >= DISABLED_AFTER_S and seen_s >= SEEN_FAILING_S
