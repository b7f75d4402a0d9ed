"""Carrying out the deletions that owners of accounts asked Meta for, in steps that no webhook has to wait for."""

from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final

from inboxd.privacy.account_eraser import AccountEraser, ErasureInterruptedError
from inboxd.privacy.deletion_store import DeletionOutcome, DeletionStore, OpenDeletion
from inboxd.runtime import logs
from inboxd.runtime.backoff import Backoff
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import StorageError
from inboxd.runtime.worker import Schedule, Wakeup
from inboxd.storage.personal_data import Subject

ROUND_S: Final = 3600.0
_AGAIN: Final = Backoff(base_s=30, cap_s=ROUND_S, jitter=0)
"""The delay before a deletion that could not be completed is tried again: each try reads all deliveries."""
SCHEDULE: Final = Schedule(storage_event="deletion_waits_for_storage", storage_rest_s=5)
ROUNDS: Final = 10
_REMEDIES: Final = {
    "deliveries": "deliveries that name the account wait to be processed: look at what is pending",
    "files": "a picture file could not be removed: see avatar_not_removed",
    "journal": "another program reads the database all the time: stop it for a minute (Litestream, a shell)",
}


class DeletionWorker:
    """Erases accounts. `aliases` maps webhook ids to accounts; `on_erased` is called when the rows are gone.

    A request is completed when nothing is left, not even in the journal. Until then it is tried again, also after a
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
        self.wakeup = Wakeup()
        self._tries = 0
        """How often in a row something could not be completed."""
        self._notified = self.wakeup.next
        self._log = logs.get("deletion")

    async def poll(self) -> float:
        """Work on every open request. Raises StorageError.

        What could not be completed is tried again after a growing delay, and soon when somebody notifies.
        """
        if self._notified.is_set():
            self._tries = 0
        self._notified = self.wakeup.next
        try:
            self._tries = 0 if await self.carry_out() else self._tries + 1
        except ErasureInterruptedError:
            return 0  # told to stop: what is left is done after the next start
        return _AGAIN.delay_s(self._tries, lambda: 0.0) if self._tries else ROUND_S

    async def carry_out(self) -> bool:
        """Work on every open request; whether all are completed. Raises StorageError, ErasureInterruptedError."""
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
        # Rows that an earlier process, or an earlier try, has erased cannot be counted any more.
        begun = request.waited or request.requested_at < self._started_at
        served = account_id in self._aliases.values()
        known = begun or served or await self._deletions.knows(account_id)
        ids = frozenset({account_id, *(alias for alias, one in self._aliases.items() if one == account_id)})
        erased = await self._eraser.erase(
            Subject(account_id, None, ids),
            rounds=ROUNDS,
            stopping=lambda: self.wakeup.stopping,
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
        await self._eraser.empty_journal(1)  # it has held the account's id until now
        return True
