"""Backfill runs are started here, for the API, the pages, the schedule and the command."""

import math
from typing import Final

from inboxd.domain.backfill import BackfillRun
from inboxd.domain.budget import Priority
from inboxd.runs.backfill.store import BackfillStore
from inboxd.runs.service import Pace, RunService
from inboxd.runtime.clock import Clock

PACE: Final = Pace(Priority.BACKFILL, lambda graph: graph.profiles_throttle, math.inf)


class BackfillService(RunService[BackfillRun]):
    """Starts, steers and estimates runs. A run is carried out by the worker of its account."""

    def __init__(self, backfills: BackfillStore, clock: Clock) -> None:
        super().__init__(backfills, clock, PACE)
        self._backfills = backfills

    async def start(
        self,
        account_id: str,
        *,
        origin: str,
        batch_size: int,
        max_conversations: int | None = None,
        refresh_before: int = 0,
        dry_run: bool = False,
        key: str | None = None,
        request_hash: bytes | None = None,
    ) -> BackfillRun:
        """Store a new run and return it: queued, or completed at once when it only counts (`dry_run`).

        Profiles fetched before `refresh_before` (ms) are fetched again. With a `key` that was used before, for a
        request with the same hash, the run of that time is returned.

        Raises RunActiveError, KeyReusedError, StorageError.
        """
        total, skipped = await self._backfills.count(account_id, refresh_before, self._clock.now_ms())
        if max_conversations is not None:
            total = min(total, max_conversations)
        run = BackfillRun(
            **self._new(account_id, origin=origin, dry_run=dry_run, max_conversations=max_conversations),
            batch_size=batch_size,
            refresh_before=refresh_before,
            total=total,
            skipped_count=min(skipped, total) if dry_run else 0,
        )
        return await self._create(run, key=key, request_hash=request_hash)
