"""What the commands of every kind of run have in common: starting one, watching it, steering it, and the result."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from inboxd.domain.run import ConversationOutcome, RunStatus, Steering
from inboxd.http.client import AdminClient, UnreachableError
from inboxd.http.command_access import CommandAccess
from inboxd.runs.command_runs import PAGE, LocalRuns, NewRun, RemoteRuns, Runs, RunsOfKind
from inboxd.runs.resources import RunSummary
from inboxd.runs.service import RunService
from inboxd.runs.store import RunStore
from inboxd.runtime.command_line import account_option, config_option, json_option, run_async
from inboxd.runtime.errors import EX_OK
from inboxd.runtime.terminal import printable

LOOK_S: Final = 0.5
"""Between two looks at a run that is watched."""
PATIENCE_S: Final = 60.0
"""How long a daemon that does not answer is waited for: one that is restarted goes on with its runs."""
MOST_PAGES: Final = 25
"""How many pages of problems are read."""
MOST_SHOWN: Final = 50
"""How many of the participants that failed are printed."""
WITH_ERRORS: Final = 1
"""The exit code when something failed, or the run did not complete."""

OpenedRuns = tuple[RunService[Any], RunStore[Any]]


class RunsAccess(NamedTuple):
    """Access for starting and watching runs, and for steering one: steering without a daemon carries out no run."""

    walking: CommandAccess[OpenedRuns]
    steering: CommandAccess[OpenedRuns]


RunsSetup = Callable[[Path | None], RunsAccess]
"""Makes the access, from the path of the configuration file. Raises ConfigError."""
Told = Callable[[Any], str]
"""The line that says how a run stands or ended."""


def add_steering(group: click.Group, kind: RunsOfKind, told: Told) -> None:
    """Add commands to `group` that steer and watch the run that is not finished."""
    texts = {
        Steering.PAUSE: "Pause the account's run; what is done stays done.",
        Steering.RESUME: "Go on with the account's paused run, where it was.",
        Steering.CANCEL: "End the account's run for good; what is done stays done.",
    }
    for how, text in texts.items():
        group.add_command(_steering(kind, how, text))
    group.add_command(_following(kind, told))


def _steering(kind: RunsOfKind, how: Steering, text: str) -> click.Command:
    @click.command(how.value, help=text)
    @config_option
    @json_option
    @account_option
    @click.pass_obj
    def steer(set_up: RunsSetup, config_path: Path | None, *, as_json: bool, account_id: str) -> None:
        run_async(_steer(set_up(config_path).steering, kind, account_id, how, as_json=as_json))

    return steer


def _following(kind: RunsOfKind, told: Told) -> click.Command:
    @click.command("follow")
    @config_option
    @json_option
    @account_option
    @click.pass_obj
    def follow(set_up: RunsSetup, config_path: Path | None, *, as_json: bool, account_id: str) -> None:
        """Watch the account's run until it is finished. Without a daemon it goes on here."""
        sys.exit(run_async(_follow(set_up(config_path).walking, kind, account_id, told, as_json=as_json)))

    return follow


async def start(access: RunsAccess, kind: RunsOfKind, new: NewRun, told: Told, *, follow: bool, as_json: bool) -> int:
    """Start a run, watch it if asked to (always, without a daemon), and print its result. Returns the exit code."""
    async with _runs(access.walking, kind) as runs:
        run = await runs.start(new)
        counts_later = new.dry_run and not RunStatus(run.status).finished
        return await _result(runs, run, told, follow=follow or runs.ends_with_us or counts_later, as_json=as_json)


async def _follow(
    access: CommandAccess[OpenedRuns], kind: RunsOfKind, account_id: str, told: Told, *, as_json: bool
) -> int:
    async with _runs(access, kind) as runs:
        return await _result(runs, await runs.unfinished(account_id), told, follow=True, as_json=as_json)


async def _result(runs: Runs, run: RunSummary, told: Told, *, follow: bool, as_json: bool) -> int:
    """Print how a run ended, or how it stands if it is not to be watched. Returns the exit code."""
    if follow and not RunStatus(run.status).finished:
        run = await _watch(runs, run, quiet=as_json)
    finished = RunStatus(run.status).finished and not run.dry_run
    details = (await runs.details(run.job_id, 0)).resource if finished else run
    lines = [] if as_json or not finished else await _problems(runs, run)
    if as_json:
        click.echo(msgspec.json.encode(details).decode())
    else:
        click.echo("\n".join([told(run), *lines]))
    return WITH_ERRORS if finished and not run.success else EX_OK


async def _steer(
    access: CommandAccess[OpenedRuns], kind: RunsOfKind, account_id: str, how: Steering, *, as_json: bool
) -> None:
    """Pause, resume or cancel the run of an account, through the daemon or in the file."""
    async with _runs(access, kind) as runs:
        run = await runs.steer(account_id, how)
    if as_json:
        click.echo(msgspec.json.encode(run).decode())
    else:
        click.echo(f"run {run.job_id}: {run.status}, {run.total_processed} of {run.total} conversations are done")


async def _problems(runs: Runs, run: RunSummary) -> list[str]:
    """Lines that name the participants that failed, and that count those that were skipped, with the reasons."""
    failed: list[str] = []
    skipped: Counter[str] = Counter()
    for number in range(MOST_PAGES):
        found = (await runs.details(run.job_id, number * PAGE)).problems
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
async def _runs(access: CommandAccess[OpenedRuns], kind: RunsOfKind) -> AsyncIterator[Runs]:
    async with access.open() as opened:
        yield RemoteRuns(kind, opened) if isinstance(opened, AdminClient) else LocalRuns(kind, *opened)


async def _watch(runs: Runs, run: RunSummary, *, quiet: bool) -> RunSummary:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("{task.fields[eta]}"),
    )
    loop = asyncio.get_running_loop()
    answered_at = loop.time()
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
            try:
                run, answered_at = await runs.look(run.job_id), loop.time()
            except UnreachableError:
                if loop.time() - answered_at > PATIENCE_S:
                    raise
                progress.update(bar, description="the daemon does not answer")


def _human(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} s"
    return f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
