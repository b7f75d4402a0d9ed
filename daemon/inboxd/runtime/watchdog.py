"""Signs of life for systemd: only while the event loop turns, the writer writes and work is being done."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from inboxd.runtime.clock import Clock
from inboxd.runtime.errors import StorageBusyError, StorageClosedError, StorageError
from inboxd.runtime.notify import Notifier

ROUND_S: Final = 10.0
PATIENCE_S: Final = 5.0
"""How long the writer may take for nothing at all."""


class Watchdog:
    """Tells the service manager how we are, and that we are. `describe` is one line for `systemctl status`.

    While `stalled` says that work arrives and is not done, there is no sign of life: a fresh start is the remedy.
    """

    name = "watchdog"

    def __init__(
        self,
        notifier: Notifier,
        probe: Callable[[], Awaitable[None]],
        clock: Clock,
        describe: Callable[[], str],
        *,
        stalled: Callable[[], bool] = lambda: False,
    ) -> None:
        self._notifier = notifier
        self._probe = probe
        self._clock = clock
        self._describe = describe
        self._stalled = stalled
        self._round_s = ROUND_S if notifier.watchdog_s is None else min(ROUND_S, notifier.watchdog_s / 3)
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """End `run`."""
        self._stopped.set()

    async def run(self) -> None:
        """A sign of life every few seconds, until `stop`."""
        while not self._stopped.is_set():
            if await self._writer_lives() and not self._stalled():
                self._notifier.send(WATCHDOG="1", STATUS=self._describe())
            await self._clock.wait(self._stopped, self._round_s)

    async def _writer_lives(self) -> bool:
        """Whether the writer answers; a disk that refuses is an answer too."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._probe()
        except StorageClosedError:
            raise
        except (TimeoutError, StorageBusyError):
            return False
        except StorageError:
            return True
        return True
