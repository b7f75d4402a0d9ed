"""Decides what a missing profile waits for. Pages, API and log all use this."""

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple

from inboxd.domain.account import Account
from inboxd.domain.budget import BudgetReport, times_slower
from inboxd.domain.profile import ProfileState


class WaitingFor(StrEnum):
    """What a profile waits for."""

    ACCOUNT = "account"
    """Its account is not served."""
    LOGIN = "login"
    """The account needs a human: no calls are made for it."""
    BACKFILL = "backfill"
    """No attempt is planned: the profile is fetched by the next backfill, or when the person writes."""
    RETRY = "retry"
    """The last attempt failed; the next one is planned."""
    STOP = "stop"
    """Calls are stopped: Meta throttles or refuses them, or does not answer."""
    BUDGET = "budget"
    """The calls of this hour are used up."""
    SLOWNESS = "slowness"
    """Meta's usage headers slow calls down."""
    TURN = "turn"
    """Other profiles are fetched first."""
    ANSWER = "answer"
    """It is being fetched."""


class Waiting(NamedTuple):
    """What a profile waits for, also as text, and until when (ms) if known."""

    what: WaitingFor
    text: str
    until: int | None = None


def waiting(
    state: ProfileState,
    reason: str | None,
    next_attempt_at: int | None,
    *,
    account: Account | None,
    budget: BudgetReport | None,
    asking: bool,
    now: int,
    iso: Callable[[int], str],
) -> Waiting | None:
    """What a profile waits for; None when it waits for nothing, or for the participant.

    `account` and `budget` are None when the account is not served. `asking` says whether this fetch is under way,
    waiting for a call or for its answer. All times in ms; `iso` formats them.
    """
    if state not in {ProfileState.PENDING, ProfileState.FAILED}:
        return None
    if account is None or budget is None:
        return Waiting(WaitingFor.ACCOUNT, "its account is not served: add it with 'inboxd account add'")
    if not account.callable:
        return Waiting(WaitingFor.LOGIN, f"no calls are made for the account: {account.reason or account.state.value}")
    if next_attempt_at is None:
        return Waiting(WaitingFor.BACKFILL, "the next backfill asks for it, or a message of the person")
    if next_attempt_at > now and not asking:
        after = f" after: {reason}" if reason else ""
        return Waiting(WaitingFor.RETRY, f"tried again at {iso(next_attempt_at)}{after}", next_attempt_at)
    return _behind(budget, iso, asking=asking)


def _behind(budget: BudgetReport, iso: Callable[[int], str], *, asking: bool) -> Waiting:
    """What a due fetch waits for."""
    if budget.paused_until is not None:
        told = f"calls rest until {iso(budget.paused_until)}: {budget.reason}"
        return Waiting(WaitingFor.STOP, told, budget.paused_until)
    if budget.free_at is not None:
        told = f"the {budget.allowance} calls of this hour are used up; the next is free at {iso(budget.free_at)}"
        return Waiting(WaitingFor.BUDGET, told, budget.free_at)
    if budget.slowness > 1 and budget.slowed_until is not None:
        until = iso(budget.slowed_until)
        told = f"calls are {times_slower(budget.slowness)} until {until}: Meta says that its allowance runs out"
        return Waiting(WaitingFor.SLOWNESS, told, budget.slowed_until)
    if asking:
        return Waiting(WaitingFor.ANSWER, "the profile is being fetched")
    return Waiting(WaitingFor.TURN, "others are asked about first")
