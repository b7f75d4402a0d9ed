"""`inboxd doctor`: is everything in order, and if not, what exactly is to be done?"""

import asyncio
import os
import shutil
import socket
import sqlite3
import ssl
import stat
import sys
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import aiohttp
import click
import msgspec
from rich.table import Table
from rich.text import Text

from inboxd.accounts import store as accounts
from inboxd.accounts.check import CheckOutcome
from inboxd.accounts.resources import AccountList, BudgetList, BudgetResource, CheckedAccount
from inboxd.config.admin_access import admin_access
from inboxd.config.loading import find_config, load_settings
from inboxd.config.schema import Settings, concerns
from inboxd.config.secrets import ENV_PREFIX, SECRET_NAMES, Secrets, how_to_give, load_secrets
from inboxd.domain.account import Account, LoginType
from inboxd.domain.budget import times_slower
from inboxd.domain.traffic import TrafficCause
from inboxd.http.client import AdminClient, DaemonError, RefusedTokenError
from inboxd.maintenance.traffic_api import PATH as TRAFFIC
from inboxd.maintenance.traffic_resources import TrafficReport
from inboxd.receiving.resources import WorkerList
from inboxd.receiving.webhooks import PATH
from inboxd.runtime.clock import Clock, iso_utc
from inboxd.runtime.command_line import config_option, json_option, run_async
from inboxd.runtime.console import console
from inboxd.runtime.errors import (
    EX_OK,
    ConfigError,
    DatabaseLockedError,
    DatabaseTooNewError,
    InboxdError,
    NotOurDatabaseError,
)
from inboxd.runtime.plural import counted
from inboxd.runtime.terminal import printable
from inboxd.storage import backup
from inboxd.storage.database import open_for_reading
from inboxd.storage.lock import lock

UNHEALTHY: Final = 1
"""The exit code when something is wrong."""
TIMEOUT_S: Final = 10.0
MAX_SKEW_S: Final = 60
LITTLE_ROOM: Final = 0.10
TOO_LITTLE_BYTES: Final = 256 * 1024 * 1024
OLD_S: Final = 60.0
"""A delivery that waits for longer than this is late."""
BACKUP_MAX_AGE_MS: Final = 2 * 86_400_000
OLDEST_SQLITE: Final = (3, 40, 0)
_OTHERS: Final = stat.S_IRWXO | stat.S_IRWXG


class Severity(StrEnum):
    """How one thing is."""

    OK = "ok"
    WARNING = "warning"
    """It works, and will not for long; or it could not be found out from here."""
    WRONG = "wrong"


class Diagnosis(msgspec.Struct, frozen=True, rename="camel"):
    """One thing that was looked at, and what to do about it."""

    check: str
    health: Severity
    detail: str
    remedy: str | None = None


@click.command()
@config_option
@json_option
def doctor(config_path: Path | None, *, as_json: bool) -> None:
    """Look everything over and say what is wrong and how to mend it. Exits 1 if anything is.

    Configuration, secrets, clock, disk, permissions, database, backups, DNS and TLS to Meta, the daemon, each account's
    token and subscription, and the public address when public.base_url names it.
    """
    sys.exit(run_async(_doctor(config_path, os.environ, as_json=as_json)))


async def _doctor(config_path: Path | None, environment: Mapping[str, str], *, as_json: bool) -> int:
    """Look everything over and say how it is; the exit code."""
    found = [diagnosis async for diagnosis in _diagnoses(config_path, environment)]
    if as_json:
        click.echo(msgspec.json.encode(found).decode())
    else:
        console().print(_table(found))
    return UNHEALTHY if any(one.health is Severity.WRONG for one in found) else EX_OK


async def _diagnoses(config_path: Path | None, environment: Mapping[str, str]) -> AsyncIterator[Diagnosis]:
    yield _sqlite()
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
        yield _secrets(secrets)
    for diagnosis in _secret_files(environment, path):
        yield diagnosis
    for diagnosis in await asyncio.to_thread(_storage, database, settings.storage.backups(environment)):
        yield diagnosis
    stored = await _stored_accounts(database)
    async for diagnosis in _graph(settings, {account.login_type for account in stored}):
        yield diagnosis
    async for diagnosis in _daemon(settings, secrets, database, stored):
        yield diagnosis
    if settings.public.base_url:
        yield await _public(settings.public.base_url)


def _sqlite() -> Diagnosis:
    version = sqlite3.sqlite_version
    if sqlite3.sqlite_version_info >= OLDEST_SQLITE:
        return Diagnosis("sqlite", Severity.OK, version)
    return Diagnosis("sqlite", Severity.WRONG, f"{version} is too old", "Use a system with SQLite 3.40 or later.")


