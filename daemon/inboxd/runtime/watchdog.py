"""Signs of life for systemd: only while the event loop turns, the writer writes and work is being done."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from inboxd.runtime.errors import StorageBusyError, StorageClosedError, StorageError
from inboxd.runtime.notify import Notifier
from inboxd.runtime.worker import Wakeup

ROUND_S: Final = 10.0
PATIENCE_S: Final = 5.0
"""How long the writer may take for nothing at all."""


class Watchdog:
    """Tells the service manager every few seconds that we live, and how we are.

    `probe` asks the writer to do nothing. `describe` is one line for `systemctl status`. While `stalled` says that work
    arrives and is not done, there is no sign of life, so that systemd starts the daemon afresh.
    """

    name = "watchdog"

    def __init__(
        self,
        notifier: Notifier,
        probe: Callable[[], Awaitable[None]],
        describe: Callable[[], str],
        *,
        stalled: Callable[[], bool] = lambda: False,
    ) -> None:
        self.wakeup = Wakeup()
        self._notifier = notifier
        self._probe = probe
        self._describe = describe
        self._stalled = stalled
        self._round_s = ROUND_S if notifier.watchdog_s is None else min(ROUND_S, notifier.watchdog_s / 3)

    async def poll(self) -> float:
        """A sign of life, if there is one. Raises StorageClosedError when the writer is gone for good."""
        if await self._writer_lives() and not self._stalled():
            self._notifier.send(WATCHDOG="1", STATUS=self._describe())
        return self._round_s

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
