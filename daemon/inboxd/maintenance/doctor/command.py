"""`inboxd doctor`: whether everything is in order, and if not, what to do."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Final

import click
import msgspec
from rich.table import Table
from rich.text import Text

from inboxd.config.loading import find_config, load_settings
from inboxd.config.schema import concerns
from inboxd.config.secrets import Secrets, load_secrets
from inboxd.maintenance.doctor.account_checks import stored_accounts
from inboxd.maintenance.doctor.configuration_checks import check_secret_files, check_secrets, check_sqlite
from inboxd.maintenance.doctor.daemon_checks import check_daemon
from inboxd.maintenance.doctor.diagnosis import Diagnosis, Severity
from inboxd.maintenance.doctor.network_checks import check_graph, check_public_address
from inboxd.maintenance.doctor.outbox_checks import check_outbox, check_uploads
from inboxd.maintenance.doctor.storage_checks import check_storage
from inboxd.runtime.command_line import config_option, json_option, run_async
from inboxd.runtime.console import console
from inboxd.runtime.errors import EX_OK, ConfigError
from inboxd.runtime.terminal import printable

UNHEALTHY: Final = 1
"""The exit code when something is wrong."""


@click.command()
@config_option
@json_option
def doctor(config_path: Path | None, *, as_json: bool) -> None:
    """Look everything over and say what is wrong and how to mend it. Exits 1 if anything is.

    Configuration, secrets, clock, disk, permissions, database, backups, DNS and TLS to Meta, the daemon, each account's
    token and subscription, the outbox, and the public address when public.base_url names it.
    """
    sys.exit(run_async(_doctor(config_path, os.environ, as_json=as_json)))


async def _doctor(config_path: Path | None, environment: Mapping[str, str], *, as_json: bool) -> int:
    """Run all checks and print what they find; the exit code."""
    found = [diagnosis async for diagnosis in _diagnoses(config_path, environment)]
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    else:
        console().print(_table(found))
    return UNHEALTHY if any(one.health is Severity.WRONG for one in found) else EX_OK


async def _diagnoses(config_path: Path | None, environment: Mapping[str, str]) -> AsyncIterator[Diagnosis]:
    """The results of all checks; only those up to the configuration when that is wrong."""
    yield check_sqlite()
    try:
        path = find_config(config_path, environment)
        settings = load_settings(path, environment)
    except (ConfigError, OSError) as error:
        yield Diagnosis("configuration", Severity.WRONG, str(error), "Mend it; nothing else can be looked at before.")
        return
    yield Diagnosis("configuration", Severity.OK, str(path or "built-in defaults"))
    for concern in concerns(settings):
        yield Diagnosis("configuration", Severity.WARNING, concern.text, concern.remedy)
    database = settings.storage.resolved(environment)
    try:
        secrets = load_secrets(environment)
    except ConfigError as error:
        secrets = Secrets()
        yield Diagnosis("secrets", Severity.WRONG, str(error), "Mend it, then ask again.")
    else:
        yield check_secrets(secrets)
    for diagnosis in check_secret_files(environment, path):
        yield diagnosis
    storage = await asyncio.to_thread(check_storage, database, settings.storage.backups(database))
    for diagnosis in [*storage, *await check_outbox(database), *await check_uploads(database)]:
        yield diagnosis
    stored = await stored_accounts(database)
    async for diagnosis in check_graph(settings, {account.login_type for account in stored}):
        yield diagnosis
    async for diagnosis in check_daemon(settings, secrets, database, stored):
        yield diagnosis
    if settings.public.base_url:
        yield await check_public_address(settings.public.base_url)


def _table(found: list[Diagnosis]) -> Table:
    wrong = sum(one.health is Severity.WRONG for one in found)
    table = Table(title=f"{wrong} wrong" if wrong else "nothing is wrong", title_justify="left", expand=False)
    for heading in ("", "What", "How it is", "What to do"):
        table.add_column(heading, overflow="fold")
    colours = {Severity.OK: "green", Severity.WARNING: "yellow", Severity.WRONG: "red"}
    for one in found:
        mark = Text(one.health.value, style=colours[one.health])
        table.add_row(mark, one.check, Text(printable(one.detail)), Text(printable(one.remedy or "")))
    return table
