"""Until when the messages of one account wait before they are sent, and why."""

from typing import Final, NamedTuple

from inboxd.accounts.managed_account import ManagedAccount
from inboxd.domain.outbound import OutboundKind, ReasonCode
from inboxd.meta.send_budget import SendBudget
from inboxd.meta.send_errors import send_row
from inboxd.runtime.clock import Clock
from inboxd.sending.delivery_store import Reason

SHORT_S: Final = 2.0
"""Messages that wait longer than this say so."""
NOT_CALLABLE_MS: Final = 6 * 3_600_000
"""How long messages wait for a person, unless the account changes before."""
RETRY_S: Final = 3.0
"""Until a call that could not be made is tried again. When it fails again and again, the circuit makes it longer."""


class Wait(NamedTuple):
    """Until when (ms) an account's messages wait, and why."""

    until: int
    reason: Reason


class Waiting:
    """Decides it from the standing of the account and from its limits. Times of day are in ms."""

    def __init__(self, managed: ManagedAccount, budget: SendBudget, clock: Clock) -> None:
        self._managed = managed
        self._budget = budget
        self._clock = clock

    def short_s(self) -> float:
        """Seconds for the pace, or for a call that tests whether a throttle is over. Longer waits are shown."""
        wait_s = self._budget.wait_s()
        return wait_s if wait_s <= SHORT_S else 0.5 if wait_s == float("inf") else 0.0

    def of(self, kind: OutboundKind) -> Wait | None:
        """What keeps messages of this kind from being sent for longer than a moment."""
        account = self._managed.account
        if not account.callable:
            why = (account.reason or account.state.value).rstrip(".")
            words = f"The account cannot be used: {why}."
            return Wait(self.for_person(), Reason(ReasonCode.ACCOUNT_NOT_CALLABLE, words))
        wait_s = self._budget.wait_s(private=kind is OutboundKind.PRIVATE_REPLY)
        if wait_s <= SHORT_S or wait_s == float("inf"):
            return None
        stop = self._budget.restriction()
        if stop is not None and stop.code is not None:
            code = send_row(stop.code, stop.subcode).reason_code
            return Wait(self.in_ms(wait_s), Reason(code, stop.reason, stop.code, stop.subcode))
        replies = f"{self._budget.limits.private_replies_per_hour} private replies are sent"
        words = f"Sends wait: {self._budget.report().reason or replies}."
        is_off = self._managed.graph.circuit.stopped_s() > SHORT_S
        return Wait(self.in_ms(wait_s), Reason(ReasonCode.NOT_CONNECTED if is_off else ReasonCode.THROTTLED, words))

    def for_limits(self) -> int:
        """Until when the limits of the account keep it from sending, as far as is known."""
        wait_s = self._budget.wait_s()
        return self.in_ms(max(1.0, wait_s if wait_s != float("inf") else 1.0))

    def for_person(self) -> int:
        """Until when what only a person can resolve is waited for, unless the account changes before."""
        return self._clock.now_ms() + NOT_CALLABLE_MS

    def for_token(self) -> int:
        """Until when a token is waited for. A new one may have come while the old one was being refused."""
        return self.in_ms(RETRY_S) if self._managed.account.callable else self.for_person()

    def in_ms(self, seconds: float) -> int:
        """The time in so many seconds."""
        return self._clock.now_ms() + int(seconds * 1000)
