"""Checks of the system's SQLite and of the secrets."""

import sqlite3
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from inboxd.config.secrets import ENV_PREFIX, SECRET_NAMES, Secrets, how_to_give
from inboxd.maintenance.doctor.diagnosis import Diagnosis, Severity

OLDEST_SQLITE: Final = (3, 40, 0)
_OTHERS: Final = stat.S_IRWXO | stat.S_IRWXG


def check_sqlite() -> Diagnosis:
    """Whether the system's SQLite is recent enough."""
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info >= OLDEST_SQLITE:
        return Diagnosis("sqlite", Severity.OK, version)
    return Diagnosis("sqlite", Severity.WRONG, f"{version} is too old", "Use a system with SQLite 3.40 or later.")


def check_secrets(secrets: Secrets) -> Diagnosis:
    """Whether the secrets that the daemon needs can be seen from here."""
    missing = [*secrets.missing(), *(["admin_token"] if secrets.admin_token is None else [])]
    if not missing:
        return Diagnosis("secrets", Severity.OK, "all are there")
    remedy = "Unless systemd gives them to the daemon: " + "; ".join(how_to_give(name) for name in missing)
    return Diagnosis("secrets", Severity.WARNING, f"not seen from here: {', '.join(missing)}", remedy)


def check_secret_files(environment: Mapping[str, str], config: Path | None) -> Iterator[Diagnosis]:
    """Secrets that others can read: files that variables name, and files beside the configuration file."""
    named = [
        Path(value)
        for variable, value in environment.items()
        if variable.startswith(ENV_PREFIX) and variable.endswith("_FILE")
    ]
    beside = [config.absolute().parent / name for name in SECRET_NAMES] if config else []
    for path in dict.fromkeys([*named, *beside]):
        if path.is_file() and path.stat().st_mode & _OTHERS:
            yield Diagnosis("permissions", Severity.WRONG, f"{path} can be read by others", f"chmod 600 {path}")
