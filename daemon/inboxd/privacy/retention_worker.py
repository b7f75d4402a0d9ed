"""Housekeeping: keeps the disk bounded, and looks after a disk that refused."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, NamedTuple

from inboxd.domain.clock_trust import ClockTrust
from inboxd.privacy.deletion_store import DeletionStore
from inboxd.privacy.retention_store import ExpiredRows, RetentionStore
from inboxd.runs.backfill.store import BackfillStore
from inboxd.runs.moments_store import MomentStore
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock, iso_utc
from inboxd.runtime.errors import StorageClosedError, StorageError
from inboxd.storage.database import Database

ROUND_S: Final = 5.0
EXPIRE_EVERY_ROUNDS: Final = 12
STEP: Final = 200
"""Rows removed in one transaction, so that a webhook never waits long for one."""
STEP_REST_S: Final = 0.05
DAY_MS: Final = 86_400_000
KEEP_RECEIPTS_DAYS: Final = 730
_KNOWN: Final = "housekeeping"
"""The name in `schedules` under which it is kept where the clock stood when it was last believed."""
SHRINK_PAGES: Final = 128
TOO_FREE: Final = 0.10
"""Share of the file that may be free before it is shrunk…"""
FREE_ENOUGH: Final = 0.05
"""…to this: some room is kept, since what comes next takes it."""


_Remove = Callable[[int, int, int], Awaitable[ExpiredRows]]


class Keep(NamedTuple):
    """For how many days things are kept; 0 is for ever."""

    deliveries: int
    failed: int
    events: int
    messages: int
    runs: int


class RetentionWorker:
    """Removes what is older than it is kept, gives room back to the disk, and probes a disk that refused a write.

    `busy` says whether senders wait for the disk: then nothing is removed until they have gone.
    """

    name = "housekeeping"

    def __init__(
        self,
        database: Database,
        backfills: BackfillStore,
        clock: Clock,
        keep: Keep,
        *,
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self._database = database
        self._backfills = backfills
        self._moments = MomentStore(database)
        self._retention = RetentionStore(database)
        self._deletions = DeletionStore(database)
        self._trust: ClockTrust | None = None
        self._clock = clock
        self.keep = keep
        self._busy = busy
        self._looked_to: dict[str, int] = {}
        self._stopped = asyncio.Event()
        self._log = logs.get("housekeeping")

    def stop(self) -> None:
        """End `run`."""
        self._stopped.set()

    async def run(self) -> None:
        """One round every few seconds, until `stop`."""
        rounds = 0
        while not self._stopped.is_set():
            try:
                if self._database.refusal is not None:
                    await self._database.probe()
                    self._log.info("storage_recovered")
                if rounds % EXPIRE_EVERY_ROUNDS == 0:
                    if await self.clock_is_trusted():
                        await self.expire()
                    await self.shrink()
            except StorageClosedError:  # the writer is gone for good: crash, so that the supervisor ends the process
                raise
            except StorageError as error:
                self._log.error("storage_refuses", error=str(error))
            rounds += 1
            await self._clock.wait(self._stopped, ROUND_S)

    async def clock_is_trusted(self) -> bool:
        """Whether the wall clock may be believed: nothing is removed by a clock that has jumped."""
        if self._trust is None:
            self._trust = ClockTrust(await self._moments.at(_KNOWN))
        trust, now = self._trust, self._clock.now_ms()
        known_at, doubted = trust.known_at, trust.doubted
        if trust.look(now, self._clock.monotonic(), await self._retention.heard_at()):
            if doubted:
                self._log.info("clock_trusted", now=iso_utc(now))
            await self._moments.set(_KNOWN, now)
            return True
        if not doubted:
            known = None if known_at is None else iso_utc(known_at)
            self._log.error("clock_doubted", now=iso_utc(now), known=known, remedy="see to the clock of the machine")
        return False

    async def expire(self) -> dict[str, int]:
        """Remove what is older than it is kept; how many of what."""
        kept = self.keep
        ends: dict[str, tuple[int, _Remove]] = {
            "deliveries": (kept.deliveries, partial(self._retention.deliveries, "done")),
            "failed_deliveries": (kept.failed, partial(self._retention.deliveries, "failed")),
            "events": (kept.events, self._retention.events),
            "early_changes": (kept.events, self._retention.early_changes),
            "messages": (kept.messages, self._messages),
            "backfill_runs": (kept.runs, self._runs),
            "deletion_receipts": (KEEP_RECEIPTS_DAYS, self._receipts),
        }
        counts = {name: await self._expire_safely(name, days, remove) for name, (days, remove) in ends.items() if days}
        removed = {name: count for name, count in counts.items() if count}
        if removed:
            self._log.info("expired", **removed)
        return removed

    async def shrink(self) -> None:
        """Give free pages back to the disk when there are too many of them."""
        room = await self._retention.room()
        if room.free <= max(SHRINK_PAGES, room.pages * TOO_FREE):
            return
        began = room
        while room.free > max(SHRINK_PAGES, room.pages * FREE_ENOUGH) and await self._may_go_on():
            await self._retention.shrink(SHRINK_PAGES)
            room = await self._retention.room()
        self._log.info("database_shrunk", pages_before=began.pages, pages=room.pages)

    async def _expire_safely(self, name: str, days: int, remove: _Remove) -> int:
        """Trouble with one kind of things keeps no other."""
        try:
            return await self._expire(name, days, remove)
        except StorageError:
            raise
        except Exception:  # noqa: BLE001 - it is tried again in the next round
            self._log.exception("expiry_failed", kind=name)
            return 0

    async def _expire(self, name: str, days: int, remove: _Remove) -> int:
        """Step by step from the first row, until a step finds nothing old; then from where the last round ended.

        That goes through all rows in time: some may stand behind newer ones, if the clock once ran ahead.
        """
        removed, before = 0, self._clock.now_ms() - days * DAY_MS
        for after in (0, self._looked_to.get(name, 0)):
            while (step := await remove(before, after, STEP)).rows:
                removed += step.rows
                if not await self._may_go_on():
                    return removed
            self._looked_to[name] = step.last_id or 0
        return removed

    async def _messages(self, before: int, after: int, step: int) -> ExpiredRows:
        return await self._retention.messages(before, after, step, self._clock.now_ms())

    async def _runs(self, before: int, _after: int, step: int) -> ExpiredRows:
        return ExpiredRows(await self._backfills.expire(before, step), None)

    async def _receipts(self, before: int, _after: int, _step: int) -> ExpiredRows:
        return ExpiredRows(await self._deletions.expire(before), None)

    async def _may_go_on(self) -> bool:
        """Rest, so that webhooks pass; whether to go on afterwards."""
        await self._clock.sleep(STEP_REST_S)
        while self._busy() and not self._stopped.is_set():
            await self._clock.sleep(STEP_REST_S)
        return not self._stopped.is_set()
