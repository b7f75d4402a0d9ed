"""What webhooks hint at: that something arrives at all, and messages that must exist and may not have arrived."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple

from inboxd.conversations.event_preparation import PreparedEvent
from inboxd.domain.message import Sent
from inboxd.runtime.clock import Clock

MOST: Final = 10_000
"""Messages that are remembered. Beyond it the oldest is dropped: the schedule finds what it hinted at."""
WAIT_MS: Final = 60_000
"""How long a message may come after what hints at it, and how long the API needs to show it."""


class Hint(NamedTuple):
    """A message that must exist."""

    account_id: str
    mid: str
    noticed_at: int
    """When it was hinted at (ms)."""
    companion: bool
    """By the edit that accompanies it; otherwise by a reply to it."""


class DeliverySignals:
    """Hints from webhooks, in memory. After a restart everything is checked anyway.

    `listeners`, by account, are called on the event loop when something of the account arrived.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._hints: dict[tuple[str, str], Hint] = {}
        self._accompanied: dict[tuple[str, str], None] = {}
        self.listeners: dict[str, Callable[[], None]] = {}

    def project(self, _connection: sqlite3.Connection, events: Sequence[PreparedEvent]) -> Callable[[], None]:
        """Take the hints from webhook events, once they are stored. It runs in ingest's transaction."""
        now = self._clock.now_ms()
        found = list(_hints(events, now))
        accounts = {one.account_id for one in events}

        def after_commit() -> None:
            for one in (one for one in found if one.account_id in self.listeners):
                self._hints.setdefault((one.account_id, one.mid), one)
            while len(self._hints) > MOST:
                self._hints.pop(next(iter(self._hints)))
            for account_id in accounts & self.listeners.keys():
                self.listeners[account_id]()

        return after_commit

    def ripe(self, account_id: str, now: int) -> list[Hint]:
        """Hints of an account that are old enough to be looked into. They are forgotten here."""
        found = [
            one for one in self._hints.values() if one.account_id == account_id and now - one.noticed_at >= WAIT_MS
        ]
        for one in found:
            del self._hints[one.account_id, one.mid]
        return found

    def next_ripe_at(self, account_id: str) -> int | None:
        """When the earliest hint of an account is old enough (ms)."""
        return min((one.noticed_at for one in self._hints.values() if one.account_id == account_id), default=None)

    def accompany(self, account_id: str, mid: str) -> None:
        """Remember that of this message only the companion arrived."""
        self._accompanied[account_id, mid] = None
        while len(self._accompanied) > MOST:
            self._accompanied.pop(next(iter(self._accompanied)))

    def accompanied(self, account_id: str, mid: str) -> bool:
        """Whether the companion of a message arrived, without the message."""
        return (account_id, mid) in self._accompanied or (
            (hint := self._hints.get((account_id, mid))) is not None and hint.companion
        )


def _hints(events: Sequence[PreparedEvent], now: int) -> Iterator[Hint]:
    for one in events:
        translated = one.translated
        if translated.companion_of is not None:
            yield Hint(one.account_id, translated.companion_of, now, companion=True)
        mid = _answered(translated.change) if isinstance(translated.change, Sent) else None
        if mid is not None:
            yield Hint(one.account_id, mid, now, companion=False)


def _answered(change: Sent) -> str | None:
    """The mid of the message that a message replies to."""
    reply = (change.content.details or {}).get("reply_to")
    mid = reply.get("mid") if isinstance(reply, dict) else None
    return mid if isinstance(mid, str) else None
