"""Numbers about an account, for whoever wants an overview."""

from typing import Final

from inboxd.accounts.resources import AccountStatistics
from inboxd.storage.database import Read

_CONVERSATIONS: Final = """
SELECT count(*), coalesce(sum(unread_count > 0), 0), coalesce(sum(unread_count), 0),
       coalesce(sum(status = 'open'), 0), max(last_message_at)
FROM conversations WHERE +account_id = ?
"""
_PROFILES: Final = "SELECT state, count(*) FROM participants WHERE account_id = ? GROUP BY state"


async def of_account(read: Read, account_id: str) -> AccountStatistics:
    """The numbers of one account."""
    ((total, unread, messages, is_open, last),) = await read(_CONVERSATIONS, (account_id,))
    profiles = await read(_PROFILES, (account_id,))
    return AccountStatistics(total, unread, messages, is_open, last, {row[0]: row[1] for row in profiles})
