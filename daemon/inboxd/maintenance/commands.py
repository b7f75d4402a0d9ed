"""`inboxd backup` and `restore`."""

from collections.abc import Callable
from pathlib import Path

import click

from inboxd.events.restored_store import continue_numbers
from inboxd.runtime.command_line import config_option
from inboxd.storage import backup as backups

BackupSetup = Callable[[Path | None], tuple[Path, Path, int]]
"""The database, the folder of backups and how many stay there, by the path of the configuration file."""


@click.command()
@config_option
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.pass_obj
def backup(set_up: BackupSetup, config_path: Path | None, file: Path | None) -> None:
    """Back up the database, running or not, to FILE; without FILE to storage.backup_path, keeping the latest few.

    The copy is one moment of the database, and is checked from its first to its last page before it gets its name.
    """
    database, folder, keep = set_up(config_path)
    if file is None:
        file = backups.make(database, folder, keep=keep, on_stuck=_print_error)
    elif file.exists():
        msg = f"{file} exists: backups are not written over"
        raise backups.BackupError(msg)
    else:
        backups.snapshot(database, file)
    click.echo(f"{file}: {file.stat().st_size >> 10} KiB, checked")


def _print_error(error: OSError) -> None:
    click.echo(f"{error.filename} could not be removed: {error.strerror}", err=True)


@click.command()
@config_option
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.pass_obj
def restore(set_up: BackupSetup, config_path: Path | None, file: Path) -> None:
    """Put the backup FILE in the place of the database. Refuses while the daemon runs; the old file is kept aside."""
    database, _, _ = set_up(config_path)
    aside = backups.restore(file, database, prepare=continue_numbers)
    click.echo(f"{database} is now what {file} was")
    if aside is not None:
        click.echo(f"the database that was there is {aside}; delete it when all is well")
