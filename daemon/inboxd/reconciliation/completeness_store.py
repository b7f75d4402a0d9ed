"""How complete accounts are, from what checks recorded."""

from typing import Final

from inboxd.domain.completeness import WINDOWS_H, Completeness, Window, sentence
from inboxd.domain.reconciliation import HOUR_MS
from inboxd.runtime.clock import Clock
from inboxd.storage.database import Read

_ACCOUNT: Final = """
SELECT a.since, a.checked_at, a.next_check_at, a.error, (
    SELECT min(x.sent_at) FROM missed_messages AS x
    WHERE x.account_id = a.account_id AND x.sent_at > coalesce(a.last_delivered_at, 0) AND x.delivered_at IS NULL
)
FROM reconciled_accounts AS a WHERE a.account_id = ?
"""
_WAITING: Final = """
SELECT count(*), coalesce(sum(attempts > 0), 0) FROM listed_conversations INDEXED BY listed_conversations_due
WHERE account_id = ? AND updated_time > read_to AND api_id IS NOT NULL
"""
_HOURS: Final = """
SELECT coalesce(sum(seen), 0), coalesce(sum(delivered), 0), coalesce(sum(healed), 0)
FROM completeness_hours WHERE account_id = ? AND hour >= ?
"""
_MISSED: Final = """
SELECT coalesce(sum(healed_at IS NULL), 0), max(healed_at - sent_at), min(sent_at), count(healed_at)
FROM missed_messages WHERE account_id = ? AND sent_at >= ? AND delivered_at IS NULL
"""
_MEDIAN: Final = """
SELECT healed_at - sent_at AS delay FROM missed_messages
WHERE account_id = ? AND sent_at >= ? AND delivered_at IS NULL AND healed_at IS NOT NULL
ORDER BY delay LIMIT 1 OFFSET ?
"""


async def of_account(read: Read, account_id: str, now: int) -> Completeness:
    """The completeness of one account at `now` (ms). Raises StorageError."""
    rows = await read(_ACCOUNT, (account_id,))
    since, checked_at, next_at, error, undelivered = rows[0] if rows else (None, None, None, None, None)
    ((waiting, failed),) = await read(_WAITING, (account_id,))
    return Completeness(
        since=since,
        checked_at=checked_at,
        next_check_at=next_at or None,
        error=error,
        waiting=waiting,
        failed=failed,
        undelivered_since=undelivered,
        windows=[await _window(read, account_id, now, hours) for hours in WINDOWS_H],
    )


async def undelivered_since(read: Read, account_id: str) -> int | None:
    """When the first message was sent (ms) that no webhook brought, after the last webhook. Raises StorageError."""
    rows = await read(_ACCOUNT, (account_id,))
    at: int | None = rows[0][4] if rows else None
    return at


async def remark(read: Read, clock: Clock, account_id: str) -> str:
    """The completeness of one account in one sentence. Raises StorageError."""
    now = clock.now_ms()
    return sentence(await of_account(read, account_id, now), now)


async def _window(read: Read, account_id: str, now: int, hours: int) -> Window:
    first_hour = now // HOUR_MS - hours
    ((seen, delivered, healed),) = await read(_HOURS, (account_id, first_hour))
    since = first_hour * HOUR_MS
    ((missing, longest, missed_since, known),) = await read(_MISSED, (account_id, since))
    median = await read(_MEDIAN, (account_id, since, known // 2)) if known else []
    return Window(
        hours=hours,
        existing=seen,
        delivered=delivered,
        healed=max(0, healed),
        missing=missing,
        median_delay_ms=median[0][0] if median else None,
        longest_delay_ms=longest,
        missed_since=missed_since,
    )
