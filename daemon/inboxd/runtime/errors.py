"""The root of the error taxonomy, with the exit codes of sysexits(3)."""

from typing import ClassVar, Final

EX_OK: Final = 0
EX_USAGE: Final = 64
EX_DATAERR: Final = 65
EX_UNAVAILABLE: Final = 69
EX_SOFTWARE: Final = 70
EX_IOERR: Final = 74
EX_TEMPFAIL: Final = 75
EX_CONFIG: Final = 78


class InboxdError(Exception):
    """Something went wrong that has a name. The message is written for the person who must act on it.

    `exit_code` is what the `inboxd` command exits with when nothing handles the error.
    """

    exit_code: ClassVar[int] = EX_SOFTWARE


class ConfigError(InboxdError):
    """The configuration cannot be used; the message names the key and the remedy."""

    exit_code = EX_CONFIG


class AddressInUseError(InboxdError):
    """A listener's address is taken or not ours to bind."""

    exit_code = EX_UNAVAILABLE


class StorageError(InboxdError):
    """The database file cannot be used."""

    exit_code = EX_IOERR


class StorageUnavailableError(StorageError):
    """SQLite refused to commit: the disk is full, read-only or failing. Nothing of the transaction was kept."""


class StorageClosedError(StorageError):
    """The database was used after it was closed."""


class StorageBusyError(StorageError):
    """Too many transactions wait for the writer; this one was not queued."""


class DatabaseTooNewError(StorageError):
    """The file was written by a newer inboxd; this one must not touch it."""

    exit_code = EX_DATAERR


class NotOurDatabaseError(StorageError):
    """The file is not an inboxd database."""

    exit_code = EX_DATAERR


class DatabaseLockedError(StorageError):
    """Another inboxd holds this file."""

    exit_code = EX_TEMPFAIL
