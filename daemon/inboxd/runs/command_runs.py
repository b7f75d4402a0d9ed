"""Runs, as commands start, watch and steer them: through the running daemon, or on the database itself."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol
from urllib.parse import urlencode

from inboxd.domain.run import UNFINISHED, Estimate, RunStatus, Steering
from inboxd.http.client import AdminClient
from inboxd.http.resource import Resource
from inboxd.runs.resources import RunProblem, RunSummary
from inboxd.runs.service import RunService
from inboxd.runs.store import Attempt, RunActiveError, RunStore
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

    def __init__(self, account_id: str, what: str) -> None:
        super().__init__(f"the account {account_id} has no {what} that is not finished")


class StillActiveError(InboxdError):
    """The status of the account's unfinished run does not allow what was asked for."""

    exit_code = EX_TEMPFAIL


class NewRun(NamedTuple):
    """The run that is to be started."""

    account_id: str
    body: Resource
    """What the running daemon is sent."""
    start: Callable[[Any], Awaitable[Any]]
    """Starts it without a daemon, given the kind's service. May raise RunActiveError."""
    dry_run: bool


class Details(NamedTuple):
    """A run with the PAGE problems from some number on. `resource` is all of it, for JSON."""

    resource: Resource
    problems: Sequence[RunProblem]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunsOfKind:
    """What a command must know of one kind of run. Runs are of the kind's own types, which only the kind knows."""

    what: str
    """A run of this kind, in words."""
    path: str
    summary: type[RunSummary]
    resource: Any
    """The type of a run with its problems."""
    listed: Any
    """The type of a list of runs."""
    rows: Callable[[Any], Sequence[RunSummary]]
    """The runs of such a list."""
    fields: Callable[[Any, Estimate, int], dict[str, Any]]
    """The values of a summary, from a run, its estimate and the time (ms)."""
    problem: Callable[[Attempt], RunProblem]


class Runs(Protocol):
    """How a command starts, watches and steers runs. Every method raises InboxdError."""

    ends_with_us: bool
    """Whether a run goes on only as long as this process lives."""

    async def start(self, new: NewRun) -> RunSummary:
        """Start a run."""

    async def look(self, run_id: str) -> RunSummary:
        """The run as it is now."""

    async def details(self, run_id: str, offset: int) -> Details:
        """The run with the PAGE problems from number `offset` on."""

    async def unfinished(self, account_id: str) -> RunSummary:
        """The account's run that is not finished."""

    async def steer(self, account_id: str, how: Steering) -> RunSummary:
        """Pause, resume or cancel the account's run that is not finished."""


class LocalRuns:
    """Runs on the database itself, when no daemon runs."""

    ends_with_us = True

    def __init__(self, kind: RunsOfKind, service: RunService[Any], runs: RunStore[Any]) -> None:
        self._kind = kind
        self._service = service
        self._runs = runs
        self._clock = Clock()

    async def start(self, new: NewRun) -> RunSummary:
        """Start a run, or go on with the one that a stopped daemon left. Raises CannotRunError, StillActiveError."""
        if not self._service.serves(new.account_id):
            msg = f"no account {new.account_id} is served; 'inboxd account list' shows which are"
            raise CannotRunError(msg)
        try:
            run = await new.start(self._service)
        except RunActiveError as error:
            found = await self._runs.get(error.run_id)
            if found is None or found.status is RunStatus.PAUSED or found.dry_run is not new.dry_run:
                raise StillActiveError(str(error)) from error
            run = found  # a stopped daemon left it: it goes on where it was
        return self._summary(run)

    async def look(self, run_id: str) -> RunSummary:
        """The run as it is now. Raises CannotRunError when it cannot go on, or is gone."""
        summary = self._summary(await self._get(run_id))
        if summary.status == RunStatus.PAUSED:
            raise CannotRunError(summary.reason or "the run is paused")
        return summary

    async def details(self, run_id: str, offset: int) -> Details:
        """The run with the PAGE problems from number `offset` on."""
        attempts = await self._runs.problems(run_id, limit=PAGE, offset=offset)
        problems = [self._kind.problem(attempt) for attempt in attempts]
        fields = self._fields(await self._get(run_id))
        resource = self._kind.resource(**fields, errors=problems, limit=PAGE, offset=offset, batches=[])
        return Details(resource, problems)

    async def unfinished(self, account_id: str) -> RunSummary:
        """The account's run that is not finished. Raises NoRunError."""
        return self._summary(await self._unfinished(account_id))

    async def steer(self, account_id: str, how: Steering) -> RunSummary:
        """Pause, resume or cancel the account's run that is not finished. Raises NoRunError, StillActiveError."""
        run = await self._unfinished(account_id)
        if not await self._service.steer(run, how):
            msg = f"the run {run.id} is {run.status.value}"
            raise StillActiveError(msg)
        return self._summary(await self._get(run.id))

    async def _unfinished(self, account_id: str) -> Any:  # noqa: ANN401 - a run of the kind
        run = await self._runs.active(account_id)
        if run is None:
            raise NoRunError(account_id, self._kind.what)
        return run

    async def _get(self, run_id: str) -> Any:  # noqa: ANN401 - a run of the kind
        run = await self._runs.get(run_id)
        if run is None:
            msg = f"the run {run_id} is gone"
            raise CannotRunError(msg)
        return run

    def _summary(self, run: Any) -> RunSummary:  # noqa: ANN401 - a run of the kind
        return self._kind.summary(**self._fields(run))

    def _fields(self, run: Any) -> dict[str, Any]:  # noqa: ANN401 - a run of the kind
        return self._kind.fields(run, self._service.estimate(run), self._clock.now_ms())


class RemoteRuns:
    """Runs of the running daemon, through its admin API."""

    ends_with_us = False

    def __init__(self, kind: RunsOfKind, remote: AdminClient) -> None:
        self._kind = kind
        self._remote = remote

    async def start(self, new: NewRun) -> RunSummary:
        """Start a run. Raises CannotRunError."""
        return await self._remote.call("POST", self._kind.path, self._kind.summary, new.body, absent=CannotRunError)

    async def look(self, run_id: str) -> RunSummary:
        """The run as it is now."""
        return await self._remote.call("GET", f"{self._kind.path}/{run_id}", self._kind.summary)

    async def details(self, run_id: str, offset: int) -> Details:
        """The run with the PAGE problems from number `offset` on."""
        address = f"{self._kind.path}/{run_id}?limit={PAGE}&offset={offset}"
        found = await self._remote.call("GET", address, self._kind.resource)
        return Details(found, found.errors)

    async def unfinished(self, account_id: str) -> RunSummary:
        """The account's run that is not finished. Raises NoRunError."""
        for status in UNFINISHED:  # there is one at most
            query = urlencode({"accountId": account_id, "status": status.value, "limit": 1})
            for run in self._kind.rows(await self._remote.call("GET", f"{self._kind.path}?{query}", self._kind.listed)):
                return run
        raise NoRunError(account_id, self._kind.what)

    async def steer(self, account_id: str, how: Steering) -> RunSummary:
        """Pause, resume or cancel the account's run that is not finished. Raises NoRunError."""
        run = await self.unfinished(account_id)
        return await self._remote.call("POST", f"{self._kind.path}/{run.job_id}/{how.value}", self._kind.summary)
