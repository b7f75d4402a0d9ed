"""Removing rows that are older than they are kept, and giving free space back to the disk."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol

from inboxd.domain.clock_trust import ClockTrust
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock, iso_utc
from inboxd.runtime.errors import StorageClosedError, StorageError
from inboxd.runtime.worker import Wakeup
from inboxd.storage import free_space
from inboxd.storage.database import Database
from inboxd.storage.personal_data import Expiry

ROUND_S: Final = 60.0
STEP: Final = 200
"""Rows removed in one transaction, so that a webhook never waits long for one."""
STEP_REST_S: Final = 0.05
DAY_MS: Final = 86_400_000
_KNOWN: Final = "housekeeping"
"""The name under which the time is stored at which the clock was last trusted."""
SHRINK_PAGES: Final = 128
TOO_FREE: Final = 0.10
"""Share of the file that may be free before it is shrunk…"""
FREE_ENOUGH: Final = 0.05
"""…to this: some room is kept, since new rows take it."""


class Moments(Protocol):
    """Named moments that outlive a restart."""

    async def at(self, name: str) -> int | None:
        """The moment of this name (ms)."""

    async def set(self, name: str, at: int) -> None:
        """Store the moment of this name (ms)."""


class RetentionWorker:
    """Removes what the features declare as expired, and shrinks the database file.

    `newest_message_at` is the time of the newest message by Meta's clock (ms). `busy`: senders wait for the disk;
    nothing is removed while that is so.
    """

    name = "housekeeping"

    def __init__(
        self,
        database: Database,
        expiries: Sequence[Expiry],
        moments: Moments,
        clock: Clock,
        *,
        newest_message_at: Callable[[], Awaitable[int | None]],
        busy: Callable[[], bool] = lambda: False,
    ) -> None:
        self.wakeup = Wakeup()
        self._database = database
        self._expiries = tuple(expiries)
        self._moments = moments
        self._trust: ClockTrust | None = None
        self._clock = clock
        self._newest_message_at = newest_message_at
        self._busy = busy
        self._looked_to: dict[str, int] = {}
        self._log = logs.get("housekeeping")

    async def poll(self) -> float:
        """One round. It does nothing while the disk refuses: StorageProbe finds out when that ends.

        Raises StorageClosedError.
        """
        if self._database.refusal is None:
            try:
                if await self.clock_is_trusted():
                    await self.expire()
                await self.shrink()
            except StorageClosedError:  # the writer has ended: crash, so that the supervisor sees it
                raise
            except StorageError as error:
                self._log.error("storage_refuses", error=str(error))
        return ROUND_S

    async def clock_is_trusted(self) -> bool:
        """Whether the wall clock can be trusted: nothing is removed by a clock that has jumped."""
        if self._trust is None:
            self._trust = ClockTrust(await self._moments.at(_KNOWN))
        trust, now = self._trust, self._clock.now_ms()
        known_at, doubted = trust.known_at, trust.doubted
        if trust.look(now, self._clock.monotonic(), await self._newest_message_at()):
            if doubted:
                self._log.info("clock_trusted", now=iso_utc(now))
            await self._moments.set(_KNOWN, now)
            return True
        if not doubted:
            known = None if known_at is None else iso_utc(known_at)
            self._log.error("clock_doubted", now=iso_utc(now), known=known, remedy="see to the clock of the machine")
        return False

    async def expire(self) -> dict[str, int]:
        """Remove what is older than it is kept; what of how many. Raises StorageError."""
        counts = {one.name: await self._expire_safely(one, days) for one in self._expiries if (days := one.days())}
        removed = {name: count for name, count in counts.items() if count}
        if removed:
            self._log.info("expired", **removed)
        return removed

    async def shrink(self) -> None:
        """Give free pages back to the disk when there are too many of them. Raises StorageError."""
        pages = await free_space.pages(self._database)
        if pages.free <= max(SHRINK_PAGES, pages.total * TOO_FREE):
            return
        before = pages
        while pages.free > max(SHRINK_PAGES, pages.total * FREE_ENOUGH) and await self._may_go_on():
            await free_space.shrink(self._database, SHRINK_PAGES)
            pages = await free_space.pages(self._database)
        self._log.info("database_shrunk", pages_before=before.total, pages=pages.total)

    async def _expire_safely(self, expiry: Expiry, days: int) -> int:
        """An error with one kind of rows does not keep the others."""
        try:
            return await self._expire(expiry, days)
        except StorageError:
            raise
        except Exception:  # noqa: BLE001 - it is tried again in the next round
            self._log.exception("expiry_failed", kind=expiry.name)
            return 0

    async def _expire(self, expiry: Expiry, days: int) -> int:
        """Go step by step from the first row until a step finds nothing old, then from where the last round ended.

        In time that reaches all rows: old ones may stand behind newer ones, if the clock was once ahead.
        """
        removed, before = 0, self._clock.now_ms() - days * DAY_MS
        for after in (0, self._looked_to.get(expiry.name, 0)):
            while (step := await expiry.remove(before, after, STEP)).rows:
                removed += step.rows
                if not await self._may_go_on():
                    return removed
            self._looked_to[expiry.name] = step.last_id or 0
        return removed

    async def _may_go_on(self) -> bool:
        """Rest, so that webhooks are stored; whether to go on afterwards."""
        await self._clock.sleep(STEP_REST_S)
        while self._busy() and not self.wakeup.stopping:
            await self._clock.sleep(STEP_REST_S)
        return not self.wakeup.stopping
