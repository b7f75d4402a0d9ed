"""The worker that makes threads of the comments that arrived before the upgrade, behind everything else."""

from collections.abc import Callable
from typing import Final

from inboxd.comments.earlier_store import EarlierEvent, EarlierStore
from inboxd.conversations.pacing import RUSH
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock
from inboxd.runtime.worker import Schedule, Wakeup, each

STEP: Final = 50
"""Webhook events taken over in one transaction."""
STEP_REST_S: Final = 0.05
RUSH_REST_S: Final = 0.5
SCHEDULE: Final = Schedule(storage_event="comments_wait_for_storage", storage_rest_s=5)


class EarlierComments:
    """Takes earlier comments over in steps, and ends. `waiting` says how many senders wait for the disk on average."""

    name = "earlier-comments"

    def __init__(self, earlier: EarlierStore, clock: Clock, *, waiting: Callable[[], float]) -> None:
        self.wakeup = Wakeup()
        self._earlier = earlier
        self._clock = clock
        self._waiting = waiting
        self._log = logs.get("comments")

    async def poll(self) -> float | None:
        """One step. Raises StorageError."""
        if self._waiting() >= RUSH:
            return RUSH_REST_S
        found = await self._earlier.next(STEP)
        if not found:
            return None
        await each([found], self._take, self._one_by_one)
        return STEP_REST_S

    async def _take(self, events: list[EarlierEvent]) -> None:
        await self._earlier.take(events, self._clock.now_ms())

    async def _one_by_one(self, events: list[EarlierEvent], _error: Exception) -> None:
        await each([[one] for one in events], self._take, self._set_aside)

    async def _set_aside(self, events: list[EarlierEvent], error: Exception) -> None:
        await self._earlier.passed(events[0].id)
        self._log.error("comment_set_aside", webhook_event_id=events[0].id, exc_info=error)
