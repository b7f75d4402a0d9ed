"""The personal data in conversations and messages: how it is erased and exported, and when it expires."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

import msgspec

from inboxd.conversations import early_changes_store as early_changes
from inboxd.conversations import message_store
from inboxd.conversations.resources import referral_in
from inboxd.runtime.clock import Clock
from inboxd.storage.account_rows import has_account, has_others
from inboxd.storage.connection import Row
from inboxd.storage.database import Database, Read
from inboxd.storage.export_rows import Columns, Fields, exported
from inboxd.storage.old_rows import remove_old
from inboxd.storage.personal_data import ExpiredRows, Expiry, Mentioned, PersonalData, Subject

_AT_ONCE: Final = 20
"""Conversations whose messages are looked for at once."""
_OF_PARTICIPANT: Final = """
SELECT json_group_array(id) FROM conversations WHERE account_id = :account AND participant_id = :participant
"""
_OF_ACCOUNT: Final = f"""
SELECT json_group_array(id) FROM (SELECT id FROM conversations WHERE account_id = :account LIMIT {_AT_ONCE})
"""  # noqa: S608 - a number
_ERASE_MESSAGES: Final = """
DELETE FROM messages WHERE id IN (
    SELECT m.id FROM json_each(:ids) AS k CROSS JOIN messages AS m WHERE m.conversation_id = k.value LIMIT :step
)
"""
_ERASE_EARLY_CHANGES: Final = """
DELETE FROM early_changes WHERE account_id = :account AND EXISTS (
    SELECT 1 FROM json_each(:ids) AS k CROSS JOIN messages AS m
    WHERE m.mid_key = early_changes.mid_key AND m.conversation_id = k.value
)
"""
_ERASE_CONVERSATIONS: Final = "DELETE FROM conversations WHERE id IN (SELECT value FROM json_each(:ids))"
_ERASE_EARLY_CHANGES_OF_ACCOUNT: Final = "DELETE FROM early_changes WHERE account_id = :account"
_MID_KEYS: Final = """
SELECT m.mid_key FROM conversations AS c CROSS JOIN messages AS m ON m.conversation_id = c.id
WHERE c.account_id = :account AND c.participant_id = :participant
"""
_EXPORT: Final = "SELECT * FROM v1_conversations WHERE client_account_id = ? AND participant_platform_id = ?"
_EXPORT_MESSAGES: Final = """
SELECT m.* FROM v1_messages AS m
WHERE m.conversation_id IN (
    SELECT CAST(id AS TEXT) FROM conversations WHERE account_id = ? AND participant_id = ?
) ORDER BY m.sent_at, m.id LIMIT ? OFFSET ?
"""
_COLUMNS: Final = Columns(
    json=frozenset({"metadata", "attachments", "reactions"}),
    times={"reactions": "at"},
    booleans=frozenset({"is_read"}),
)
_PAGE: Final = 200
"""Messages that an export takes from the database in one read."""
_BY_ID: Final = "SELECT id, created_at, conversation_id FROM messages WHERE id > ? ORDER BY id LIMIT ?"
_EXPIRE_MESSAGE: Final = "DELETE FROM messages WHERE id = ? AND created_at < ?"
_NEWEST: Final = "SELECT max(last_message_at) FROM conversations"


def personal_data(database: Database, *, forget: Callable[[Subject], None] | None = None) -> tuple[PersonalData, ...]:
    """Conversations with their messages, changes that wait for a message, and the search indexes."""
    return (
        PersonalData(
            tables=frozenset({"conversations", "messages", "early_changes", "message_search", "people_search"}),
            erase=_erase,
            mid_keys=_mid_keys,
            export=partial(_export, database),
            forget=forget,
            keeps_others=lambda connection, accounts: has_others(connection, "conversations", accounts),
            knows=lambda connection, account_id: has_account(connection, "conversations", account_id),
            indexes=("message_search", "people_search"),
        ),
        PersonalData(
            tables=frozenset({"search_changed", "search_progress"}),
            reason="row ids of messages and how far they are indexed, which tell nothing once the messages are erased",
        ),
    )


def expiries(
    database: Database, clock: Clock, *, early_changes: Callable[[], int], messages: Callable[[], int]
) -> tuple[Expiry, ...]:
    """How long changes that wait for their message, and messages, are kept (days)."""
    return (
        Expiry(name="early_changes", days=early_changes, remove=partial(_expire_early_changes, database)),
        Expiry(name="messages", days=messages, remove=partial(_expire_messages, database, clock)),
    )


async def newest_message_at(read: Read) -> int | None:
    """The time of the newest message (ms), by Meta's clock and not by ours. Raises StorageError."""
    ((at,),) = await read(_NEWEST, ())
    return None if at is None else int(at)


def _erase(connection: sqlite3.Connection, subject: Subject, step: int) -> Counter[str]:
    """Messages go before their conversations, which cost nothing then."""
    values = {**subject.values, "step": step}
    of_account = subject.participant_id is None
    ((ids,),) = connection.execute(_OF_ACCOUNT if of_account else _OF_PARTICIPANT, values).fetchall()
    if ids != "[]":
        connection.execute(_ERASE_EARLY_CHANGES, {**values, "ids": ids})
        counts = Counter(messages=connection.execute(_ERASE_MESSAGES, {**values, "ids": ids}).rowcount)
        if counts["messages"] < step:
            counts["conversations"] = connection.execute(_ERASE_CONVERSATIONS, {"ids": ids}).rowcount
        return +counts
    if of_account:
        return +Counter(early_changes=connection.execute(_ERASE_EARLY_CHANGES_OF_ACCOUNT, values).rowcount)
    return Counter()


def _mid_keys(connection: sqlite3.Connection, subject: Subject) -> set[int]:
    return {row[0] for row in connection.execute(_MID_KEYS, subject.values)}


async def _export(database: Database, subject: Subject, _mentioned: Mentioned) -> dict[str, Any]:
    """The conversation, and its messages, the oldest first."""
    whom = (subject.account_id, subject.participant_id)
    conversation = next(iter(await exported(database, _COLUMNS, _EXPORT, whom)), None)
    messages: list[Fields] = []
    while page := await exported(database, _COLUMNS, _EXPORT_MESSAGES, (*whom, _PAGE, len(messages))):
        messages += page
    for one in messages:
        one["referral"] = msgspec.to_builtins(referral_in(one["metadata"]))
    return {"conversation": conversation, "messages": messages}


async def _expire_messages(database: Database, clock: Clock, before: int, after: int, step: int) -> ExpiredRows:
    """Conversations stay, with the time of their last message. Unread counts follow."""
    rows, now = await database.read(_BY_ID, (after, step)), clock.now_ms()

    def delete(connection: sqlite3.Connection, old: Sequence[Row]) -> None:
        connection.executemany(_EXPIRE_MESSAGE, [(row[0], before) for row in old])
        message_store.derive(connection, {row[2] for row in old}, now)

    return await remove_old(database, "messages", rows, before, delete)


async def _expire_early_changes(database: Database, before: int, _after: int, step: int) -> ExpiredRows:
    rows = await database.write(lambda connection: early_changes.forget(connection, before, step))
    return ExpiredRows(rows, None)
