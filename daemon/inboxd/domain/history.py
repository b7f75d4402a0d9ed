"""A history import: it stores the messages that are in the account's mailbox at Meta, conversation by conversation."""

from datetime import UTC, datetime

from inboxd.domain.run import Run


class HistoryRun(Run, frozen=True, kw_only=True):
    """A run. Times are milliseconds since the epoch, UTC."""

    since: int = 0
    """Messages from before this (ms) are left out."""
    emit_events: bool = False
    """Whether what it adds is told in the event log."""


def since_ms(text: str, now: int) -> int:
    """A time in the past as ISO 8601, in UTC where it says no zone, in ms. `now` in ms.

    Raises ValueError, with a text for people, when it is none.
    """
    try:
        moment = datetime.fromisoformat(text)
        found = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)
    except (ValueError, OverflowError):
        msg = "it must be a date or a time in ISO 8601, such as 2026-01-31 or 2026-01-31T08:00:00Z"
        raise ValueError(msg) from None
    if found > now:
        msg = "it must be in the past"
        raise ValueError(msg)
    return max(found, 0)
