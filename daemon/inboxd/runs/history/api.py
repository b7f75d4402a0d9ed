"""`/api/workers/import-history`: start, watch and steer history imports."""

from collections.abc import Sequence
from http import HTTPStatus
from typing import Any

from aiohttp import web

from inboxd.domain.history import HistoryRun, since_ms
from inboxd.events.streams import EventStreams
from inboxd.http.operations import Operation, Page, body
from inboxd.http.problems import ProblemError
from inboxd.runs.api import RunsApi
from inboxd.runs.history.resources import (
    EXAMPLE,
    PATH,
    HistoryProblem,
    ImportList,
    ImportResource,
    ImportSummary,
    NewHistoryImport,
)
from inboxd.runs.history.service import HistoryOptions, HistoryService
from inboxd.runs.history.store import HistoryStore
from inboxd.runs.resources import details
from inboxd.runs.store import Attempt, Batch
from inboxd.runtime.clock import Clock


class ImportsApi(RunsApi[HistoryRun]):
    """The operations on history imports."""

    path = PATH

    def __init__(self, service: HistoryService, imports: HistoryStore, streams: EventStreams, clock: Clock) -> None:
        super().__init__(service, imports, streams, clock)
        self._history = service

    def operations(self) -> Sequence[Operation]:
        """The operations that it offers."""
        start = self._starting(ImportSummary, NewHistoryImport, EXAMPLE)
        return [
            Operation("POST", PATH, self.start, **start),
            *self._watching(ImportSummary, ImportList, ImportResource),
        ]

    async def start(self, request: web.Request) -> web.Response:
        """Start an import of the messages that are in an account's mailbox at Meta.

        It walks all conversations, or `maxConversations` of them, and adds the messages since `since` that are not
        here. They do not count as unread. `emitEvents` tells them in the event log. `dryRun` only counts conversations,
        for which it reads the list.
        """
        wanted = body(request, NewHistoryImport)
        try:
            since = 0 if wanted.since is None else since_ms(wanted.since, self._clock.now_ms())
        except ValueError as error:
            raise ProblemError(HTTPStatus.UNPROCESSABLE_ENTITY, f"'since': {error}.") from error
        options = HistoryOptions(
            since=since,
            max_conversations=wanted.max_conversations,
            emit_events=wanted.emit_events,
            dry_run=wanted.dry_run,
        )

        async def start(key: str | None, request_hash: bytes) -> HistoryRun:
            return await self._history.start(
                wanted.account_id, options, origin="api", key=key, request_hash=request_hash
            )

        return await self._started(request, wanted.account_id, wanted, start)

    def _fields(self, run: HistoryRun) -> dict[str, Any]:
        return ImportSummary.fields_of(run, self._service.estimate(run), self._clock.now_ms())

    def _summary(self, run: HistoryRun) -> ImportSummary:
        return ImportSummary(**self._fields(run))

    def _list(self, runs: Sequence[HistoryRun], total: int, asked: Page) -> ImportList:
        shown = [self._summary(run) for run in runs]
        return ImportList(imports=shown, total=total, limit=asked.limit, offset=asked.offset)

    def _details(
        self, run: HistoryRun, problems: Sequence[Attempt], batches: Sequence[Batch], asked: Page
    ) -> ImportResource:
        shown = [HistoryProblem.of(attempt) for attempt in problems]
        return ImportResource(**self._fields(run), **details(shown, batches, limit=asked.limit, offset=asked.offset))
