"""`inboxd backfill`: through the running daemon, or on the database itself when none runs."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple, TypedDict, Unpack

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from inboxd.domain.run import ConversationOutcome, RunStatus, Steering
from inboxd.http.client import AdminClient
from inboxd.http.command_access import CommandAccess
from inboxd.runs.backfill.command_runs import PAGE, LocalRuns, RemoteRuns, RunRequest, Runs
from inboxd.runs.backfill.resources import BackfillSummary
from inboxd.runs.backfill.service import BackfillService
from inboxd.runs.backfill.store import BackfillStore
from inboxd.runtime.clock import Clock
from inboxd.runtime.command_line import Span, account_option, config_option, json_option, run_async
from inboxd.runtime.errors import EX_OK
from inboxd.runtime.plural import counted
from inboxd.runtime.terminal import printable

LOOK_S: Final = 0.5
"""Between two looks at a run that is watched."""
MOST_PAGES: Final = 25
"""How many pages of problems are read."""
MOST_SHOWN: Final = 50
"""How many of the participants that failed are printed."""
_SKIPPED: Final = "the person must write first, or there is no profile"
WITH_ERRORS: Final = 1
"""The exit code when the run did not get every profile, or did not complete."""

WalkingAccess = CommandAccess[tuple[BackfillService, BackfillStore]]


class BackfillAccess(NamedTuple):
    """Access for starting and watching runs, and for steering one: steering without a daemon carries out no run."""

    walking: WalkingAccess
    steering: CommandAccess[BackfillStore]


BackfillSetup = Callable[[Path | None], BackfillAccess]
"""Makes the access, from the path of the configuration file. Raises ConfigError."""


class BackfillOptions(TypedDict):
    """The run that is wanted, in the words of the command line."""

    account_id: str | None
    batch_size: int
    most: int | None
    force: bool
    older_than: int | None
    dry_run: bool


@click.group(invoke_without_command=True)
@config_option
@json_option
@click.option("--account", "account_id", help="The account's id.")
@click.option("--batch-size", type=click.IntRange(1, 100), default=10, show_default=True)
@click.option("--max", "most", type=click.IntRange(1, 10_000_000), help="End after so many conversations.")
@click.option("--force", is_flag=True, help="Also refresh profiles that are older than --older-than.")
@click.option("--older-than", type=Span(), help="Such as 12h or 7d; implies --force. With --force alone: 1d.")
@click.option("--follow", is_flag=True, help="Watch until it is finished. Without a daemon that is always so.")
@click.option("--dry-run", is_flag=True, help="Only count the conversations that lack a profile.")
@click.pass_context
def backfill(
    context: click.Context,
    config_path: Path | None,
    *,
    as_json: bool,
    follow: bool,
    **options: Unpack[BackfillOptions],
) -> None:
    """Fetch the profiles that an account's conversations lack. Exits 1 if some could not be had.

    Who failed is printed with the reason. pause, resume and cancel are for the run that is not finished.
    """
    if context.invoked_subcommand is not None:
        return
    if options["account_id"] is None:
        msg = "give the account: --account ID"
        raise click.UsageError(msg)
    set_up: BackfillSetup = context.obj
    request = _request(options["account_id"], options)
    sys.exit(run_async(_backfill(set_up(config_path).walking, request, follow=follow, as_json=as_json)))


def _request(account_id: str, options: BackfillOptions) -> RunRequest:
    older_than_s = options["older_than"]
    if older_than_s is None and options["force"]:
        older_than_s = 86_400
    return RunRequest(account_id, options["batch_size"], options["dry_run"], options["most"], older_than_s)


def _steering(how: Steering, text: str) -> None:
    """Add a command to `backfill` that steers the run that is not finished."""

    @backfill.command(how.value, help=text)
    @config_option
    @json_option
    @account_option
    @click.pass_obj
    def steer(set_up: BackfillSetup, config_path: Path | None, *, as_json: bool, account_id: str) -> None:
        run_async(_steer(set_up(config_path).steering, account_id, how, as_json=as_json))


_steering(Steering.PAUSE, "Pause the account's run; what is done stays done.")
_steering(Steering.RESUME, "Go on with the account's paused run, where it was.")
_steering(Steering.CANCEL, "End the account's run for good; what is done stays done.")


async def _backfill(access: WalkingAccess, request: RunRequest, *, follow: bool, as_json: bool) -> int:
    """Start a run, watch it if asked to (always, without a daemon), and print its result. Returns the exit code."""
    async with _runs(access) as runs:
        run = await runs.start(request)
        if (follow or runs.ends_with_us) and not request.dry_run:
            run = await _watch(runs, run, quiet=as_json)
        finished = RunStatus(run.status).finished and not run.dry_run
        details = await runs.details(run.job_id, 0) if finished else run
        lines = [] if as_json or not finished else await _problems(runs, run)
    if as_json:
        click.echo(msgspec.json.encode(details).decode())
    else:
        click.echo("\n".join([_result(run), *lines]))
    return WITH_ERRORS if finished and not run.success else EX_OK


async def _steer(access: CommandAccess[BackfillStore], account_id: str, how: Steering, *, as_json: bool) -> None:
    """Pause, resume or cancel the run of an account, through the daemon or in the file."""
    async with access.open() as opened:
        if isinstance(opened, AdminClient):
            run = await RemoteRuns(opened).steer(account_id, how)
        else:
            run = await LocalRuns(BackfillService(opened, Clock()), opened).steer(account_id, how)
    if as_json:
        click.echo(msgspec.json.encode(run).decode())
    else:
        click.echo(f"run {run.job_id}: {run.status}, {run.total_processed} of {run.total} conversations are done")


async def _problems(runs: Runs, run: BackfillSummary) -> list[str]:
    """Lines that name the participants that failed, and that count those that were skipped, with the reasons."""
    failed: list[str] = []
    skipped: Counter[str] = Counter()
    for number in range(MOST_PAGES):
        found = (await runs.details(run.job_id, number * PAGE)).errors
        for one in found:
            if one.outcome == ConversationOutcome.SKIPPED:
                skipped[one.error] += 1
            elif len(failed) < MOST_SHOWN:
                tries = "1 attempt" if one.attempts == 1 else f"{one.attempts} attempts"
                failed.append(f"  failed: {one.participant_platform_id}: {printable(one.error)} ({tries})")
        if len(found) < PAGE:
            break
    if run.error_count > len(failed):
        failed.append(f"  and {run.error_count - len(failed)} more: {run.links.self_}")
    return failed + [f"  skipped: {count}: {printable(reason)}" for reason, count in skipped.most_common()]


@asynccontextmanager
async def _runs(access: WalkingAccess) -> AsyncIterator[Runs]:
    async with access.open() as opened:
        yield RemoteRuns(opened) if isinstance(opened, AdminClient) else LocalRuns(*opened)


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


def _result(run: BackfillSummary) -> str:
    if run.dry_run:
        lacking = f"{counted(run.total, 'conversation')} {'lacks' if run.total == 1 else 'lack'} a profile"
        if not run.skipped_count:
            return lacking
        return f"{lacking}; {run.skipped_count} of them would be skipped: {_SKIPPED}"
    if not RunStatus(run.status).finished:
        return f"run {run.job_id}: {run.status}, {counted(run.total, 'conversation')}; see {run.links.self_}"
    profiles, errors = counted(run.success_count, "profile"), counted(run.error_count, "error")
    counts = f"{profiles}, {errors}, {run.skipped_count} skipped"
    return f"run {run.job_id}: {run.status}, {counts} of {counted(run.total, 'conversation')}"
