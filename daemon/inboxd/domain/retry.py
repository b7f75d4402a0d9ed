"""Deciding about failures, apart from carrying the decision out."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from inboxd.runtime.backoff import Backoff


class FailureAction(Enum):
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
class RetryPolicy:
    """Up to `attempts` tries with `backoff` between them, then a rest of `rest_s` before the next round.

    Each further round in vain doubles the rest, up to `longest_rest_s`.
    """

    attempts: int
    backoff: Backoff
    rest_s: float
    longest_rest_s: float


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """When to try again, in seconds (None: not by ourselves), and whether the round's attempts are used up."""

    delay_s: float | None
    exhausted: bool


PROFILE_FETCH = RetryPolicy(attempts=3, backoff=Backoff(), rest_s=6 * 3600, longest_rest_s=7 * 86_400)
WITHOUT_CODE = RetryPolicy(attempts=3, backoff=Backoff(base_s=10, cap_s=60), rest_s=900, longest_rest_s=6 * 3600)
"""For answers about one person that name no error of Meta's: they say less, so the person waits less."""
DELIVERY_HANDLING = RetryPolicy(attempts=3, backoff=Backoff(), rest_s=0, longest_rest_s=0)

GONE_REST_S = 30 * 86_400
"""Who does not exist is not asked about for this long."""
REOPEN_REST_S = 600
"""Who writes although there was no profile is asked about again: at once the first few times, then after this."""
REOPEN_AT_ONCE = 3
ROUNDS_UNTIL_GONE = 5
"""So many rounds in vain, with answers of Meta's each time: they may have blocked the account (User Profile API)."""


def decide(action: FailureAction, attempt: int, policy: RetryPolicy, random: Callable[[], float]) -> RetryDecision:
    """What follows the failed attempt number `attempt` (from 1, counted over all rounds).

    Actions that concern the account rather than the person are not decided here: the throttles of the account do that.
    """
    if action is FailureAction.WAIT_FOR_PERSON:
        return RetryDecision(delay_s=None, exhausted=True)
    if action is FailureAction.GONE:
        return RetryDecision(delay_s=GONE_REST_S, exhausted=True)
    rounds, step = divmod(attempt, policy.attempts)
    if step == 0:
        rest_s = min(policy.rest_s * 2.0 ** min(rounds - 1, 32), policy.longest_rest_s)
        return RetryDecision(delay_s=rest_s, exhausted=True)
    return RetryDecision(delay_s=policy.backoff.delay_s(step, random), exhausted=False)


def never_answers(attempt: int, policy: RetryPolicy) -> bool:
    """Whether a person about whom Meta keeps saying "try again" should be given up for long."""
    return attempt >= policy.attempts * ROUNDS_UNTIL_GONE


def reopened_at(attempts: int, failed_at: int, now: int, *, gone: bool) -> int:
    """When (ms) to ask again about somebody who has just written, after so many `attempts`, the last at `failed_at`.

    Somebody of whom Meta said that there is nobody (`gone`) is asked about at once: a message is proof of the contrary.
    Who goes on writing while that goes on failing must not use up the budget.
    """
    return now if gone and attempts < REOPEN_AT_ONCE else max(now, failed_at + REOPEN_REST_S * 1000)