def _secrets(secrets: Secrets) -> Diagnosis:
    missing = [*secrets.missing(), *(["admin_token"] if secrets.admin_token is None else [])]
    if not missing:
        return Diagnosis("secrets", Severity.OK, "all are there")
    remedy = "Unless systemd gives them to the daemon: " + "; ".join(how_to_give(name) for name in missing)
    return Diagnosis("secrets", Severity.WARNING, f"not seen from here: {', '.join(missing)}", remedy)


def _secret_files(environment: Mapping[str, str], config: Path | None) -> Iterator[Diagnosis]:
    """Whether others can read the files that variables name, or those beside the configuration."""
    named = [
        Path(value)
        for variable, value in environment.items()
        if variable.startswith(ENV_PREFIX) and variable.endswith("_FILE")
    ]
    beside = [config.absolute().parent / name for name in SECRET_NAMES] if config else []
    for path in dict.fromkeys([*named, *beside]):
        if path.is_file() and path.stat().st_mode & _OTHERS:
            yield Diagnosis("permissions", Severity.WRONG, f"{path} can be read by others", f"chmod 600 {path}")


def _storage(database: Path, backups: Path) -> list[Diagnosis]:
    try:
        return [*_disk(database), _database(database), _backups(backups)]
    except OSError as error:
        remedy = "Ask as root or as the daemon's user, or correct storage.path."
        return [Diagnosis("storage", Severity.WRONG, f"{error.filename or database}: {error.strerror}", remedy)]


def _disk(database: Path) -> Iterator[Diagnosis]:
    folder = database.absolute().parent
    if not folder.is_dir():
        yield Diagnosis("disk", Severity.WRONG, f"there is no folder {folder}", f"install -d -m 0700 {folder}")
        return
    usage = shutil.disk_usage(folder)
    room = f"{usage.free >> 20} MiB of {usage.total >> 20} are free in {folder}"
    remedy = "Make room: remove old backups, shorten storage.keep_… days, or enlarge the disk."
    if usage.free < TOO_LITTLE_BYTES:
        yield Diagnosis("disk", Severity.WRONG, room, remedy)
    elif usage.free < usage.total * LITTLE_ROOM:
        yield Diagnosis("disk", Severity.WARNING, room, remedy)
    else:
        yield Diagnosis("disk", Severity.OK, room)
    if database.exists() and database.stat().st_mode & stat.S_IRWXO:
        yield Diagnosis("permissions", Severity.WRONG, f"{database} can be read by everybody", f"chmod 640 {database}")
    if not os.access(folder, os.W_OK):
        detail = f"{folder} cannot be written by this user"
        yield Diagnosis("permissions", Severity.WARNING, detail, "Ask as the daemon's user or as root.")


def _database(path: Path) -> Diagnosis:
    if not path.exists():
        if _is_running(path):
            remedy = "Put it back; or stop the daemon, 'inboxd restore' a backup, and start it."
            return Diagnosis(
                "database", Severity.WRONG, f"{path} was deleted or moved under the running daemon", remedy
            )
        return Diagnosis(
            "database", Severity.WARNING, f"{path} does not exist yet", "The daemon makes it when it starts."
        )
    try:
        version = backup.check(path)
    except DatabaseTooNewError as error:
        return Diagnosis("database", Severity.WRONG, str(error), "Install the newer inboxd again.")
    except NotOurDatabaseError as error:
        return Diagnosis("database", Severity.WRONG, str(error), "Correct storage.path, or move that file away.")
    except (InboxdError, OSError) as error:
        remedy = "Stop the daemon and put back the latest backup: inboxd restore <file>"
        return Diagnosis("database", Severity.WRONG, str(error), remedy)
    return Diagnosis(
        "database", Severity.OK, f"{path}: schema {version}, {path.stat().st_size >> 20} MiB, no fault found"
    )


def _backups(folder: Path) -> Diagnosis:
    remedy = "systemctl enable --now inboxd-backup.timer, or run 'inboxd backup' every day"
    made_at = backup.latest_at(folder)
    if made_at is None:
        return Diagnosis("backups", Severity.WARNING, f"there is none in {folder}", remedy)
    if Clock().now_ms() - made_at > BACKUP_MAX_AGE_MS:
        return Diagnosis("backups", Severity.WARNING, f"the latest is of {iso_utc(made_at)}", remedy)
    return Diagnosis("backups", Severity.OK, f"the latest is of {iso_utc(made_at)}")


async def _graph(settings: Settings, login_types: Collection[str]) -> AsyncIterator[Diagnosis]:
    """DNS, TLS and an answer, of whatever kind, from each Graph API; and our clock against theirs."""
    urls = {settings.instagram.graph_url}
    if LoginType.FACEBOOK in {*login_types, *(account.login_type for account in settings.accounts)}:
        urls.add(settings.instagram.facebook_graph_url)
    for url in sorted(urls):
        try:
            date = await _date_of(url)
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            yield Diagnosis("graph", Severity.WRONG, f"{url}: {_reason(error)}", _network_remedy(url, error))
            continue
        yield Diagnosis("graph", Severity.OK, f"{url} answers")
        if date is not None:
            yield _clock(date)


