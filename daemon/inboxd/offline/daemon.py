"""For the commands that only the running daemon can carry out."""

from pathlib import Path

from inboxd.http.client import AdminClient
from inboxd.offline.configuration import configuration


def daemon(config_path: Path | None) -> AdminClient:
    """The way to the running daemon. Raises ConfigError."""
    return configuration(config_path).client()
