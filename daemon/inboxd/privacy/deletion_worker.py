"""Carry out the deletions that accounts' owners asked Meta for, in steps that no webhook has to wait for."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

from inboxd.privacy.account_eraser import AccountEraser, ErasureInterruptedError
from inboxd.privacy.deletion_store import DeletionOutcome, DeletionStore, OpenDeletion
from inboxd.privacy.erasure_store import Subject
from inboxd.runtime import logs
from inboxd.runtime.backoff import Backoff
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import StorageClosedError, StorageError

ROUND_S: Final = 3600.0
_AGAIN: Final = Backoff(base_s=30, cap_s=ROUND_S, jitter=0)
"""Before a deletion that could not be completed is tried again: all deliveries are looked through for it."""
STORAGE_REST_S: Final = 5.0
ROUNDS: Final = 10
_REMEDIES: Final = {
    "deliveries": "deliveries that name the account wait to be understood: look at what is pending",
    "files": "a picture file could not be removed: see avatar_not_removed",
    "journal": "another program reads the database all the time: stop it for a minute (Litestream, a shell)",
}


class DeletionWorker:
    """Erases accounts. `on_erased` is told of each whose rows are gone; `aliases` leads from every id to its account.

    A request is completed when nothing is left, the journal included; until then it is tried again, also after a
    restart.
    """

    name = "deletion"

    def __init__(
        self,
        eraser: AccountEraser,
        deletions: DeletionStore,
        aliases: Mapping[str, str],
        clock: Clock,
        *,
        on_erased: Callable[[str], Awaitable[None]],
    ) -> None:
        self._eraser = eraser
        self._deletions = deletions
        self._aliases = aliases
        self._clock = clock
        self._on_erased = on_erased
        self._started_at = clock.now_ms()
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
        """Carry out what was requested, until `stop`. Raises StorageClosedError."""
        tries = 0
        while not self._stopping:
            self._wake.clear()
            try:
                tries = 0 if await self.carry_out() else tries + 1
            except ErasureInterruptedError:
                return
            except StorageClosedError:
                raise
            except StorageError as error:
                self._log.warning("deletion_waits_for_storage", error=str(error))
                await self._clock.wait(self._wake, STORAGE_REST_S)
                continue
            if await self._clock.wait(self._wake, _AGAIN.delay_s(tries, lambda: 0.0) if tries else ROUND_S):
                tries = 0

    async def carry_out(self) -> bool:
        """Work on every request that is open; whether all are completed. Raises StorageError."""
        completed = True
        for request in await self._deletions.open():
            try:
                completed &= await self._erase(request)
            except (StorageError, ErasureInterruptedError):
                raise
            except Exception:  # noqa: BLE001 - the other requests must not wait for this one
                self._log.exception("deletion_failed", code=request.code)
                await self._deletions.waits(request.code, "error")
                completed = False
        return completed

    async def _erase(self, request: OpenDeletion) -> bool:
        account_id = request.account_id
        # What an earlier process, or an earlier try, has erased of it is not there to be counted any more.
        begun = request.waited or request.requested_at < self._started_at
        served = account_id in self._aliases.values()
        known = begun or served or await self._deletions.knows(account_id)
        ids = frozenset({account_id, *(alias for alias, one in self._aliases.items() if one == account_id)})
        erased = await self._eraser.erase(
            Subject(account_id, None, ids),
            rounds=ROUNDS,
            stopping=lambda: self._stopping,
            finally_too=partial(self._on_erased, account_id),
        )
        if erased.waits_for is not None:
            await self._deletions.waits(request.code, erased.waits_for)
            self._log.warning(
                "deletion_waits", code=request.code, waits_for=erased.waits_for, remedy=_REMEDIES[erased.waits_for]
            )
            return False
        outcome = None if known or erased.rows else DeletionOutcome.NOTHING_KEPT
        await self._deletions.complete(request.code, self._clock.now_ms(), outcome)
        self._log.info("deletion_completed", code=request.code, rows=erased.counts.total())
        await self._eraser.empty_journal(1)  # which has held the account's id until now
        return True
