"""`inboxd backfill`: through the running daemon, or on the database itself when none runs."""

import sys
from pathlib import Path
from typing import Any, Final, TypedDict, Unpack

import click

from inboxd.domain.backfill import BackfillRun
from inboxd.domain.run import RunStatus
from inboxd.runs.backfill.resources import (
    PATH,
    BackfillList,
    BackfillProblem,
    BackfillResource,
    BackfillSummary,
    NewBackfill,
)
from inboxd.runs.backfill.service import BackfillService
from inboxd.runs.command_runs import NewRun, RunsOfKind
from inboxd.runs.commands import RunsSetup, add_steering, start
from inboxd.runtime.clock import Clock
from inboxd.runtime.command_line import Span, config_option, json_option, run_async
from inboxd.runtime.plural import counted

_SKIPPED: Final = "the person must write first, or there is no profile"
KIND: Final = RunsOfKind(
    what="backfill",
    path=PATH,
    summary=BackfillSummary,
    resource=BackfillResource,
    listed=BackfillList,
    rows=lambda found: found.backfills,
    fields=BackfillSummary.fields_of,
    problem=BackfillProblem.of,
)


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

    Who failed is printed with the reason. follow, pause, resume and cancel are for the run that is not finished.
    """
    if context.invoked_subcommand is not None:
        return
    if options["account_id"] is None:
        msg = "give the account: --account ID"
        raise click.UsageError(msg)
    set_up: RunsSetup = context.obj
    new = _new(options["account_id"], options)
    sys.exit(run_async(start(set_up(config_path), KIND, new, _result, follow=follow, as_json=as_json)))


def _new(account_id: str, options: BackfillOptions) -> NewRun:
    older_than_s = options["older_than"]
    if older_than_s is None and options["force"]:
        older_than_s = 86_400
    refreshed: dict[str, Any] = {} if older_than_s is None else {"force": True, "older_than_seconds": older_than_s}
    body = NewBackfill(
        account_id=account_id,
        batch_size=options["batch_size"],
        max_conversations=options["most"],
        dry_run=options["dry_run"],
        **refreshed,
    )

    async def begin(service: BackfillService) -> BackfillRun:
        return await service.start(
            account_id,
            origin="command",
            batch_size=body.batch_size,
            max_conversations=body.max_conversations,
            refresh_before=0 if older_than_s is None else Clock().now_ms() - older_than_s * 1000,
            dry_run=body.dry_run,
        )

    return NewRun(account_id, body, begin, body.dry_run)


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


add_steering(backfill, KIND, _result)
