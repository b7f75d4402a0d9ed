"""The personal data in profiles: participants, their avatars, and the profiles in memory. Nothing here expires."""

import asyncio
import base64
import sqlite3
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any, Final

from inboxd.domain.conversation import ConversationKey
from inboxd.profiles.avatar_store import AvatarStore
from inboxd.profiles.cache import ProfileCache
from inboxd.storage.account_rows import has_account, has_others
from inboxd.storage.database import Database
from inboxd.storage.export_rows import Columns, Fields, exported
from inboxd.storage.personal_data import Mentioned, PersonalData, Subject, SweptFiles

_OF_PARTICIPANT: Final = "DELETE FROM participants WHERE account_id = :account AND participant_id = :participant"
_OF_ACCOUNT: Final = """
DELETE FROM participants WHERE (account_id, participant_id) IN (
    SELECT account_id, participant_id FROM participants WHERE account_id = :account LIMIT :step
)
"""
_EXPORT: Final = "SELECT * FROM v1_participants WHERE client_account_id = ? AND participant_platform_id = ?"
_COLUMNS: Final = Columns(
    json=frozenset({"previous_usernames"}),
    times={"previous_usernames": "until"},
    booleans=frozenset({"is_verified_user", "is_user_follow_business", "is_business_follow_user"}),
)


def personal_data(database: Database, avatars: AvatarStore, cache: ProfileCache) -> tuple[PersonalData, ...]:
    """Participants, in the database, in memory and in the folder of avatars."""
    return (
        PersonalData(
            tables=frozenset({"participants"}),
            erase=_erase,
            export=partial(_export, database, avatars),
            keeps_others=lambda connection, accounts: has_others(connection, "participants", accounts),
            knows=lambda connection, account_id: has_account(connection, "participants", account_id),
            forget=partial(_forget, cache),
            sweep=partial(_sweep, avatars),
        ),
    )


def _erase(connection: sqlite3.Connection, subject: Subject, step: int) -> Counter[str]:
    sql = _OF_ACCOUNT if subject.participant_id is None else _OF_PARTICIPANT
    return +Counter(profiles=connection.execute(sql, {**subject.values, "step": step}).rowcount)


def _forget(cache: ProfileCache, subject: Subject) -> None:
    if subject.participant_id is None:
        cache.discard_account(subject.account_id)
    else:
        cache.discard(ConversationKey(subject.account_id, subject.participant_id))


async def _sweep(avatars: AvatarStore) -> SweptFiles:
    swept = await avatars.sweep()
    return SweptFiles("avatars", swept.removed, swept.failed)


async def _export(database: Database, avatars: AvatarStore, subject: Subject, _mentioned: Mentioned) -> dict[str, Any]:
    rows = await exported(database, _COLUMNS, _EXPORT, (subject.account_id, subject.participant_id))
    participant = next(iter(rows), None)
    return {"participant": participant, "avatarWebp": await asyncio.to_thread(_picture, avatars, participant)}


def _picture(avatars: AvatarStore, participant: Fields | None) -> str | None:
    """Our copy of the participant's picture, in base64."""
    address: str | None = None if participant is None else participant["avatar"]
    path = None if address is None else avatars.path(Path(address).name)
    if path is None:
        return None
    try:
        return base64.b64encode(path.read_bytes()).decode()
    except OSError:  # removed in this instant, or not readable: the rest is exported all the same
        return None
