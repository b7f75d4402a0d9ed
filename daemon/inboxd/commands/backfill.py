"""`inboxd backfill`: through the running daemon, or on the database itself when none runs."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from inboxd import parts
from inboxd.clock import Clock
from inboxd.commands.remote import Remote
from inboxd.config import Secrets, Settings
from inboxd.domain.backfill import BackfillRun, RunStatus
from inboxd.errors import EX_OK, EX_TEMPFAIL, EX_USAGE, DatabaseLockedError, InboxdError
from inboxd.plural import counted
from inboxd.store.backfills import Backfills, RunActiveError
from inboxd.web.api.backfills import PATH
from inboxd.web.api.resources.backfills import BackfillSummary, NewBackfill
from inboxd.workers.backfill import BackfillDesk

LOOK_S: Final = 0.5
WITH_ERRORS: Final = 1
"""The exit code when the run did not get every profile, or did not complete."""


class NotServedError(InboxdError):
    """The account is not served, or cannot be asked about."""

    exit_code = EX_USAGE


class StillActiveError(InboxdError):
    """The account has a run that is not finished."""

    exit_code = EX_TEMPFAIL


class Wish(NamedTuple):
    """What is to be done."""

    account_id: str
    batch_size: int
    dry_run: bool


class Runs(Protocol):
    """Where runs are started and looked at."""

    ends_with_us: bool
    """Whether a run goes on only as long as we look at it."""

    async def start(self, wish: Wish) -> BackfillSummary:
        """A new run."""

    async def look(self, run_id: str) -> BackfillSummary:
        """How a run stands."""


async def backfill(settings: Settings, secrets: Secrets, path: Path, wish: Wish, *, follow: bool, as_json: bool) -> int:
    """Start a run, watch it if asked to (without a daemon: always), and say what came of it; the exit code."""
    async with _runs(settings, secrets, path) as runs:
        run = await runs.start(wish)
        if (follow or runs.ends_with_us) and not wish.dry_run:
            run = await _watch(runs, run, quiet=as_json)
    if as_json:
        click.echo(msgspec.json.encode(run).decode())
    else:
        click.echo(_told(run))
    finished = RunStatus(run.status).finished
    return WITH_ERRORS if finished and not run.success else EX_OK


@asynccontextmanager
async def _runs(settings: Settings, secrets: Secrets, path: Path) -> AsyncIterator[Runs]:
    async with AsyncExitStack() as stack:
        try:
            desk, backfills = await stack.enter_async_context(parts.backfilling(settings, secrets, path))
        except DatabaseLockedError:
            yield _RemoteRuns(await stack.enter_async_context(Remote(settings, secrets)))
            return
        yield _LocalRuns(desk, backfills)


async def _watch(runs: Runs, run: BackfillSummary, *, quiet: bool) -> BackfillSummary:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[eta]}"),
    )
    with Progress(*columns, console=Console(stderr=True, quiet=quiet)) as progress:
        bar = progress.add_task(run.status, total=run.total, rate="", eta="")
        while True:
            eta = run.estimated_duration_seconds
            waits = run.reason if run.status == RunStatus.WAITING else None
            progress.update(
                bar,
                description=run.status,
                completed=run.total_processed,
                total=max(run.total, run.total_processed),
                rate=f"{run.rate_per_minute or 0:.0f}/min",
                eta=waits or ("" if eta is None else f"about {_human(eta)} left"),
            )
            if RunStatus(run.status).finished:
                return run
            await asyncio.sleep(LOOK_S)
            run = await runs.look(run.job_id)


def _human(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"


def _told(run: BackfillSummary) -> str:
    if run.dry_run:
        return f"{counted(run.total, 'conversation')} {'lacks' if run.total == 1 else 'lack'} a profile"
    if not RunStatus(run.status).finished:
        return f"run {run.job_id}: {run.status}, {counted(run.total, 'conversation')}; see {run.links.self_}"
    profiles, errors = counted(run.success_count, "profile"), counted(run.error_count, "error")
    counts = f"{profiles}, {errors}, {run.skipped_count} skipped"
    return f"run {run.job_id}: {run.status}, {counts} of {counted(run.total, 'conversation')}"


class _LocalRuns:
    ends_with_us = True

    def __init__(self, desk: BackfillDesk, backfills: Backfills) -> None:
        self._desk = desk
        self._backfills = backfills
        self._clock = Clock()

    async def start(self, wish: Wish) -> BackfillSummary:
        if not self._desk.serves(wish.account_id):
            msg = f"no account {wish.account_id} is served; 'inboxd account list' shows which are"
            raise NotServedError(msg)
        try:
            run = await self._desk.start(
                wish.account_id, origin="command", batch_size=wish.batch_size, dry_run=wish.dry_run
            )
        except RunActiveError as error:
            found = await self._backfills.get(error.run_id)
            if found is None or found.status is RunStatus.PAUSED:
                raise StillActiveError(str(error)) from error
            run = found  # of a daemon that was stopped: it goes on where it was
        return self._summary(run)

    async def look(self, run_id: str) -> BackfillSummary:
        run = await self._backfills.get(run_id)
        if run is None:
            msg = f"the run {run_id} is gone"
            raise NotServedError(msg)
        summary = self._summary(run)
        if summary.status == RunStatus.PAUSED:
            raise NotServedError(summary.reason or "the run is paused")
        return summary

    def _summary(self, run: BackfillRun) -> BackfillSummary:
        return BackfillSummary(**BackfillSummary.fields_of(run, self._desk.estimate(run), self._clock.now_ms(), PATH))


class _RemoteRuns:
    ends_with_us = False

    def __init__(self, remote: Remote) -> None:
        self._remote = remote

    async def start(self, wish: Wish) -> BackfillSummary:
        wanted = NewBackfill(account_id=wish.account_id, batch_size=wish.batch_size, dry_run=wish.dry_run)
        return await self._remote.call("POST", PATH, BackfillSummary, wanted, absent=NotServedError)

    async def look(self, run_id: str) -> BackfillSummary:
        return await self._remote.call("GET", f"{PATH}/{run_id}", BackfillSummary)
