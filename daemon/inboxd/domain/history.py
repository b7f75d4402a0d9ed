"""A history import: it stores the messages that are in the account's mailbox at Meta, conversation by conversation."""

from inboxd.domain.run import Run


class HistoryRun(Run, frozen=True, kw_only=True):
    """A run. Times are milliseconds since the epoch, UTC."""

    since: int = 0
    """Messages from before this (ms) are left out."""
    emit_events: bool = False
    """Whether what it adds is told in the event log."""
