"""Carry out the deletions that accounts' owners asked Meta for, in steps that no webhook has to wait for."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from inboxd import logs
from inboxd.clock import Clock
from inboxd.errors import StorageClosedError, StorageError
from inboxd.store import mentions
from inboxd.store.database import Database
from inboxd.store.deletions import Deletions, OpenDeletion

ROUND_S: Final = 3600.0
STORAGE_REST_S: Final = 5.0
STEP: Final = 200
STEP_REST_S: Final = 0.02
KEEP_RECEIPTS_MS: Final = 2 * 365 * 86_400_000


class Eraser:
    """Erases accounts. `on_erased` is told of each whose data is gone; `aliases` leads from every id to its account."""

    name = "deletion"

    def __init__(
        self,
        database: Database,
        aliases: Mapping[str, str],
        clock: Clock,
        *,
        on_erased: Callable[[str], Awaitable[None]],
    ) -> None:
        self._database = database
        self._deletions = Deletions(database)
        self._aliases = aliases
        self._clock = clock
        self._on_erased = on_erased
        self._wake = asyncio.Event()
        self._stopping = False
        self._log = logs.get("deletion")

    def wake(self) -> None:
        """Something was requested."""
        self._wake.set()

    def stop(self) -> None:
        """End `run` after the step in hand; what is left is done after the next start."""
        self._stopping = True
        self._wake.set()

    async def run(self) -> None:
        """Carry out what was requested, until `stop`."""
        while not self._stopping:
            self._wake.clear()
            try:
                while (request := await self._deletions.next_open()) is not None and not self._stopping:
                    await self._erase(request)
                await self._deletions.expire(self._clock.now_ms() - KEEP_RECEIPTS_MS)
            except StorageClosedError:
                raise
            except StorageError as error:
                self._log.warning("deletion_waits_for_storage", error=str(error))
                await self._clock.sleep(STORAGE_REST_S)
                continue
            await self._clock.wait(self._wake, ROUND_S)

    async def _erase(self, request: OpenDeletion) -> None:
        removed = await self._erase_rows(request.account_id)
        await self._erase_deliveries(request.account_id)
        removed += await self._erase_rows(request.account_id)  # what was still in the queue meanwhile
        if self._stopping:
            return
        await self._on_erased(request.account_id)
        await self._deletions.complete(request.code, self._clock.now_ms())
        self._log.info("deletion_completed", code=request.code, rows=removed)

    async def _erase_deliveries(self, account_id: str) -> None:
        ids = {account_id, *(alias for alias, one in self._aliases.items() if one == account_id)}
        after: int | None = 0
        while after is not None and not self._stopping:
            found = await mentions.find(self._database, ids, after=after, step=STEP)
            if found.settled:
                await mentions.erase(self._database, found.settled)
            after = found.last_id
            await self._clock.sleep(STEP_REST_S)

    async def _erase_rows(self, account_id: str) -> int:
        removed = 0
        while not self._stopping:
            step = await self._deletions.erase_step(account_id, STEP)
            if step == 0:
                break
            removed += step
            await self._clock.sleep(STEP_REST_S)
        return removed
