"""`inboxd import-history`: through the running daemon, or on the database itself when none runs."""

import sys
from pathlib import Path
from typing import Final, TypedDict, Unpack

import click

from inboxd.domain.history import HistoryRun, since_ms
from inboxd.domain.run import RunStatus
from inboxd.runs.command_runs import NewRun, RunsOfKind
from inboxd.runs.commands import RunsSetup, add_steering, start
from inboxd.runs.history.resources import (
    PATH,
    HistoryProblem,
    ImportList,
    ImportResource,
    ImportSummary,
    NewHistoryImport,
)
from inboxd.runs.history.service import HistoryOptions, HistoryService
from inboxd.runtime.clock import Clock
from inboxd.runtime.command_line import config_option, json_option, run_async
from inboxd.runtime.plural import counted

KIND: Final = RunsOfKind(
    what="history import",
    path=PATH,
    summary=ImportSummary,
    resource=ImportResource,
    listed=ImportList,
    rows=lambda found: found.imports,
    fields=ImportSummary.fields_of,
    problem=HistoryProblem.of,
)


class ImportOptions(TypedDict):
    """The import that is wanted, in the words of the command line."""

    account_id: str | None
    since: str | None
    most: int | None
    emit_events: bool
    dry_run: bool


def _past(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    try:
        if value is not None:
            since_ms(value, Clock().now_ms())
    except ValueError as error:
        raise click.BadParameter(str(error)) from error
    return value


@click.group(invoke_without_command=True)
@config_option
@json_option
@click.option("--account", "account_id", help="The account's id.")
@click.option("--since", callback=_past, help="Leave out earlier messages: 2026-01-31, or a time in ISO 8601.")
@click.option("--max", "most", type=click.IntRange(1, 10_000_000), help="End after so many conversations.")
@click.option("--emit-events", is_flag=True, help="Tell what is added in the event log, as if it had just arrived.")
@click.option("--follow", is_flag=True, help="Watch until it is finished. Without a daemon that is always so.")
@click.option("--dry-run", is_flag=True, help="Only count the conversations. The list is read for that.")
@click.pass_context
def import_history(
    context: click.Context,
    config_path: Path | None,
    *,
    as_json: bool,
    follow: bool,
    **options: Unpack[ImportOptions],
) -> None:
    """Import the messages that are in an account's mailbox at Meta. Exits 1 if some could not be had.

    Imported messages do not count as unread. follow, pause, resume and cancel are for the import that is not finished.
    """
    if context.invoked_subcommand is not None:
        return
    if options["account_id"] is None:
        msg = "give the account: --account ID"
        raise click.UsageError(msg)
    set_up: RunsSetup = context.obj
    new = _new(options["account_id"], options)
    sys.exit(run_async(start(set_up(config_path), KIND, new, _result, follow=follow, as_json=as_json)))


def _new(account_id: str, options: ImportOptions) -> NewRun:
    body = NewHistoryImport(
        account_id=account_id,
        since=options["since"],
        max_conversations=options["most"],
        emit_events=options["emit_events"],
        dry_run=options["dry_run"],
    )

    async def begin(service: HistoryService) -> HistoryRun:
        wanted = HistoryOptions(
            since=0 if body.since is None else since_ms(body.since, Clock().now_ms()),
            max_conversations=body.max_conversations,
            emit_events=body.emit_events,
            dry_run=body.dry_run,
        )
        return await service.start(account_id, wanted, origin="command")

    return NewRun(account_id, body, begin, body.dry_run)


def _result(run: ImportSummary) -> str:
    found = counted(run.total, "conversation")
    if not RunStatus(run.status).finished:
        return f"run {run.job_id}: {run.status}; see {run.links.self_}, or use --follow"
    if run.dry_run:
        return f"{found} to import"
    messages = f"{counted(run.messages_added, 'message')} added, {run.messages_known} known already"
    if run.messages_unavailable:
        messages += f", {run.messages_unavailable} that Meta lists without details"
    reason = f" ({run.reason})" if run.reason else ""
    done = f"{run.success_count} of {found}, {counted(run.error_count, 'error')}"
    return f"run {run.job_id}: {run.status}{reason}, {done}: {messages}"


add_steering(import_history, KIND, _result)
