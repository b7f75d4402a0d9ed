"""`inboxd backfill`: through the running daemon, or on the database itself when none runs."""

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol, TypedDict, Unpack
from urllib.parse import urlencode

import click
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from inboxd.domain.backfill import BackfillRun, ConversationOutcome, RunStatus, Steering
from inboxd.http.client import AdminClient
from inboxd.http.command_access import CommandAccess
from inboxd.runs.backfill.api import PATH
from inboxd.runs.backfill.resources import BackfillList, BackfillProblem, BackfillResource, BackfillSummary, NewBackfill
from inboxd.runs.backfill.service import BackfillService
from inboxd.runs.backfill.store import UNFINISHED, BackfillStore, RunActiveError
from inboxd.runtime.clock import Clock
from inboxd.runtime.command_line import account_option, config_option, json_option, run_async
from inboxd.runtime.errors import EX_OK, EX_TEMPFAIL, EX_USAGE, InboxdError
from inboxd.runtime.plural import counted
from inboxd.runtime.terminal import printable
from inboxd.storage.database import Database

LOOK_S: Final = 0.5
PAGE: Final = 200
MOST_PAGES: Final = 25
MOST_SHOWN: Final = 50
_SKIPPED: Final = "the person must write first, or there is no profile"
WITH_ERRORS: Final = 1
"""The exit code when the run did not get every profile, or did not complete."""


class NotServedError(InboxdError):
    """The account is not served, or cannot be asked about."""

    exit_code = EX_USAGE


class NoRunError(InboxdError):
    """The account has no run that is not finished."""

    exit_code = EX_USAGE

    def __init__(self, account_id: str) -> None:
        super().__init__(f"the account {account_id} has no backfill that is not finished")


class StillActiveError(InboxdError):
    """The account has a run that is not finished, and stands where that cannot be done with it."""

    exit_code = EX_TEMPFAIL


class Wish(NamedTuple):
    """What is to be done."""

    account_id: str
    batch_size: int
    dry_run: bool
    max_conversations: int | None = None
    older_than_s: int | None = None
    """Also refresh profiles older than this; None: do not."""


WalkingAccess = CommandAccess[tuple[BackfillService, BackfillStore]]


class BackfillAccess(NamedTuple):
    """Both ways to start and watch runs, and to steer one; without a daemon steering must not let runs go on."""

    walking: WalkingAccess
    steering: CommandAccess[Database]


BackfillSetup = Callable[[Path | None], BackfillAccess]
"""What the commands are given, by the path of the configuration file."""


class Runs(Protocol):
    """Where runs are started and looked at."""

    ends_with_us: bool
    """Whether a run goes on only as long as we look at it."""

    async def start(self, wish: Wish) -> BackfillSummary:
        """A new run."""

    async def look(self, run_id: str) -> BackfillSummary:
        """How a run stands."""

    async def details(self, run_id: str, offset: int) -> BackfillResource:
        """The same with a page of what went wrong."""

    async def steer(self, account_id: str, how: Steering) -> BackfillSummary:
        """Pause, resume or cancel the run of an account that is not finished."""


