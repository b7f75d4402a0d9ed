"""The throttle that stops the sends of one account, and nothing else. It survives a restart."""

import asyncio

from inboxd.meta.budget import CallLog
from inboxd.meta.throttle import Throttle
from inboxd.runtime.clock import Clock


class SendsThrottle(Throttle):
    """Stops sends: Meta restricts the account, or only a person can resolve why it refuses."""

    def __init__(self, clock: Clock, call_log: CallLog, account_id: str) -> None:
        super().__init__(clock)
        self._call_log = call_log
        self._scope = f"sends:{account_id}"
        self._keeping = asyncio.Lock()
        self._kept: int | None = None
        """The strikes of the stop that is stored; None: none is."""

    async def load(self) -> None:
        """Continue a stop from before a restart. Raises StorageError."""
        stop = (await self._call_log.stops()).get(self._scope)
        if stop is not None:
            self.restore(stop)
            self._kept = stop.strikes

    async def keep(self) -> None:
        """Store the stop, or that there is none any more, if that is news. Raises StorageError."""
        async with self._keeping:  # it may end while it is being stored
            strikes = self.strikes or None
            if strikes != self._kept:
                await self._call_log.save_stop(self._scope, self.stop())
                self._kept = strikes
