"""Keep the search index up to date, behind everything else."""

import asyncio
from collections.abc import Callable
from typing import Final

from inboxd.conversations.ingest import RUSH
from inboxd.conversations.search_store import SearchIndex
from inboxd.runtime import logs
from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import StorageClosedError, StorageError

ROUND_S: Final = 0.5
"""How long a message may wait until it is found, when nothing else is to be done."""
STEP: Final = 200
SMALL_STEP: Final = 20
"""Messages indexed in one transaction, while nobody and while somebody waits for the disk. In a rush there are none."""
STEP_REST_S: Final = 0.01
STORAGE_REST_S: Final = 5.0


class SearchIndexer:
    """Indexes messages in steps. `waiting` says how many senders wait for the disk on average: they go first."""

    name = "search"

    def __init__(self, index: SearchIndex, clock: Clock, *, waiting: Callable[[], float]) -> None:
        self._index = index
        self._clock = clock
        self._waiting = waiting
        self._stopped = asyncio.Event()
        self._log = logs.get("search")

    def stop(self) -> None:
        """End `run`."""
        self._stopped.set()

    async def run(self) -> None:
        """Index what has arrived, until `stop`."""
        while not self._stopped.is_set():
            try:
                while self._waiting() < RUSH and not self._stopped.is_set() and await self._index.behind():
                    await self._index.advance(SMALL_STEP if self._waiting() else STEP)
                    await self._clock.sleep(STEP_REST_S)
            except StorageClosedError:
                raise
            except StorageError as error:
                self._log.warning("search_waits_for_storage", error=str(error))
                await self._clock.sleep(STORAGE_REST_S)
            await self._clock.wait(self._stopped, ROUND_S)
