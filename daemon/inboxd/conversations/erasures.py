"""Who was erased, and what comes of them afterwards: a webhook may be hours late, and echoes are never at once."""

import sqlite3
from collections.abc import Sequence
from typing import Final

from inboxd.conversations.event_preparation import PreparedEvent
from inboxd.domain.message import Direction, Sent
from inboxd.events import store as event_store
from inboxd.runtime.clock import Clock
from inboxd.storage.personal_data import Subject

SKEW_MS: Final = 60_000
"""Clocks may differ by so much: what a participant wrote is older than their erasure only if it is by more."""
MOST_ACCOUNTS: Final = 1000


class Erasures:
    """Finds webhook events that are older than the erasure of their participant, or of their account.

    The event log tells of participants. Nothing on disk names an erased account, so those are known until the process
    ends.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._accounts: dict[str, int] = {}  # when each was erased (ms), by the ids that webhooks name it by

    def forget(self, subject: Subject) -> None:
        """An erasure of `subject` is being completed."""
        if subject.participant_id is None:
            now = self._clock.now_ms()
            self._accounts |= dict.fromkeys(subject.ids | {subject.account_id}, now)
            while len(self._accounts) > MOST_ACCOUNTS:
                del self._accounts[next(iter(self._accounts))]

    def late(self, connection: sqlite3.Connection, events: Sequence[PreparedEvent]) -> list[PreparedEvent]:
        """Those of `events` that are older than such an erasure."""
        keys = {one.translated.key for one in events if one.translated.key is not None}
        people = event_store.erased(connection, keys) if keys else {}
        if not people and not self._accounts:
            return []

        latest = self._clock.now_ms() + SKEW_MS

        def is_late(event: PreparedEvent) -> bool:
            key = event.translated.key
            times = (self._accounts.get(event.account_id), None if key is None else people.get(key))
            # What is to come was told by a clock that was ahead: it must not hide what is written until then.
            return event.at + _doubt_ms(event) <= max((one for one in times if one and one <= latest), default=0)

        return [one for one in events if is_late(one)]


def _doubt_ms(event: PreparedEvent) -> int:
    """By how much an event must be older than an erasure. What the account wrote itself is no loss."""
    change = event.translated.change
    return 0 if type(change) is Sent and change.direction is Direction.OUTBOUND else SKEW_MS
