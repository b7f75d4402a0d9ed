"""Decides what follows a failure. Other modules carry the decision out."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from inboxd.runtime.backoff import Backoff


class FailureAction(Enum):
    """What to do about a failed Graph call. Every failure has exactly one action."""

    RETRY_LATER = "retry_later"
    """A temporary error: try again with back-off."""
    WAIT_FOR_BUDGET = "wait_for_budget"
    """Meta throttles us: make no calls until the throttle ends."""
    WAIT_FOR_PERSON = "wait_for_person"
    """The person has not given consent. Only a message from them changes that."""
    NEEDS_LOGIN = "needs_login"
    """The account's token is invalid: a human must log in again."""
    LACKS_PERMISSION = "lacks_permission"
    """The app may not do this for the account: a human must grant a permission."""
    GONE = "gone"
    """There is no such person. Another call would be wasted."""
    UNKNOWN = "unknown"
    """A code that is in no table: treated as a temporary error, and logged."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Up to `attempts` tries with `backoff` between them, then a rest of `rest_s` before the next round.

    Each further failed round doubles the rest, up to `longest_rest_s`. Times in seconds.
    """

    attempts: int
    backoff: Backoff
    rest_s: float
    longest_rest_s: float


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """Seconds until the next try (None: no automatic try), and whether the attempts of the round are used up."""

    delay_s: float | None
    exhausted: bool


PROFILE_FETCH = RetryPolicy(attempts=3, backoff=Backoff(), rest_s=6 * 3600, longest_rest_s=7 * 86_400)
WITHOUT_CODE = RetryPolicy(attempts=3, backoff=Backoff(base_s=10, cap_s=60), rest_s=900, longest_rest_s=6 * 3600)
"""For answers about one person without an error code of Meta's. They are less certain, so the rest is shorter."""
DELIVERY_HANDLING = RetryPolicy(attempts=3, backoff=Backoff(), rest_s=0, longest_rest_s=0)

GONE_REST_S = 30 * 86_400
"""Seconds without a call about a person who does not exist."""
REOPEN_REST_S = 600
"""If a person without a profile writes, it is fetched again: at once the first few times, then after this (s)."""
REOPEN_AT_ONCE = 3
ROUNDS_UNTIL_GONE = 5
"""After so many failed rounds, each answered by Meta, the person may have blocked the account (User Profile API)."""


def decide(action: FailureAction, attempt: int, policy: RetryPolicy, random: Callable[[], float]) -> RetryDecision:
    """What follows the failed attempt number `attempt` (from 1, counted over all rounds).

    Actions about the account, not the person, are not decided here: the throttles of the account handle them.
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
    """Whether to stop for a long time after Meta has answered "try again" about a person in so many attempts."""
    return attempt >= policy.attempts * ROUNDS_UNTIL_GONE


def reopened_at(attempts: int, failed_at: int, now: int, *, gone: bool) -> int:
    """When (ms) to fetch again the profile of a person who has just written. The last of `attempts` was at `failed_at`.

    If Meta said that there is no such person (`gone`), it is fetched at once: the message proves that the person
    exists. If the person goes on writing and the fetch goes on failing, the next fetch waits, to save the budget.
    """
    return now if gone and attempts < REOPEN_AT_ONCE else max(now, failed_at + REOPEN_REST_S * 1000)
