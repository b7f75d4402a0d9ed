"""Checks of the daemon: whether it runs, and what it says of its workers, its accounts and the traffic."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Final

from inboxd.accounts.resources import AccountList, BudgetList, CheckedAccount
from inboxd.config.admin_access import admin_access
from inboxd.config.schema import Settings
from inboxd.config.secrets import Secrets, how_to_give
from inboxd.domain.account import Account
from inboxd.http.client import AdminClient, DaemonError, RefusedTokenError
from inboxd.maintenance.doctor.account_checks import (
    account_diagnoses,
    budget_diagnosis,
    completeness_diagnosis,
    outage_diagnosis,
    stored_account_diagnosis,
)
from inboxd.maintenance.doctor.diagnosis import Diagnosis, Severity
from inboxd.maintenance.doctor.storage_checks import is_running
from inboxd.maintenance.traffic_api import PATH as TRAFFIC
from inboxd.maintenance.traffic_resources import TrafficReport
from inboxd.receiving.resources import WorkerList
from inboxd.reconciliation.api import PATH as COMPLETENESS
from inboxd.reconciliation.resources import CompletenessResource
from inboxd.runtime.errors import (
    ConfigError,
    InboxdError,
)
from inboxd.runtime.plural import counted

OLD_S: Final = 60.0
"""A delivery that waits for longer than this is late."""


async def check_daemon(
    settings: Settings, secrets: Secrets, database: Path, stored: Sequence[Account]
) -> AsyncIterator[Diagnosis]:
    """The running daemon and its accounts. While none runs, the accounts as the database has them."""
    try:
        running = await asyncio.to_thread(is_running, database)
    except (InboxdError, OSError) as error:
        yield Diagnosis("daemon", Severity.WARNING, f"cannot see whether it runs: {error}", "Ask as root.")
        return
    if not running:
        yield Diagnosis("daemon", Severity.WRONG, "it does not run", "systemctl start inboxd, or inboxd run")
        for account in stored:
            yield stored_account_diagnosis(account)
        return
    try:
        async with AdminClient(*admin_access(settings, secrets)) as client:
            async for diagnosis in _ask_daemon(client):
                yield diagnosis
    except ConfigError as error:
        yield Diagnosis("daemon", Severity.WRONG, str(error), how_to_give("admin_token"))
    except RefusedTokenError:
        yield Diagnosis("daemon", Severity.WRONG, "it does not know this admin_token", how_to_give("admin_token"))
    except DaemonError as error:
        yield Diagnosis("daemon", Severity.WRONG, str(error), "journalctl -u inboxd -n 50")


async def _ask_daemon(client: AdminClient) -> AsyncIterator[Diagnosis]:
    """What the running daemon says of its workers, its accounts and the traffic. Raises DaemonError."""
    listed = await client.call("GET", "/api/accounts", AccountList)
    yield Diagnosis("daemon", Severity.OK, "it runs and answers")
    for diagnosis in _worker_diagnoses(await client.call("GET", "/api/workers", WorkerList)):
        yield diagnosis
    for one in listed.accounts:
        checked = await client.call("POST", f"/api/accounts/{one.id}/check", CheckedAccount)
        for diagnosis in account_diagnoses(checked):
            yield diagnosis
        path = COMPLETENESS.replace("{id}", one.id)
        yield completeness_diagnosis(await client.call("GET", path, CompletenessResource))
    for diagnosis in _traffic_diagnoses(await client.call("GET", TRAFFIC, TrafficReport)):
        yield diagnosis
    budgets = (await client.call("GET", "/api/budget", BudgetList)).budgets
    outage = next((one for one in budgets if one.unreachable_since is not None), None)
    if outage is not None:
        yield outage_diagnosis(outage)
    for budget in budgets:
        yield budget_diagnosis(budget)


def _worker_diagnoses(workers: WorkerList) -> Iterator[Diagnosis]:
    """Problems of the daemon, workers that crash, deliveries that wait and deliveries that were set aside."""
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


def _traffic_diagnoses(report: TrafficReport) -> Iterator[Diagnosis]:
    """What the daemon found unusual about the traffic."""
    for one in report.findings:
        severity = Severity.WRONG if one.cause.is_urgent else Severity.WARNING
        check = "traffic" if one.account_id is None else f"traffic {one.account_id}"
        since = "" if one.since is None else f", since {one.since}"
        yield Diagnosis(check, severity, one.detail + since, one.remedy)
    if not report.findings:
        yield Diagnosis("traffic", Severity.OK, "nothing unusual")
