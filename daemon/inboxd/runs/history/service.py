"""History imports are started here, for the API, the pages and the command."""

from typing import Any, Final

import msgspec

from inboxd.domain.budget import Priority
from inboxd.domain.history import HistoryRun
from inboxd.domain.run import RunStatus
from inboxd.meta.account_graph import CONVERSATION_CALLS
from inboxd.runs.history.store import HistoryStore
from inboxd.runs.service import Pace, RunService
from inboxd.runtime.clock import Clock

PACE: Final = Pace(Priority.HISTORY, lambda graph: graph.conversations_throttle, CONVERSATION_CALLS, per_item=1.2)
"""Most conversations take one call, and the list takes one for many of them."""


class HistoryOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Which messages are imported."""

    since: int = 0
    """Messages from before this (ms) are left out."""
    max_conversations: int | None = None
    emit_events: bool = False
    dry_run: bool = False
    """Only the conversations are counted."""


class HistoryService(RunService[HistoryRun]):
    """Starts, steers and estimates imports. An import is carried out by the worker of its account."""

    def __init__(self, imports: HistoryStore, clock: Clock) -> None:
        super().__init__(imports, clock, PACE)

    async def start(
        self,
        account_id: str,
        options: HistoryOptions,
        *,
        origin: str,
        key: str | None = None,
        request_hash: bytes | None = None,
    ) -> HistoryRun:
        """Store a new import and return it. With a `key` that was used before, the run of that time is returned.

        Raises RunActiveError, KeyReusedError, StorageError.
        """
        most = options.max_conversations
        new: dict[str, Any] = self._new(account_id, origin=origin, dry_run=options.dry_run, max_conversations=most)
        if options.dry_run:  # to count, the list has to be read
            new |= {"status": RunStatus.QUEUED, "started_at": None, "finished_at": None}
        run = HistoryRun(**new, since=options.since, emit_events=options.emit_events, total=0)
        return await self._create(run, key=key, request_hash=request_hash)
