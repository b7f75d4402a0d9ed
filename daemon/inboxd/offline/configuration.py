"""The configuration of a command that may open the database, and what several of them need."""

import os
import sys
from pathlib import Path
from typing import NamedTuple

from inboxd.command_setup import settings_of
from inboxd.config.admin_access import admin_access
from inboxd.config.schema import Settings
from inboxd.config.secrets import Secrets, load_secrets
from inboxd.events.log import EventLog
from inboxd.http.client import AdminClient
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock


class Configuration(NamedTuple):
    """What is configured, and where the database is."""

    settings: Settings
    secrets: Secrets
    database: Path

    def client(self) -> AdminClient:
        """The way to the running daemon."""
        return AdminClient(*admin_access(self.settings, self.secrets))


def configuration(config_path: Path | None) -> Configuration:
    """The configuration, as a command finds it. Raises ConfigError.

    Also sets up what a process needs that may open the database: umask, and errors on stderr.
    """
    os.umask(0o027)
    logs.set_up(level="error", log_format="console", stream=sys.stderr)
    settings = settings_of(config_path)
    return Configuration(settings, load_secrets(os.environ), settings.storage.resolved(os.environ))


def event_log_of(settings: Settings) -> EventLog:
    """The event log, as it is configured."""
    return EventLog(Clock(), ids_only=lambda: settings.events.ids_only)
