"""Keeps the comments and mentions that webhooks tell of, in the transaction that stores the webhook events."""

import sqlite3
from collections.abc import Callable, Sequence

from inboxd.comments import store
from inboxd.comments.event_recording import record_received
from inboxd.comments.webhook_reading import KINDS, told_comment
from inboxd.conversations.event_preparation import PreparedEvent
from inboxd.events.log import EventLog
from inboxd.runtime.clock import Clock


class CommentProjection:
    """Joins webhook events to the comments that are known: twice the same comment changes nothing.

    `listeners`, by account, are called on the event loop when comments of the account arrived.
    """

    def __init__(self, event_log: EventLog, clock: Clock) -> None:
        self._event_log = event_log
        self._clock = clock
        self.listeners: dict[str, Callable[[], None]] = {}

    def project(self, connection: sqlite3.Connection, events: Sequence[PreparedEvent]) -> Callable[[], None] | None:
        """Keep what `events` tell of comments. It runs in ingest's transaction."""
        found = [one for one in events if one.kind in KINDS]
        if not found:
            return None
        now = self._clock.now_ms()
        for one in found:
            payload = b"" if one.kept is None else one.kept.payload
            applied = store.apply(connection, one.account_id, [told_comment(one.kind, payload, one.at)], now)
            record_received(connection, self._event_log, [comment for comment, is_new in applied if is_new])
        accounts = {one.account_id for one in found}

        def after_commit() -> None:
            for account_id in accounts & self.listeners.keys():
                self.listeners[account_id]()

        return after_commit