class Span(click.ParamType):  # type: ignore[type-arg] # generic in newer versions only
    """A length of time in seconds: 90, 45m, 12h, 7d."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:  # noqa: ANN401 - click's
        """The seconds."""
        text = str(value)
        size = {"s": 1, "m": 60, "h": 3600, "d": 86_400}.get(text[-1:])
        digits = text if size is None else text[:-1]
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 9):
            self.fail(f"{text!r} is no length of time, such as 90, 45m, 12h or 7d", param, ctx)
        seconds = int(digits) * (size or 1)
        if seconds > 315_360_000:
            self.fail("ten years are the most", param, ctx)
        return seconds


class BackfillOptions(TypedDict):
    """Which run is wanted, as the command line says it."""

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
    wish = _wish(options["account_id"], options)
    sys.exit(run_async(_backfill(set_up(config_path).walking, wish, follow=follow, as_json=as_json)))


def _wish(account_id: str, options: BackfillOptions) -> Wish:
    older_than_s = options["older_than"]
    if older_than_s is None and options["force"]:
        older_than_s = 86_400
    return Wish(account_id, options["batch_size"], options["dry_run"], options["most"], older_than_s)


def _steering(how: Steering, text: str) -> None:
    """Add a command of `backfill` that steers the run that is not finished."""

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


async def _backfill(access: WalkingAccess, wish: Wish, *, follow: bool, as_json: bool) -> int:
    """Start a run, watch it if asked to (without a daemon: always), and say what came of it; the exit code."""
    async with _runs(access) as runs:
        run = await runs.start(wish)
        if (follow or runs.ends_with_us) and not wish.dry_run:
            run = await _watch(runs, run, quiet=as_json)
        finished = RunStatus(run.status).finished and not run.dry_run
        details = await runs.details(run.job_id, 0) if finished else run
        lines = [] if as_json or not finished else await _problems(runs, run)
    if as_json:
        click.echo(msgspec.json.encode(details).decode())
    else:
        click.echo("\n".join([_told(run), *lines]))
    return WITH_ERRORS if finished and not run.success else EX_OK


async def _steer(access: CommandAccess[Database], account_id: str, how: Steering, *, as_json: bool) -> None:
    """Pause, resume or cancel the run of an account, through the daemon or in the file."""
    async with access.open() as opened:
        if isinstance(opened, AdminClient):
            run = await _RemoteRuns(opened).steer(account_id, how)
        else:
            backfills = BackfillStore(opened)
            run = await _LocalRuns(BackfillService(backfills, Clock()), backfills).steer(account_id, how)
    if as_json:
        click.echo(msgspec.json.encode(run).decode())
    else:
        click.echo(f"run {run.job_id}: {run.status}, {run.total_processed} of {run.total} conversations are done")


async def _problems(runs: Runs, run: BackfillSummary) -> list[str]:
    """Who failed, and why; of those that were skipped, how many and why."""
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
        yield _RemoteRuns(opened) if isinstance(opened, AdminClient) else _LocalRuns(*opened)


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
        lacking = f"{counted(run.total, 'conversation')} {'lacks' if run.total == 1 else 'lack'} a profile"
        if not run.skipped_count:
            return lacking
        return f"{lacking}; {run.skipped_count} of them would be skipped: {_SKIPPED}"
    if not RunStatus(run.status).finished:
        return f"run {run.job_id}: {run.status}, {counted(run.total, 'conversation')}; see {run.links.self_}"
    profiles, errors = counted(run.success_count, "profile"), counted(run.error_count, "error")
    counts = f"{profiles}, {errors}, {run.skipped_count} skipped"
    return f"run {run.job_id}: {run.status}, {counts} of {counted(run.total, 'conversation')}"


class _LocalRuns:
    ends_with_us = True

    def __init__(self, service: BackfillService, backfills: BackfillStore) -> None:
        self._service = service
        self._backfills = backfills
        self._clock = Clock()

    async def start(self, wish: Wish) -> BackfillSummary:
        if not self._service.serves(wish.account_id):
            msg = f"no account {wish.account_id} is served; 'inboxd account list' shows which are"
            raise NotServedError(msg)
        try:
            run = await self._service.start(
                wish.account_id,
                origin="command",
                batch_size=wish.batch_size,
                max_conversations=wish.max_conversations,
                refresh_before=_refresh_before(wish, self._clock.now_ms()),
                dry_run=wish.dry_run,
            )
        except RunActiveError as error:
            found = await self._backfills.get(error.run_id)
            if found is None or found.status is RunStatus.PAUSED:
                raise StillActiveError(str(error)) from error
            run = found  # of a daemon that was stopped: it goes on where it was
        return self._summary(run)

    async def details(self, run_id: str, offset: int) -> BackfillResource:
        problems = await self._backfills.problems(run_id, limit=PAGE, offset=offset)
        return BackfillResource(
            **self._fields(await self._get(run_id)),
            errors=[BackfillProblem.of(problem) for problem in problems],
            limit=PAGE,
            offset=offset,
            batches=[],
        )

    async def steer(self, account_id: str, how: Steering) -> BackfillSummary:
        run = await self._backfills.active(account_id)
        if run is None:
            raise NoRunError(account_id)
        if not await self._service.steer(run, how):
            msg = f"the run {run.id} is {run.status.value}"
            raise StillActiveError(msg)
        return self._summary(await self._get(run.id))

    async def _get(self, run_id: str) -> BackfillRun:
        run = await self._backfills.get(run_id)
        if run is None:
            msg = f"the run {run_id} is gone"
            raise NotServedError(msg)
        return run

    async def look(self, run_id: str) -> BackfillSummary:
        run = await self._get(run_id)
        summary = self._summary(run)
        if summary.status == RunStatus.PAUSED:
            raise NotServedError(summary.reason or "the run is paused")
        return summary

    def _summary(self, run: BackfillRun) -> BackfillSummary:
        return BackfillSummary(**self._fields(run))

    def _fields(self, run: BackfillRun) -> dict[str, Any]:
        return BackfillSummary.fields_of(run, self._service.estimate(run), self._clock.now_ms(), PATH)


class _RemoteRuns:
    ends_with_us = False

    def __init__(self, remote: AdminClient) -> None:
        self._remote = remote

    async def start(self, wish: Wish) -> BackfillSummary:
        older: dict[str, Any] = (
            {} if wish.older_than_s is None else {"force": True, "older_than_seconds": wish.older_than_s}
        )
        wanted = NewBackfill(
            account_id=wish.account_id,
            batch_size=wish.batch_size,
            max_conversations=wish.max_conversations,
            dry_run=wish.dry_run,
            **older,
        )
        return await self._remote.call("POST", PATH, BackfillSummary, wanted, absent=NotServedError)

    async def look(self, run_id: str) -> BackfillSummary:
        return await self._remote.call("GET", f"{PATH}/{run_id}", BackfillSummary)

    async def details(self, run_id: str, offset: int) -> BackfillResource:
        return await self._remote.call("GET", f"{PATH}/{run_id}?limit={PAGE}&offset={offset}", BackfillResource)

    async def steer(self, account_id: str, how: Steering) -> BackfillSummary:
        for status in UNFINISHED:  # there is one at most
            path = f"{PATH}?{urlencode({'accountId': account_id, 'status': status.value, 'limit': 1})}"
            for run in (await self._remote.call("GET", path, BackfillList)).backfills:
                return await self._remote.call("POST", f"{PATH}/{run.job_id}/{how.value}", BackfillSummary)
        raise NoRunError(account_id)


def _refresh_before(wish: Wish, now: int) -> int:
    return 0 if wish.older_than_s is None else now - wish.older_than_s * 1000
