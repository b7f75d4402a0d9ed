"""What webhooks tell of what was sent: echoes and reads, in the transaction that processes them."""

import sqlite3
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final, NamedTuple

from inboxd.conversations.event_preparation import PreparedEvent
from inboxd.domain.conversation import ConversationKey
from inboxd.domain.message import Direction, Seen, Sent
from inboxd.domain.outbound import PartState
from inboxd.domain.partyless_change import PartylessSeen
from inboxd.runtime.clock import Clock
from inboxd.sending import delivery_store, echo_store
from inboxd.sending.authorship import may_be_ours
from inboxd.sending.settlement import Settlement, WrittenElsewhere

_MANY: Final = 500
"""Echoes that are looked at in one step."""


class _Echo(NamedTuple):
    """A message of the account that a webhook brought. `at` in ms, by Meta's clock."""

    key: ConversationKey
    mid: str
    at: int


class Echoes:
    """Marks what was delivered and read, and notices what a human of the account wrote elsewhere.

    `on_echo` is told an account and its unknown outbound messages that an echo may explain. It must not raise.
    """

    def __init__(self, settlement: Settlement, clock: Clock, on_echo: Callable[[str, Collection[int]], None]) -> None:
        self._settlement = settlement
        self._clock = clock
        self._on_echo = on_echo

    def project(self, connection: sqlite3.Connection, events: Sequence[PreparedEvent]) -> Callable[[], None] | None:
        """A projection (`conversations/projection.py`)."""
        echoes, readers = [*_echoes(events)], {*_readers(connection, events)}
        if not echoes and not readers:
            return None
        now = self._clock.now_ms()
        by_account: dict[str, list[_Echo]] = {}
        for echo in echoes:
            by_account.setdefault(echo.key.account_id, []).append(echo)
        open_messages: dict[str, set[int]] = {}
        for account_id, several in by_account.items():
            for start in range(0, len(several), _MANY):
                found = self._of_account(connection, account_id, several[start : start + _MANY], now)
                if found:
                    open_messages.setdefault(account_id, set()).update(found)
        for key in readers:
            for outbound_id in echo_store.unread(connection, key):
                self._settlement.concluding.advance(connection, outbound_id, now)

        def tell() -> None:
            for account_id, outbound_ids in open_messages.items():
                self._on_echo(account_id, outbound_ids)

        return tell if open_messages else None

    def _of_account(
        self, connection: sqlite3.Connection, account_id: str, echoes: Sequence[_Echo], now: int
    ) -> set[int]:
        """Returns the outbound messages that are unknown, and that an echo may explain."""
        parts = {part.mid: part for part in echo_store.parts_of(connection, account_id, [one.mid for one in echoes])}
        for part in parts.values():
            if echo_store.delivered(connection, part.part_id, now):
                self._settlement.concluding.advance(connection, part.outbound_id, now)
        others = {one.key: one for one in sorted(echoes, key=lambda one: one.at) if one.mid not in parts}
        unknown = set[int]()
        written: list[WrittenElsewhere] = []
        is_open = echo_store.has_undecided(connection, account_id)
        for key, echo in others.items():  # the latest of each conversation
            open_parts = echo_store.undecided(connection, key) if is_open else ()
            for one in open_parts:
                if one.state == PartState.UNKNOWN.value:
                    delivery_store.look_at(connection, one.outbound_id, now)
                    unknown.add(one.outbound_id)
            message_id, _ = echo_store.echo_of(connection, key, echo.mid)
            if may_be_ours(connection, key, echo.mid, message_id, open_parts):
                continue  # it is decided when that is settled
            written.append(WrittenElsewhere(key, echo.mid, message_id, echo.at))
        self._settlement.human_replied(connection, written, now)
        return unknown


def _echoes(events: Sequence[PreparedEvent]) -> Iterator[_Echo]:
    for event in events:
        change = event.translated.change
        if type(change) is Sent and change.direction is Direction.OUTBOUND:
            key = change.key
            if key.account_id != key.participant_id:  # notes to self are nobody's answer
                yield _Echo(key, change.mid, change.at)


def _readers(connection: sqlite3.Connection, events: Sequence[PreparedEvent]) -> Iterator[ConversationKey]:
    """Participants who have read something of the account."""
    for event in events:
        change, partyless = event.translated.change, event.translated.partyless
        if type(change) is Seen and not change.by_account:
            yield change.key
        elif type(partyless) is PartylessSeen:
            key = echo_store.reader_of(connection, partyless.account_id, partyless.mid)
            if key is not None:
                yield key
