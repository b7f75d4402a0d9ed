"""How many Graph API calls an account may still make now."""

from collections import deque
from typing import Final

from aiolimiter import AsyncLimiter

from inboxd.clock import Clock

HOUR_S: Final = 3600.0


class Budget:
    """One account's allowance: a pace (calls a second) and a ceiling (calls in any window of one hour).

    `acquire` waits until one more call is allowed. Every attempt pays, also the ones that will fail.
    """

    def __init__(self, clock: Clock, *, calls_per_hour: int, calls_per_second: float) -> None:
        self._clock = clock
        self._allowance = calls_per_hour
        self._pace = AsyncLimiter(1, 1 / calls_per_second)
        self._calls: deque[float] = deque()

    async def acquire(self) -> None:
        """Wait until a call is allowed, and count it."""
        while (wait_s := self._wait_s()) > 0:
            await self._clock.sleep(wait_s)
        self._calls.append(self._clock.monotonic())
        await self._pace.acquire()

    def _wait_s(self) -> float:
        now = self._clock.monotonic()
        while self._calls and now - self._calls[0] >= HOUR_S:
            self._calls.popleft()
        if len(self._calls) < self._allowance:
            return 0.0
        return HOUR_S - (now - self._calls[0])