async def _date_of(url: str) -> datetime | None:
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url, allow_redirects=False) as response:
        text = response.headers.get("Date")
    try:
        return None if text is None else parsedate_to_datetime(text)
    except ValueError:
        return None


def _clock(theirs: datetime) -> Diagnosis:
    skew_s = round((datetime.now(UTC) - theirs).total_seconds())
    if abs(skew_s) <= MAX_SKEW_S:
        return Diagnosis("clock", Severity.OK, f"{abs(skew_s)} s from Meta's")
    return Diagnosis("clock", Severity.WRONG, f"{abs(skew_s)} s from Meta's", "timedatectl set-ntp true")


async def _daemon(
    settings: Settings, secrets: Secrets, database: Path, stored: Sequence[Account]
) -> AsyncIterator[Diagnosis]:
    """The running daemon and its accounts; without one, what the file says of the accounts."""
    try:
        running = await asyncio.to_thread(_is_running, database)
    except (InboxdError, OSError) as error:
        yield Diagnosis("daemon", Severity.WARNING, f"cannot see whether it runs: {error}", "Ask as root.")
        return
    if not running:
        yield Diagnosis("daemon", Severity.WRONG, "it does not run", "systemctl start inboxd, or inboxd run")
        for account in stored:
            yield _at_rest(account)
        return
    try:
        async with AdminClient(*admin_access(settings, secrets)) as remote:
            async for diagnosis in _answering(remote):
                yield diagnosis
    except ConfigError as error:
        yield Diagnosis("daemon", Severity.WRONG, str(error), how_to_give("admin_token"))
    except RefusedTokenError:
        yield Diagnosis("daemon", Severity.WRONG, "it does not know this admin_token", how_to_give("admin_token"))
    except DaemonError as error:
        yield Diagnosis("daemon", Severity.WRONG, str(error), "journalctl -u inboxd -n 50")


async def _answering(remote: AdminClient) -> AsyncIterator[Diagnosis]:
    """What the running daemon says of itself and its accounts. Raises DaemonError."""
    listed = await remote.call("GET", "/api/accounts", AccountList)
    yield Diagnosis("daemon", Severity.OK, "it runs and answers")
    for diagnosis in _of_workers(await remote.call("GET", "/api/workers", WorkerList)):
        yield diagnosis
    for one in listed.accounts:
        checked = await remote.call("POST", f"/api/accounts/{one.id}/check", CheckedAccount)
        for diagnosis in _of_account(checked):
            yield diagnosis
    for diagnosis in _of_traffic(await remote.call("GET", TRAFFIC, TrafficReport)):
        yield diagnosis
    budgets = (await remote.call("GET", "/api/budget", BudgetList)).budgets
    outage = next((one for one in budgets if one.unreachable_since is not None), None)
    if outage is not None:
        yield _of_outage(outage)
    for budget in budgets:
        yield _of_budget(budget)


def _of_workers(workers: WorkerList) -> Iterator[Diagnosis]:
    """What is not stored, not processed or not done at all."""
    for problem in workers.problems:
        yield Diagnosis(
            "processing", Severity.WRONG, problem, "journalctl -u inboxd -p warning; see docs/operations.md"
        )
    for worker in workers.parked:
        detail = f"it crashes again and again since {worker.since}: {worker.reason}"
        remedy = "Report it with the traceback of worker_crashed."
        yield Diagnosis(f"worker {worker.name}", Severity.WRONG, detail, remedy)
    waiting = f"{counted(workers.deliveries_waiting, 'delivery', 'deliveries')} waiting"
    if workers.oldest_waiting_seconds > OLD_S:
        detail = f"{waiting}, the oldest for {workers.oldest_waiting_seconds:.0f} s"
        yield Diagnosis("backlog", Severity.WARNING, detail, "Nothing, while it shrinks: look again in a minute.")
    elif not workers.problems:
        yield Diagnosis("backlog", Severity.OK, waiting)
    if workers.deliveries_failed:
        detail = f"{counted(workers.deliveries_failed, 'delivery', 'deliveries')} set aside"
        yield Diagnosis("deliveries", Severity.WARNING, detail, "Look at /deliveries of the dashboard, and retry them.")


def _is_running(database: Path) -> bool:
    if not database.with_name(database.name + ".lock").exists():
        return False
    try:
        os.close(lock(database))
    except DatabaseLockedError:
        return True
    return False


