"""`/api/workers/backfill-profiles`: start, watch and steer backfill runs."""

import hashlib
import re
from collections.abc import Sequence
from http import HTTPStatus
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from inboxd.domain.backfill import BackfillRun
from inboxd.domain.run import Estimate, RunStatus, Steering
from inboxd.events.store import EventFilter
from inboxd.events.streams import EventStreams, FirstEvent
from inboxd.http.operations import Operation, Page, answer, body, not_found, page_links, query
from inboxd.http.problems import ProblemError
from inboxd.runs.backfill.resources import (
    BackfillBatch,
    BackfillList,
    BackfillProblem,
    BackfillResource,
    BackfillSummary,
    NewBackfill,
)
from inboxd.runs.backfill.service import BackfillService
from inboxd.runs.backfill.store import BackfillStore
from inboxd.runs.event_types import COMPLETED
from inboxd.runs.store import KeyReusedError, RunActiveError
from inboxd.runtime.clock import Clock

PATH: Final = "/api/workers/backfill-profiles"
ALIAS: Final = "/api/workers/backfill-participant-profiles"
_KEY: Final = {
    "pattern": "^[!-~]{1,200}$",
    "description": "The same key and request start one run, however often they are sent.",
}
_BATCHES_SHOWN: Final = 20


class BackfillQuery(Page, frozen=True):
    """Which runs."""

    account_id: Annotated[str, Meta(description="Of this account.")] | None = None
    status: RunStatus | None = None


class BackfillsApi:
    """The operations on backfill runs."""

    def __init__(self, service: BackfillService, backfills: BackfillStore, streams: EventStreams, clock: Clock) -> None:
        self._service = service
        self._backfills = backfills
        self._streams = streams
        self._clock = clock

    def operations(self) -> Sequence[Operation]:
        """The operations that it offers."""
        one = PATH + "/{id}"
        tag = "backfill"
        start: dict[str, Any] = {
            "tag": tag,
            "answers": {202: BackfillSummary},
            "body": NewBackfill,
            "problems": (409,),
            "headers": {"Idempotency-Key": _KEY},
            "examples": {"body": {"accountId": "17841400000000001", "batchSize": 10}},
        }
        return [
            Operation("POST", PATH, self.start, **start),
            Operation("POST", ALIAS, self.start_alias, **start),
            Operation("GET", PATH, self.page, tag, {200: BackfillList}, query=BackfillQuery),
            Operation("GET", one, self.one, tag, {200: BackfillResource}, query=Page),
            Operation("GET", one + "/events", self.events, tag, {200: "text/event-stream"}),
            Operation("POST", one + "/pause", self.pause, tag, {200: BackfillSummary}, problems=(409,)),
            Operation("POST", one + "/resume", self.resume, tag, {200: BackfillSummary}, problems=(409,)),
            Operation("POST", one + "/cancel", self.cancel, tag, {200: BackfillSummary}, problems=(409,)),
        ]

    async def start(self, request: web.Request) -> web.Response:
        """Start a backfill of the profiles that an account's conversations lack.

        It walks all of them, newest activity first, one at a time. `dryRun` only counts: `total`, and
        under `skippedCount` those that nobody would be asked about. `force` also refreshes profiles older than
        `olderThanSeconds`.
        """
        wanted = body(request, NewBackfill)
        if not self._service.serves(wanted.account_id):
            raise ProblemError(HTTPStatus.NOT_FOUND, f"No account {wanted.account_id} is served; see /api/accounts.")
        key = request.headers.get("Idempotency-Key")
        if key is not None and re.fullmatch(_KEY["pattern"], key) is None:
            raise ProblemError(HTTPStatus.BAD_REQUEST, "Idempotency-Key must be 1 to 200 visible ASCII characters.")
        now = self._clock.now_ms()
        try:
            run = await self._service.start(
                wanted.account_id,
                origin="api",
                batch_size=wanted.batch_size,
                max_conversations=wanted.max_conversations,
                refresh_before=now - wanted.older_than_seconds * 1000 if wanted.force else 0,
                dry_run=wanted.dry_run,
                key=key,
                request_hash=hashlib.sha256(msgspec.json.encode(wanted)).digest(),
            )
        except RunActiveError as error:
            detail = f"The run {error.run_id} of this account is not finished: {PATH}/{error.run_id}"
            raise ProblemError(HTTPStatus.CONFLICT, detail) from error
        except KeyReusedError as error:
            detail = "This Idempotency-Key was used before, for another request."
            raise ProblemError(HTTPStatus.CONFLICT, detail) from error
        location = {"Location": f"{PATH}/{run.id}"}
        return answer(self._summary(run), status=HTTPStatus.ACCEPTED, headers=location)

    async def start_alias(self, request: web.Request) -> web.Response:
        """Start a backfill, by the other name that it had."""
        return await self.start(request)

    async def page(self, request: web.Request) -> web.Response:
        """Backfill runs, the latest first. Finished ones are kept for `backfill.keep_runs_days`."""
        asked = query(request, BackfillQuery)
        runs, total = await self._backfills.page(
            account_id=asked.account_id, status=asked.status, limit=asked.limit, offset=asked.offset
        )
        listed = BackfillList(
            backfills=[self._summary(run) for run in runs], total=total, limit=asked.limit, offset=asked.offset
        )
        return answer(listed, headers=page_links(request, total=total, limit=asked.limit, offset=asked.offset))

    async def one(self, request: web.Request) -> web.Response:
        """One run: how it stands, a page of its errors, and its latest batches."""
        asked = query(request, Page)
        run = await self._find(request)
        problems = await self._backfills.problems(run.id, limit=asked.limit, offset=asked.offset)
        batches = await self._backfills.batches(run.id, _BATCHES_SHOWN)
        resource = BackfillResource(
            **self._fields(run),
            errors=[BackfillProblem.of(attempt) for attempt in problems],
            limit=asked.limit,
            offset=asked.offset,
            batches=[BackfillBatch.of(batch) for batch in batches],
        )
        return answer(resource)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """A run's progress as server-sent events, until it has finished."""
        run = await self._find(request)

        async def first() -> FirstEvent:
            now = await self._find(request)
            return FirstEvent("backfill.state", msgspec.json.encode(self._summary(now)), now.status.finished)

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

    async def _find(self, request: web.Request) -> BackfillRun:
        run = await self._backfills.get(request.match_info["id"])
        if run is None:
            raise not_found("backfill run")
        return run

    def _fields(self, run: BackfillRun) -> dict[str, Any]:
        estimate: Estimate = self._service.estimate(run)
        return BackfillSummary.fields_of(run, estimate, self._clock.now_ms(), PATH)

    def _summary(self, run: BackfillRun) -> BackfillSummary:
        return BackfillSummary(**self._fields(run))
