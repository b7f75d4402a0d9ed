"""`/api/workers/backfill-profiles`: start, watch and steer backfill runs."""

from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from inboxd.domain.backfill import BackfillRun
from inboxd.events.streams import EventStreams
from inboxd.http.operations import Operation, Page, body
from inboxd.runs.api import RunsApi
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
from inboxd.runs.resources import details
from inboxd.runs.store import Attempt, Batch
from inboxd.runtime.clock import Clock

ALIAS: Final = "/api/workers/backfill-participant-profiles"


class BackfillsApi(RunsApi[BackfillRun]):
    """The operations on backfill runs."""

    path = PATH

    def __init__(self, service: BackfillService, backfills: BackfillStore, streams: EventStreams, clock: Clock) -> None:
        super().__init__(service, backfills, streams, clock)
        self._backfill = service

    def operations(self) -> Sequence[Operation]:
        """The operations that it offers."""
        start = self._starting(BackfillSummary, NewBackfill, {"accountId": "17841400000000001", "batchSize": 10})
        return [
            Operation("POST", PATH, self.start, **start),
            Operation("POST", ALIAS, self.start_alias, **start),
            *self._watching(BackfillSummary, BackfillList, BackfillResource),
        ]

    async def start(self, request: web.Request) -> web.Response:
        """Start a backfill of the profiles that an account's conversations lack.

        It walks all of them, newest activity first, one at a time. `dryRun` only counts: `total`, and
        under `skippedCount` those that nobody would be asked about. `force` also refreshes profiles older than
        `olderThanSeconds`.
        """
        wanted = body(request, NewBackfill)
        now = self._clock.now_ms()

        async def start(key: str | None, request_hash: bytes) -> BackfillRun:
            return await self._backfill.start(
                wanted.account_id,
                origin="api",
                batch_size=wanted.batch_size,
                max_conversations=wanted.max_conversations,
                refresh_before=now - wanted.older_than_seconds * 1000 if wanted.force else 0,
                dry_run=wanted.dry_run,
                key=key,
                request_hash=request_hash,
            )

        return await self._started(request, wanted.account_id, wanted, start)

    async def start_alias(self, request: web.Request) -> web.Response:
        """Start a backfill, by the other name that it had."""
        return await self.start(request)

    def _fields(self, run: BackfillRun) -> dict[str, Any]:
        return BackfillSummary.fields_of(run, self._service.estimate(run), self._clock.now_ms())

    def _summary(self, run: BackfillRun) -> BackfillSummary:
        return BackfillSummary(**self._fields(run))

    def _list(self, runs: Sequence[BackfillRun], total: int, asked: Page) -> BackfillList:
        shown = [self._summary(run) for run in runs]
        return BackfillList(backfills=shown, total=total, limit=asked.limit, offset=asked.offset)

    def _details(
        self, run: BackfillRun, problems: Sequence[Attempt], batches: Sequence[Batch], asked: Page
    ) -> BackfillResource:
        shown = [BackfillProblem.of(attempt) for attempt in problems]
        return BackfillResource(**self._fields(run), **details(shown, batches, limit=asked.limit, offset=asked.offset))
