"""What a missing profile waits for at this moment."""

from inboxd.accounts.manager import AccountManager
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.profile import ProfileState
from inboxd.domain.waiting import Waiting, waiting
from inboxd.runtime.clock import Clock, iso_utc


class ProfileOutlook:
    """Tells what a profile waits for, from its row and from the state and the budget of its account."""

    def __init__(self, accounts: AccountManager, clock: Clock) -> None:
        self._accounts = accounts
        self._clock = clock

    def of(
        self, key: ConversationKey, state: ProfileState | None, reason: str | None, next_attempt_at: int | None
    ) -> Waiting | None:
        """What the profile of `key` waits for, given its stored state; None when it waits for nothing."""
        if state is None:
            return None
        managed = self._accounts.served.get(key.account_id)
        return waiting(
            state,
            reason,
            next_attempt_at,
            account=None if managed is None else managed.account,
            budget=None if managed is None else managed.graph.budget.report(managed.graph.profiles_throttle),
            asking=managed is not None and key.participant_id in managed.asking,
            now=self._clock.now_ms(),
            iso=iso_utc,
        )
