"""For the commands that erase and export."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from inboxd.accounts import personal_data_store as accounts_data
from inboxd.comments import personal_data_store as comments_data
from inboxd.config.schema import Settings
from inboxd.conversations import personal_data_store as conversations_data
from inboxd.events import personal_data_store as events_data
from inboxd.forwarding import personal_data_store as forwarding_data
from inboxd.forwarding.nats import personal_data_store as nats_data
from inboxd.http.command_access import CommandAccess
from inboxd.offline.configuration import configuration, event_log_of
from inboxd.privacy import personal_data_store as privacy_data
from inboxd.privacy.commands import OfflineData
from inboxd.profiles import personal_data_store as profiles_data
from inboxd.profiles.avatar_store import AVATAR_FOLDER, AvatarStore
from inboxd.profiles.cache import ProfileCache
from inboxd.receiving import personal_data_store as receiving_data
from inboxd.reconciliation import personal_data_store as reconciliation_data
from inboxd.runs import personal_data_store as runs_data
from inboxd.runtime.clock import Clock
from inboxd.sending import personal_data_store as sending_data
from inboxd.sending.uploads import personal_data_store as uploads_data
from inboxd.sending.uploads.store import UPLOAD_FOLDER, UploadStore
from inboxd.storage.database import Database
from inboxd.storage.personal_data import PersonalData


def privacy(config_path: Path | None) -> CommandAccess[OfflineData]:
    """For the commands that erase and export. Raises ConfigError."""
    found = configuration(config_path)
    return CommandAccess(found.client, partial(_privacy, found.settings, found.database))


@asynccontextmanager
async def _privacy(settings: Settings, path: Path) -> AsyncIterator[OfflineData]:
    """The database, and what the features declare about it. Raises InboxdError."""
    async with Database(path) as database:
        avatars = AvatarStore(database, path.parent / AVATAR_FOLDER)
        declared = personal_data(database, avatars, ProfileCache(Clock(), ttl_s=1, size=1))
        yield OfflineData(database, declared, event_log_of(settings))


def personal_data(database: Database, avatars: AvatarStore, cache: ProfileCache) -> tuple[PersonalData, ...]:
    """What the features declare, the lowest first. A test compares it with what a running daemon's features declare."""
    return (
        *receiving_data.personal_data(database),
        *events_data.personal_data(database),
        *accounts_data.personal_data(),
        *profiles_data.personal_data(database, avatars, cache),
        *conversations_data.personal_data(database),
        *sending_data.personal_data(database),
        *uploads_data.personal_data(database, UploadStore(database, database.path.parent / UPLOAD_FOLDER)),
        *comments_data.personal_data(database),
        *runs_data.personal_data(),
        *reconciliation_data.personal_data(database),
        *forwarding_data.personal_data(),
        *nats_data.personal_data(),
        *privacy_data.personal_data(),
    )
