"""From the configuration to the plain values that commands take which only read or copy files."""

import os
from pathlib import Path

from inboxd.config.loading import find_config, load_settings
from inboxd.config.schema import Settings


def settings_of(config_path: Path | None) -> Settings:
    """The settings, as a command finds them. Raises ConfigError."""
    return load_settings(find_config(config_path, os.environ), os.environ)


def conversations(config_path: Path | None) -> tuple[Path, frozenset[str]]:
    """The database, and the ids of the accounts that the configuration lists. Raises ConfigError."""
    settings = settings_of(config_path)
    return settings.storage.resolved(os.environ), frozenset(account.id for account in settings.accounts)


def backup(config_path: Path | None) -> tuple[Path, Path, int]:
    """The database, the folder of backups, and how many of them stay. New files are the user's alone.

    Raises ConfigError.
    """
    os.umask(0o077)
    settings = settings_of(config_path)
    database = settings.storage.resolved(os.environ)
    return database, settings.storage.backups(database), settings.storage.keep_backups
