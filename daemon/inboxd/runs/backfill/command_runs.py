"""Backfill runs, as commands start, watch and steer them: through the running daemon, or on the database itself."""

from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urlencode

from inboxd.domain.backfill import BackfillRun
from inboxd.domain.run import UNFINISHED, RunStatus, Steering
from inboxd.http.client import AdminClient
from inboxd.runs.backfill.resources import (
    PATH,
    BackfillList,
    BackfillProblem,
    BackfillResource,
    BackfillSummary,
    NewBackfill,
)
from inboxd.runs.backfill.service import BackfillService
from inboxd.runs.backfill.store import BackfillStore
from inboxd.runs.store import RunActiveError
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import EX_TEMPFAIL, EX_USAGE, InboxdError

PAGE: Final = 200
"""Problems of a run that `details` returns at a time."""


class CannotRunError(InboxdError):
    """The run cannot begin or go on: its account is not served or cannot be asked about, or the run is gone."""

    exit_code = EX_USAGE


class NoRunError(InboxdError):
    """The account has no run that is not finished."""

    exit_code = EX_USAGE

    def __init__(self, account_id: str) -> None:
        super().__init__(f"the account {account_id} has no backfill that is not finished")


class StillActiveError(InboxdError):
    """The status of the account's unfinished run does not allow what was asked for."""

    exit_code = EX_TEMPFAIL


class RunRequest(NamedTuple):
    """The run that is to be started."""

    account_id: str
    batch_size: int
    dry_run: bool
    max_conversations: int | None = None
    refresh_older_than_s: int | None = None
    """Profiles that were fetched longer ago than this are fetched again. None: they are not."""


class Runs(Protocol):
    """How a command starts, watches and steers runs. Every method raises InboxdError."""

    ends_with_us: bool
    """Whether a run goes on only as long as this process lives."""

    async def start(self, request: RunRequest) -> BackfillSummary:
        """Start a run."""

    async def look(self, run_id: str) -> BackfillSummary:
        """The run as it is now."""

    async def details(self, run_id: str, offset: int) -> BackfillResource:
        """The run with the PAGE problems from number `offset` on."""

    async def steer(self, account_id: str, how: Steering) -> BackfillSummary:
        """Pause, resume or cancel the account's run that is not finished."""


class LocalRuns:
    """Runs on the database itself, when no daemon runs."""

    ends_with_us = True

    def __init__(self, service: BackfillService, backfills: BackfillStore) -> None:
        self._service = service
        self._backfills = backfills
        self._clock = Clock()

    async def start(self, request: RunRequest) -> BackfillSummary:
        """Start a run, or go on with the one that a stopped daemon left. Raises CannotRunError, StillActiveError."""
        if not self._service.serves(request.account_id):
            msg = f"no account {request.account_id} is served; 'inboxd account list' shows which are"
            raise CannotRunError(msg)
        try:
            run = await self._service.start(
                request.account_id,
                origin="command",
                batch_size=request.batch_size,
                max_conversations=request.max_conversations,
                refresh_before=_refresh_before(request, self._clock.now_ms()),
                dry_run=request.dry_run,
            )
        except RunActiveError as error:
            found = await self._backfills.get(error.run_id)
            if found is None or found.status is RunStatus.PAUSED:
                raise StillActiveError(str(error)) from error
            run = found  # a stopped daemon left it: it goes on where it was
        return self._summary(run)

    async def look(self, run_id: str) -> BackfillSummary:
        """The run as it is now. Raises CannotRunError when it cannot go on, or is gone."""
        run = await self._get(run_id)
        summary = self._summary(run)
        if summary.status == RunStatus.PAUSED:
            raise CannotRunError(summary.reason or "the run is paused")
        return summary

    async def details(self, run_id: str, offset: int) -> BackfillResource:
        """The run with the PAGE problems from number `offset` on."""
        problems = await self._backfills.problems(run_id, limit=PAGE, offset=offset)
        return BackfillResource(
            **self._fields(await self._get(run_id)),
            errors=[BackfillProblem.of(problem) for problem in problems],
            limit=PAGE,
            offset=offset,
            batches=[],
        )

    async def steer(self, account_id: str, how: Steering) -> BackfillSummary:
        """Pause, resume or cancel the account's run that is not finished. Raises NoRunError, StillActiveError."""
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
            raise CannotRunError(msg)
        return run

    def _summary(self, run: BackfillRun) -> BackfillSummary:
        return BackfillSummary(**self._fields(run))

    def _fields(self, run: BackfillRun) -> dict[str, Any]:
        return BackfillSummary.fields_of(run, self._service.estimate(run), self._clock.now_ms())


class RemoteRuns:
    """Runs of the running daemon, through its admin API."""

    ends_with_us = False

    def __init__(self, remote: AdminClient) -> None:
        self._remote = remote

    async def start(self, request: RunRequest) -> BackfillSummary:
        """Start a run. Raises CannotRunError."""
        older: dict[str, Any] = (
            {}
            if request.refresh_older_than_s is None
            else {"force": True, "older_than_seconds": request.refresh_older_than_s}
        )
        wanted = NewBackfill(
            account_id=request.account_id,
            batch_size=request.batch_size,
            max_conversations=request.max_conversations,
            dry_run=request.dry_run,
            **older,
        )
        return await self._remote.call("POST", PATH, BackfillSummary, wanted, absent=CannotRunError)

    async def look(self, run_id: str) -> BackfillSummary:
        """The run as it is now."""
        return await self._remote.call("GET", f"{PATH}/{run_id}", BackfillSummary)

    async def details(self, run_id: str, offset: int) -> BackfillResource:
        """The run with the PAGE problems from number `offset` on."""
        return await self._remote.call("GET", f"{PATH}/{run_id}?limit={PAGE}&offset={offset}", BackfillResource)

    async def steer(self, account_id: str, how: Steering) -> BackfillSummary:
        """Pause, resume or cancel the account's run that is not finished. Raises NoRunError."""
        for status in UNFINISHED:  # there is one at most
            path = f"{PATH}?{urlencode({'accountId': account_id, 'status': status.value, 'limit': 1})}"
            for run in (await self._remote.call("GET", path, BackfillList)).backfills:
                return await self._remote.call("POST", f"{PATH}/{run.job_id}/{how.value}", BackfillSummary)
        raise NoRunError(account_id)


def _refresh_before(request: RunRequest, now: int) -> int:
    return 0 if request.refresh_older_than_s is None else now - request.refresh_older_than_s * 1000
