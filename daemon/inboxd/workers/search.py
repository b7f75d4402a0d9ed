"""Keep the search index up to date, behind everything else."""

import asyncio
from collections.abc import Callable
from typing import Final

from inboxd import logs
from inboxd.clock import Clock
from inboxd.errors import StorageClosedError, StorageError
from inboxd.store.search import SearchIndex

ROUND_S: Final = 0.5
"""How long a message may wait until it is found, when nothing else is to be done."""
STEP: Final = 200
STEP_REST_S: Final = 0.01
STORAGE_REST_S: Final = 5.0


class SearchIndexer:
    """Indexes messages in small steps. `busy` says whether senders wait for the disk: then it lets them go first."""

    name = "search"

    def __init__(self, index: SearchIndex, clock: Clock, *, busy: Callable[[], bool]) -> None:
        self._index = index
        self._clock = clock
        self._busy = busy
        self._stopped = asyncio.Event()
        self._log = logs.get("search")

    def stop(self) -> None:
        """End `run`."""
        self._stopped.set()

    async def run(self) -> None:
        """Index what has arrived, until `stop`."""
        while not self._stopped.is_set():
            try:
                while not self._busy() and not self._stopped.is_set() and await self._index.behind():
                    await self._index.advance(STEP)
                    await self._clock.sleep(STEP_REST_S)
            except StorageClosedError:
                raise
            except StorageError as error:
                self._log.warning("search_waits_for_storage", error=str(error))
                await self._clock.sleep(STORAGE_REST_S)
            await self._clock.wait(self._stopped, ROUND_S)