def _of_account(checked: CheckedAccount) -> Iterator[Diagnosis]:
    name = f"account {checked.account.id}"
    healths = {
        CheckOutcome.OK: Severity.OK,
        CheckOutcome.UNKNOWN: Severity.WARNING,
        CheckOutcome.MISSING: Severity.WRONG,
    }
    for finding in checked.findings:
        detail = f"{finding.check}: {finding.detail}"
        yield Diagnosis(name, healths[finding.outcome], detail, finding.remedy)


def _of_traffic(report: TrafficReport) -> Iterator[Diagnosis]:
    """What the daemon found unusual about what arrives."""
    for one in report.findings:
        health = (
            Severity.WRONG if one.cause in {TrafficCause.SILENT, TrafficCause.COMPANIONS_ONLY} else Severity.WARNING
        )
        check = "traffic" if one.account_id is None else f"traffic {one.account_id}"
        since = "" if one.since is None else f", since {one.since}"
        yield Diagnosis(check, health, one.detail + since, one.remedy)
    if not report.findings:
        yield Diagnosis("traffic", Severity.OK, "nothing unusual")


def _of_outage(budget: BudgetResource) -> Diagnosis:
    detail = f"Meta has not answered since {budget.unreachable_since}"
    remedy = (
        "Nothing, if it is Meta's: it is asked again every half minute, and everybody who waits gets their name then. "
        "If 'graph' above is wrong too, look at this machine's network, name resolution and clock."
    )
    return Diagnosis("meta", Severity.WRONG, detail, remedy)


def _of_budget(budget: BudgetResource) -> Diagnosis:
    name, left = f"account {budget.account_id}", f"{budget.remaining} of {budget.allowance_per_hour} calls are left"
    remedy = "Nothing: it goes on by itself. If Meta throttles you every day, lower budget.calls_per_hour."
    if budget.unreachable_since is None and budget.paused_until is not None:
        detail = f"budget: no calls until {budget.paused_until}: {budget.paused_reason}"
        return Diagnosis(name, Severity.WARNING, detail, remedy)
    if budget.slowed_by > 1:
        why = "Meta says that its allowance runs out"
        detail = f"budget: {left}, {times_slower(budget.slowed_by)} until {budget.slowed_until}: {why}"
        return Diagnosis(name, Severity.WARNING, detail, remedy)
    return Diagnosis(name, Severity.OK, f"budget: {left}")


async def _stored_accounts(database: Path) -> list[Account]:
    try:
        async with open_for_reading(database) as connection:
            return [one.account for one in await accounts.stored(connection.read)]
    except (InboxdError, OSError):
        return []  # said of the database already


def _at_rest(account: Account) -> Diagnosis:
    name = f"account {account.id}"
    if not account.callable:
        return Diagnosis(name, Severity.WRONG, account.reason or account.state.value, "inboxd account add")
    if account.expires_soon(Clock().now_ms()):
        detail = f"its token ends at {iso_utc(account.token_expires_at or 0)}"
        return Diagnosis(name, Severity.WARNING, detail, "Start the daemon: it refreshes tokens.")
    if "messages" not in (account.subscribed_fields or ()):
        return Diagnosis(name, Severity.WARNING, "not known to be subscribed", "Start the daemon: it subscribes.")
    return Diagnosis(name, Severity.OK, f"{account.state.value} and subscribed when last seen")


async def _public(base_url: str) -> Diagnosis:
    """Whether our own address leads to an inboxd: it refuses a handshake with a wrong token, and says so."""
    url = f"{base_url}{PATH}?hub.mode=subscribe&hub.challenge=doctor&hub.verify_token=doctor"
    remedy = "See 'TLS in front' in docs/deploy.md; the proxy must pass /webhooks/instagram on as it is."
    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
            status, kind = response.status, response.content_type
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        return Diagnosis("public address", Severity.WRONG, f"{base_url}: {_reason(error)}", remedy)
    if (status, kind) == (403, "application/problem+json"):
        return Diagnosis("public address", Severity.OK, f"{base_url} leads here")
    return Diagnosis("public address", Severity.WRONG, f"{base_url} answers HTTP {status}, which is not inboxd", remedy)


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return f"no answer within {TIMEOUT_S:.0f} s"
    return str(error) or type(error).__name__


def _network_remedy(url: str, error: Exception) -> str:
    host = urlsplit(url).hostname
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return f"The name cannot be resolved: check /etc/resolv.conf with  getent hosts {host}"
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return "The certificate is not accepted: install ca-certificates, and check the clock."
    if isinstance(error, aiohttp.ClientSSLError | ssl.SSLError):
        return "TLS fails: something between here and Meta interferes; check proxies."
    return f"Let this machine connect to {host} on port {urlsplit(url).port or socket.getservbyname('https')}."


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
