"""What the operations on runs of every kind have in common: watching, steering, and the answers to a start."""

import hashlib
import re
from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus
from typing import Annotated, Any, Final, Generic, TypeVar

import msgspec
from aiohttp import web
from msgspec import Meta

from inboxd.domain.run import Run, RunStatus, Steering
from inboxd.events.store import EventFilter
from inboxd.events.streams import EventStreams, FirstEvent
from inboxd.http.operations import Operation, Page, answer, not_found, page_links, query
from inboxd.http.problems import ProblemError
from inboxd.http.resource import Resource
from inboxd.runs.event_types import COMPLETED
from inboxd.runs.service import RunService
from inboxd.runs.store import Attempt, Batch, KeyReusedError, RunActiveError, RunStore
from inboxd.runtime.clock import Clock

R = TypeVar("R", bound=Run)
_KEY: Final = {
    "pattern": "^[!-~]{1,200}$",
    "description": "The same key and request start one run, however often they are sent.",
}
_BATCHES_SHOWN: Final = 20


class RunQuery(Page, frozen=True):
    """Which runs."""

    account_id: Annotated[str, Meta(description="Of this account.")] | None = None
    status: RunStatus | None = None


class RunsApi(Generic[R]):
    """The operations on the runs of one kind. A subclass for each kind has `start`, and says what runs look like."""

    path: str
    """Where the runs are."""

    def __init__(self, service: RunService[R], runs: RunStore[R], streams: EventStreams, clock: Clock) -> None:
        self._service = service
        self._runs = runs
        self._streams = streams
        self._clock = clock

    def _summary(self, run: R) -> Resource:
        """A run as it stands now."""
        raise NotImplementedError

    def _list(self, runs: Sequence[R], total: int, asked: Page) -> Resource:
        """A page of runs."""
        raise NotImplementedError

    def _details(self, run: R, problems: Sequence[Attempt], batches: Sequence[Batch], asked: Page) -> Resource:
        """A run with its problems and batches."""
        raise NotImplementedError

    def _starting(self, summary: type[Resource], body: type[Resource], example: dict[str, Any]) -> dict[str, Any]:
        """What an operation that starts a run declares."""
        return {
            "tag": self._runs.kind.value,
            "answers": {202: summary},
            "body": body,
            "problems": (409,),
            "headers": {"Idempotency-Key": _KEY},
            "examples": {"body": example},
        }

    def _watching(
        self, summary: type[Resource], listed: type[Resource], resource: type[Resource]
    ) -> Sequence[Operation]:
        """The operations that every kind has."""
        tag, one, name = self._runs.kind.value, self.path + "/{id}", type(self).__name__.removesuffix("Api")
        steered: dict[str, Any] = {"tag": tag, "answers": {200: summary}, "problems": (409,)}
        stream: dict[int, Any] = {200: "text/event-stream"}
        return [
            Operation("GET", self.path, self.page, tag, {200: listed}, query=RunQuery, id=f"{name}_page"),
            Operation("GET", one, self.one, tag, {200: resource}, query=Page, id=f"{name}_one"),
            Operation("GET", one + "/events", self.events, tag, stream, id=f"{name}_events"),
            Operation("POST", one + "/pause", self.pause, id=f"{name}_pause", **steered),
            Operation("POST", one + "/resume", self.resume, id=f"{name}_resume", **steered),
            Operation("POST", one + "/cancel", self.cancel, id=f"{name}_cancel", **steered),
        ]

    async def _started(
        self,
        request: web.Request,
        account_id: str,
        wanted: Resource,
        start: Callable[[str | None, bytes], Awaitable[R]],
    ) -> web.Response:
        """The answer to a request for a run, which `start` begins; it is given the key and a hash of the request."""
        if not self._service.serves(account_id):
            raise ProblemError(HTTPStatus.NOT_FOUND, f"No account {account_id} is served; see /api/accounts.")
        key = request.headers.get("Idempotency-Key")
        if key is not None and re.fullmatch(_KEY["pattern"], key) is None:
            raise ProblemError(HTTPStatus.BAD_REQUEST, "Idempotency-Key must be 1 to 200 visible ASCII characters.")
        try:
            run = await start(key, hashlib.sha256(msgspec.json.encode(wanted)).digest())
        except RunActiveError as error:
            detail = f"The run {error.run_id} of this account is not finished: {self.path}/{error.run_id}"
            raise ProblemError(HTTPStatus.CONFLICT, detail) from error
        except KeyReusedError as error:
            detail = "This Idempotency-Key was used before, for another request."
            raise ProblemError(HTTPStatus.CONFLICT, detail) from error
        location = {"Location": f"{self.path}/{run.id}"}
        return answer(self._summary(run), status=HTTPStatus.ACCEPTED, headers=location)

    async def page(self, request: web.Request) -> web.Response:
        """Runs of this kind, the latest first. Finished ones are kept for `backfill.keep_runs_days`."""
        asked = query(request, RunQuery)
        runs, total = await self._runs.page(
            account_id=asked.account_id, status=asked.status, limit=asked.limit, offset=asked.offset
        )
        links = page_links(request, total=total, limit=asked.limit, offset=asked.offset)
        return answer(self._list(runs, total, asked), headers=links)

    async def one(self, request: web.Request) -> web.Response:
        """One run: how it stands, a page of its errors, and its latest batches."""
        asked = query(request, Page)
        run = await self._find(request)
        problems = await self._runs.problems(run.id, limit=asked.limit, offset=asked.offset)
        batches = await self._runs.batches(run.id, _BATCHES_SHOWN)
        return answer(self._details(run, problems, batches, asked))

    async def events(self, request: web.Request) -> web.StreamResponse:
        """A run's progress as server-sent events, until it has finished."""
        run = await self._find(request)

        async def first() -> FirstEvent:
            now = await self._find(request)
            name = f"{self._runs.kind.value}.state"
            return FirstEvent(name, msgspec.json.encode(self._summary(now)), now.status.finished)

        only = EventFilter(subject=run.id)
        return await self._streams.serve(request, only, ends=lambda event: event.type == COMPLETED.name, first=first)

    async def pause(self, request: web.Request) -> web.Response:
        """Pause a run; what is done stays done."""
        return await self._steer(request, Steering.PAUSE)

    async def resume(self, request: web.Request) -> web.Response:
        """Go on with a paused run, where it was."""
        return await self._steer(request, Steering.RESUME)

    async def cancel(self, request: web.Request) -> web.Response:
        """End a run for good; what is done stays done."""
        return await self._steer(request, Steering.CANCEL)

    async def _steer(self, request: web.Request, how: Steering) -> web.Response:
        run = await self._find(request)
        if not await self._service.steer(run, how):
            raise ProblemError(HTTPStatus.CONFLICT, f"The run is {(await self._find(request)).status.value}.")
        return answer(self._summary(await self._find(request)))

    async def _find(self, request: web.Request) -> R:
        run = await self._runs.get(request.match_info["id"])
        if run is None:
            raise not_found(f"{self._runs.kind.value} run")
        return run
