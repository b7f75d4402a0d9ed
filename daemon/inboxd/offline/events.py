"""For the command that shows events."""

from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from inboxd.accounts.event_recording import EVENT_TYPES as ACCOUNT_EVENTS
from inboxd.accounts.store import stored
from inboxd.comments.event_types import EVENT_TYPES as COMMENT_EVENTS
from inboxd.config.schema import Settings
from inboxd.conversations.delivery_retries import DELIVERY_FAILED
from inboxd.conversations.event_types import event_types as conversation_events
from inboxd.conversations.webhook_event_types import WEBHOOK_EVENT_TYPES
from inboxd.domain.event import EventType
from inboxd.events.log import EventReader
from inboxd.http.command_access import CommandAccess
from inboxd.offline.configuration import configuration
from inboxd.privacy.participant_eraser import ERASED
from inboxd.profiles.event_recording import EVENT_TYPES as PROFILE_EVENTS
from inboxd.reconciliation.event_types import EVENT_TYPES as RECONCILIATION_EVENTS
from inboxd.runs.event_types import EVENT_TYPES as RUN_EVENTS
from inboxd.sending.event_types import event_types as sending_events
from inboxd.storage.database import Database


def events(config_path: Path | None) -> CommandAccess[EventReader]:
    """For the command that shows events. Raises ConfigError."""
    found = configuration(config_path)
    return CommandAccess(found.client, partial(_events, found.settings, found.database))


def event_types(accounts: Collection[str]) -> tuple[EventType, ...]:
    """The types of all features' events. A test compares them with those of a running daemon's features."""
    conversations = (*conversation_events(accounts), *WEBHOOK_EVENT_TYPES, DELIVERY_FAILED)
    messaging = (*conversations, *sending_events(accounts), *COMMENT_EVENTS)
    return (*ACCOUNT_EVENTS, *PROFILE_EVENTS, *messaging, *RUN_EVENTS, *RECONCILIATION_EVENTS, ERASED)


@asynccontextmanager
async def _events(settings: Settings, path: Path) -> AsyncIterator[EventReader]:
    """The event log, which nobody appends to. Raises InboxdError."""
    async with Database(path) as database:
        accounts = {account.id for account in settings.accounts}
        for one in await stored(database.read):
            accounts.update(one.account.aliases)
        yield EventReader(database, event_types(accounts))
