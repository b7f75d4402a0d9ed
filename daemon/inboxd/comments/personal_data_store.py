"""The personal data in comments: how it is erased and exported, and when it expires."""

import sqlite3
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from inboxd.comments import store
from inboxd.storage.account_rows import has_account, has_others
from inboxd.storage.connection import Row
from inboxd.storage.database import Database
from inboxd.storage.export_rows import Columns, exported
from inboxd.storage.old_rows import remove_old
from inboxd.storage.personal_data import ExpiredRows, Expiry, Mentioned, PersonalData, Subject

_BY_AUTHOR: Final = """
SELECT id FROM comments WHERE account_id = :account AND author_id = :participant
UNION
SELECT c.id FROM participants AS p
CROSS JOIN comments AS c ON c.account_id = p.account_id AND c.author_id IS NULL AND c.author_username = p.username
WHERE p.account_id = :account AND p.participant_id = :participant
"""
_IDS: Final = f"""
SELECT comment_id FROM comments WHERE id IN ({_BY_AUTHOR}) AND length(comment_id) >= 10 ORDER BY id DESC LIMIT 1000
"""  # noqa: S608 - constants
"""The latest thousand: each is looked for in every row of raw bytes."""
_OF_PARTICIPANT: Final = f"SELECT id, root_id FROM comments WHERE id IN ({_BY_AUTHOR} LIMIT :step)"  # noqa: S608 - constants
_OF_ACCOUNT: Final = (
    "DELETE FROM comments WHERE id IN (SELECT id FROM comments WHERE account_id = :account LIMIT :step)"
)
_MEDIA_OF_ACCOUNT: Final = """
DELETE FROM comment_media WHERE id IN (SELECT id FROM comment_media WHERE account_id = :account LIMIT :step)
"""
_OWN_REPLIES: Final = "DELETE FROM comments WHERE root_id = ? AND is_own"
_PART_REPLIES: Final = """
UPDATE comments SET root_id = id, parent_id = NULL, last_at = commented_at, replies = 0, answered = is_own
WHERE root_id = ?1 AND id <> ?1
"""
_ANSWERS: Final = """
DELETE FROM outbound_messages
WHERE account_id = ?1 AND comment_id = (SELECT key FROM comments WHERE id = ?2) AND participant_id IS NULL
"""
"""Public replies, and private ones that were not sent: they name no participant, so only the comment tells of whom."""
_DELETE: Final = "DELETE FROM comments WHERE id = ?"
_EXPORT: Final = f"""
SELECT v.* FROM ({_BY_AUTHOR.replace(":account", "?1").replace(":participant", "?2")}) AS k
CROSS JOIN v1_comments AS v ON v.id = CAST(k.id AS TEXT) ORDER BY v.commented_at, k.id
"""  # noqa: S608 - constants
_COLUMNS: Final = Columns(booleans=frozenset({"is_own"}))
_BY_ID: Final = """
SELECT id, created_at, root_id FROM comments AS c
WHERE id > ? AND (told OR NOT EXISTS (SELECT 1 FROM comments AS r WHERE r.root_id = c.id AND r.id <> c.id))
ORDER BY id LIMIT ?
"""
_EXPIRE: Final = """
DELETE FROM comments WHERE id = ?1 AND created_at < ?2
AND NOT EXISTS (SELECT 1 FROM comments AS r WHERE r.root_id = ?1 AND r.id <> ?1)
"""
_BLANK: Final = """
UPDATE comments SET told = 0, text = NULL, author_id = NULL, author_username = NULL, ad_title = NULL, due_at = NULL
WHERE id = ?1 AND created_at < ?2
"""
_MEDIA_BY_ID: Final = "SELECT id, created_at FROM comment_media WHERE id > ? ORDER BY id LIMIT ?"
_EXPIRE_MEDIA: Final = """
DELETE FROM comment_media WHERE id = ? AND created_at < ? AND NOT EXISTS (
    SELECT 1 FROM comments AS c WHERE c.account_id = comment_media.account_id AND c.media_id = comment_media.media_id
)
"""


def personal_data(database: Database) -> tuple[PersonalData, ...]:
    """Comments and mentions, and the posts that they stand under."""
    return (
        PersonalData(
            tables=frozenset({"comments", "comment_media", "comment_search"}),
            erase=_erase,
            ids=_ids,
            export=partial(_export, database),
            keeps_others=lambda connection, accounts: has_others(connection, "comments", accounts),
            knows=lambda connection, account_id: has_account(connection, "comments", account_id),
            indexes=("comment_search",),
        ),
        PersonalData(
            tables=frozenset({"earlier_comments"}),
            reason="one row: how far earlier webhook events were read",
        ),
    )


def expiries(database: Database, *, days: Callable[[], int]) -> tuple[Expiry, ...]:
    """How long comments are kept (days): as long as messages. Posts go with the last comment under them."""
    return (
        Expiry(name="comments", days=days, remove=partial(_expire, database)),
        Expiry(name="comment_media", days=days, remove=partial(_expire_media, database)),
    )


def _erase(connection: sqlite3.Connection, subject: Subject, step: int) -> Counter[str]:
    """Of a person: what they wrote, and what the account answered to it. Replies of others become their own threads."""
    values = {**subject.values, "step": step}
    if subject.participant_id is None:
        rows = connection.execute(_OF_ACCOUNT, values).rowcount
        if rows < step:
            connection.execute(_MEDIA_OF_ACCOUNT, values)
        return +Counter(comments=rows)
    found = connection.execute(_OF_PARTICIPANT, values).fetchall()
    for comment_id, _ in found:
        connection.execute(_ANSWERS, (subject.account_id, comment_id))
        connection.execute(_OWN_REPLIES, (comment_id,))
        connection.execute(_PART_REPLIES, (comment_id,))
        connection.execute(_DELETE, (comment_id,))
    store.derive(connection, {root_id for _, root_id in found})
    return +Counter(comments=len(found))


def _ids(connection: sqlite3.Connection, subject: Subject) -> set[str]:
    """The ids of what a person wrote: answers name them, and not the person."""
    return {row[0] for row in connection.execute(_IDS, subject.values)}


async def _export(database: Database, subject: Subject, _mentioned: Mentioned) -> dict[str, Any]:
    """What the person commented."""
    return {"comments": await exported(database, _COLUMNS, _EXPORT, (subject.account_id, subject.participant_id))}


async def _expire(database: Database, before: int, after: int, step: int) -> ExpiredRows:
    """Where later replies stay, only the id of the first comment does."""
    rows = await database.read(_BY_ID, (after, step))

    def delete(connection: sqlite3.Connection, old: Sequence[Row]) -> None:
        for statement in (_EXPIRE, _BLANK):  # the second finds what has replies
            connection.executemany(statement, [(row[0], before) for row in old])
        store.derive(connection, {row[2] for row in old})

    return await remove_old(database, "comments", rows, before, delete)


async def _expire_media(database: Database, before: int, after: int, step: int) -> ExpiredRows:
    rows = await database.read(_MEDIA_BY_ID, (after, step))

    def delete(connection: sqlite3.Connection, old: Sequence[Row]) -> None:
        connection.executemany(_EXPIRE_MEDIA, [(row[0], before) for row in old])

    found = await remove_old(database, "comment_media", rows, before, delete)
    return found._replace(rows=0)
