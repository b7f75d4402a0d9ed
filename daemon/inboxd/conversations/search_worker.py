"""The worker that keeps the search index of messages up to date, behind everything else."""

from collections.abc import Callable
from typing import Final

from inboxd.conversations.pacing import RUSH
from inboxd.conversations.search_store import SearchIndexStore
from inboxd.runtime import logs
from inboxd.runtime.worker import Schedule, Wakeup, each

ROUND_S: Final = 0.5
"""Seconds between two looks for new messages."""
STEP: Final = 200
SMALL_STEP: Final = 20
"""Messages indexed in one transaction: STEP while no sender waits for the disk, SMALL_STEP while one does. In a rush
none are."""
STEP_REST_S: Final = 0.01
SCHEDULE: Final = Schedule(storage_event="search_waits_for_storage", storage_rest_s=5)


class SearchIndexWorker:
    """Indexes messages in steps. `waiting` says how many senders wait for the disk on average: they go first.

    A message that cannot be indexed is set aside: a search does not find it, and finds all others.
    """

    name = "search"

    def __init__(self, index: SearchIndexStore, *, waiting: Callable[[], float]) -> None:
        self.wakeup = Wakeup()
        self._index = index
        self._waiting = waiting
        self._log = logs.get("search")

    async def poll(self) -> float:
        """Index one step of what has arrived. Raises StorageError."""
        if self._waiting() >= RUSH or not await self._index.behind():
            return ROUND_S
        step = SMALL_STEP if self._waiting() else STEP
        await each([step], self._index.advance, self._one_by_one)
        return STEP_REST_S

    async def _one_by_one(self, step: int, _error: Exception) -> None:
        """Index the messages of a step that has failed one by one, to set aside only those that cannot be indexed."""
        await each(await self._index.next_ids(step), self._index.add, self._set_aside)

    async def _set_aside(self, message_id: int, error: Exception) -> None:
        await self._index.skip(message_id)
        self._log.error("search_message_set_aside", message_id=message_id, exc_info=error)
