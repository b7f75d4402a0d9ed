"""Exponential back-off: how long to wait before another try."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off: `base_s * 2**(attempt-1)`, capped, plus up to `jitter` of itself."""

    base_s: float = 1.0
    cap_s: float = 30.0
    jitter: float = 0.3

    def delay_s(self, attempt: int, random: Callable[[], float]) -> float:
        """Seconds to wait after failed attempt number `attempt` (from 1); `random` gives [0, 1)."""
        exponent = min(attempt - 1, 32)
        delay = min(self.base_s * 2.0**exponent, self.cap_s)
        return float(delay * (1 + self.jitter * random()))
