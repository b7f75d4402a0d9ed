"""Deciding about failures, apart from carrying the decision out."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class Remedy(Enum):
    """What to do about a failed Graph call. Every failure is given exactly one."""

    RETRY_LATER = "retry_later"
    """A passing fault: try again with back-off."""
    WAIT_FOR_BUDGET = "wait_for_budget"
    """Meta throttles us: no calls until it says otherwise."""
    WAIT_FOR_PERSON = "wait_for_person"
    """The person has not given consent; only a message of theirs changes that."""
    NEEDS_LOGIN = "needs_login"
    """The account's token is dead: a human must log in again."""
    LACKS_PERMISSION = "lacks_permission"
    """The app may not do this for the account: a human must grant something."""
    GONE = "gone"
    """There is no such person to ask about; asking again is waste."""
    UNKNOWN = "unknown"
    """A code that is in no table: treated as a passing fault, and logged."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off: `base_s * 2**(attempt-1)`, capped, plus up to `jitter` of itself."""

    base_s: float = 1.0
    cap_s: float = 30.0
    jitter: float = 0.3

    def delay_s(self, attempt: int, random: Callable[[], float]) -> float:
        """Seconds to wait after failed attempt number `attempt` (from 1); `random` gives [0, 1)."""
        exponent = min(attempt - 1, 32)
        delay = min(self.base_s * 2.0**exponent, self.cap_s)
        return float(delay * (1 + self.jitter * random()))


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Up to `attempts` tries with `backoff` between them, then `rest_s` of rest before the next round."""

    attempts: int
    backoff: Backoff
    rest_s: float


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """When to try again, in seconds (None: not by ourselves), and whether the attempts are used up."""

    delay_s: float | None
    exhausted: bool


PROFILE_FETCH = RetryPolicy(attempts=3, backoff=Backoff(), rest_s=6 * 3600)
DELIVERY_HANDLING = RetryPolicy(attempts=3, backoff=Backoff(), rest_s=0)

_REST_S = {
    Remedy.WAIT_FOR_BUDGET: 15 * 60,
    Remedy.NEEDS_LOGIN: 3600,
    Remedy.LACKS_PERMISSION: 3600,
    Remedy.GONE: 30 * 86_400,
}
"""What retrying cannot help rests this long, whatever the attempt."""


def decide(remedy: Remedy, attempt: int, policy: RetryPolicy, random: Callable[[], float]) -> RetryDecision:
    """What follows the failed attempt number `attempt` (from 1)."""
    if remedy is Remedy.WAIT_FOR_PERSON:
        return RetryDecision(delay_s=None, exhausted=True)
    if remedy in _REST_S:
        return RetryDecision(delay_s=_REST_S[remedy], exhausted=True)
    if attempt >= policy.attempts:
        return RetryDecision(delay_s=policy.rest_s, exhausted=True)
    return RetryDecision(delay_s=policy.backoff.delay_s(attempt, random), exhausted=False)
