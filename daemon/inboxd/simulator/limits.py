"""Meta's rate limit, simulated: a rolling window per account, and a block that each further call lengthens."""

import json
import time
from collections import deque
from collections.abc import Callable
from typing import Final

PENALTY: Final = 0.5
"""Each call made while throttled lengthens the block by this share of the window."""


class RateLimit:
    """Counts an account's calls in the last `window_s`; beyond `limit` everything is refused for a while."""

    def __init__(self, account_id: str, limit: int, window_s: float, now: Callable[[], float] = time.monotonic) -> None:
        self._account_id = account_id
        self._limit = limit
        self._window_s = window_s
        self._now = now
        self._calls: deque[float] = deque()
        self._blocked_until = 0.0
        self.violations = 0
        """Calls that were made although they are refused."""
        self.busiest = 0
        """The most calls in any window."""

    def admit(self) -> bool:
        """Count one more call. Returns whether it is answered."""
        now = self._now()
        while self._calls and now - self._calls[0] >= self._window_s:
            self._calls.popleft()
        self._calls.append(now)
        self.busiest = max(self.busiest, len(self._calls))
        if now < self._blocked_until:
            self.violations += 1
            self._blocked_until += PENALTY * self._window_s
            return False
        if len(self._calls) > self._limit:
            self.violations += 1
            self._blocked_until = now + self._window_s
            return False
        return True

    def headers(self) -> dict[str, str]:
        """The usage headers that go with an answer. Minutes are rounded up, as Meta's estimate is in whole ones."""
        percent = min(100, 100 * len(self._calls) // self._limit) if self._limit else 0
        remaining_s = max(0.0, self._blocked_until - self._now())
        usage = {
            "type": "instagram",
            "call_count": percent,
            "total_cputime": percent // 2,
            "total_time": percent // 2,
            "estimated_time_to_regain_access": -int(-remaining_s // 60),
        }
        return {"X-Business-Use-Case-Usage": json.dumps({self._account_id: [usage]})}
