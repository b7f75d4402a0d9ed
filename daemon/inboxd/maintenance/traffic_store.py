"""What the database tells about traffic: when conversations were active, and which participants do not exist."""

from typing import Final, NamedTuple

from inboxd.storage.database import Read

_MAX_ROWS: Final = 100_000
_HOURS: Final = """
SELECT account_id, last_message_at / 3600000, max(last_message_at) FROM conversations
WHERE last_message_at > ? AND last_message_at <= ? GROUP BY 1, 2 ORDER BY 2 DESC LIMIT ?
"""
_UNAVAILABLE: Final = """
SELECT count(*), min(next_attempt_at) FROM participants
WHERE account_id = ? AND next_attempt_at > ? AND state = 'unavailable'
"""


class ActiveHour(NamedTuple):
    """An hour (since the epoch) in which a conversation of the account was last active, and when in it (ms)."""

    account_id: str
    hour: int
    last_at: int


async def active_hours(read: Read, since: int, until: int) -> list[ActiveHour]:
    """Hours between two moments (ms) in which conversations were last active."""
    return [ActiveHour(*row) for row in await read(_HOURS, (since, until, _MAX_ROWS))]


class Unavailable(NamedTuple):
    """How many participants are unavailable, and when the first of them is fetched again (ms)."""

    participants: int
    due_at: int | None


async def unavailable(read: Read, account_id: str, due_after: int) -> Unavailable:
    """Participants of an account who are unavailable and fetched again only after `due_after` (ms)."""
    (row,) = await read(_UNAVAILABLE, (account_id, due_after))
    return Unavailable(*row)
